"""What counts as a secret, how it is referred to, and how it is kept out of everything that people read.

A configuration holds only the reference (``${env:NAME}`` or ``file:/path``). The value is read at the moment
it is handed to a client, so that no repr, dump, log or error can contain it.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from twinrun.errors import ConfigError

REDACTED = "(redacted)"

_SECRET_KEY = re.compile(
    r"secret|passw|passphrase|pwd|token|credential|jaas|private|user[._]info|[._]sas[._]"
    r"|(?:access|api|account|keystore|encryption|shared)[._-]?key(?!store)|[.]key(?:$|[.]pem|[.]value)",
    re.IGNORECASE,
)
# Options whose name has a secret word in it, but whose value only says where or how.
_PLAIN_KEY = re.compile(
    r"[._](?:location|url|uri|type|class|ms|seconds?|file|path|dir|source|algorithm|provider|mechanism"
    r"|serializer|deserializer|enabled?|endpoint|name)$",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}|file:(\S.*)")
_WORDS = r"(?:password|passwd|passphrase|secret(?:key)?|clientsecret|token|api[._-]?key|access[._-]?key)"
_ASSIGNED = re.compile(rf"({_WORDS}\w*[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(://[^/@\s:]*:)[^/@\s]+(?=@)")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def is_secret_key(key: str) -> bool:
    """Whether the value of an option with this name must never be seen."""
    return bool(_SECRET_KEY.search(key)) and not _PLAIN_KEY.search(key)


def is_reference(text: str) -> bool:
    """Whether a text is a whole ``${env:NAME}`` or ``file:/path`` reference."""
    return bool(_REFERENCE.fullmatch(text))


def holds_secret(text: str) -> bool:
    """Whether a text carries a secret by its look: ``password=``, ``user:word@host`` or a private key."""
    return any(pattern.search(text) for pattern in (_ASSIGNED, _IN_ADDRESS, _PRIVATE_KEY))


def needs_reference(key: str, value: str) -> bool:
    """Whether an option is secret, by its name or by its value, and therefore must be a reference."""
    return is_secret_key(key) or holds_secret(value)


def read_secret(reference: str, key: str, env: Mapping[str, str], root: Path) -> str:
    """Return the value behind a reference.

    Parameters
    ----------
    reference : str
        ``${env:NAME}`` or ``file:/path``; a relative path starts at ``root``.
    key : str
        The dotted key, for messages.
    env : mapping of str to str
        The environment to read.
    root : Path
        The project's folder.

    Raises
    ------
    ConfigError
        The variable or file is absent or empty, or every user of the machine can read the file. The message
        names the reference, never the value.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(
            f"{key} holds a secret as plain text", expected="${env:NAME} or file:/path", fix="use a reference"
        )
    if match[1]:
        value = env.get(match[1], "")
        if not value:
            raise ConfigError(
                f"{key} needs the environment variable {match[1]}, which is not set or empty",
                fix=f"export {match[1]}=...",
            )
        return value
    return _read_file(root / Path(match[2]).expanduser(), key)


def _read_file(path: Path, key: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & stat.S_IROTH:
                raise ConfigError(
                    f"{key}: every user of this machine can read the secret file {path} (mode {mode:03o})",
                    expected="a file that only its owner can read",
                    fix=f"chmod 600 {path}",
                )
            value = file.read().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{key}: the secret file {path} cannot be read ({reason})") from None
    if not value:
        raise ConfigError(f"{key}: the secret file {path} is empty")
    return value


def redact(mapping: Mapping[str, object]) -> dict[str, object]:
    """A copy of a mapping in which secret values are masked, at any depth.

    References stay, since they name a place and not a value.
    """
    return {str(key): _redacted_value(str(key), value) for key, value in mapping.items()}


def _redacted_value(key: str, value: object) -> object:
    if isinstance(value, Mapping):
        return redact(value)
    if isinstance(value, list | tuple):
        return [_redacted_value(key, item) for item in value]
    if isinstance(value, str):
        if is_reference(value):
            return value
        return REDACTED if value and needs_reference(key, value) else value
    return REDACTED if is_secret_key(key) and isinstance(value, bytes | int | float) else value


def redact_text(text: str, secrets: Iterable[str] = ()) -> str:
    """A text in which the given secrets, and what looks like one, are masked.

    Parameters
    ----------
    text : str
        A log line, an error message, a report.
    secrets : iterable of str
        Resolved values, as ``Config.secret_values()`` returns them; masked also where JSON, a JAAS text or an
        address has escaped them.
    """
    spellings = {form for secret in secrets if secret for form in _spellings(secret)}
    for form in sorted(spellings, key=len, reverse=True):
        text = text.replace(form, REDACTED)
    text = _PRIVATE_KEY.sub(REDACTED, text)
    text = _ASSIGNED.sub(lambda match: match[1] + REDACTED, text)
    return _IN_ADDRESS.sub(lambda match: match[1] + REDACTED, text)


def _spellings(secret: str) -> set[str]:
    return {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret, safe="")}
