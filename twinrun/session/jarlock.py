"""Read jars.lock: which jars twinrun needs, and what each must hash to.

The file is package data, so that a wheel and a zip carry it; ``jars.lock`` at the top of the repository is
a link to it. A line is ``group:artifact:version sha256 size``; a line ``[name]`` starts a set.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from twinrun.errors import InputError

LOCK_FILE = "jars.lock"


@dataclass(frozen=True)
class LockedJar:
    """One jar of the lock: ``group``, ``artifact``, ``version``, ``sha256`` (hex) and ``size`` in bytes."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int

    @property
    def coordinate(self) -> str:
        """``group:artifact:version``."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def short_name(self) -> str:
        """The file name that repositories use."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def file_name(self) -> str:
        """The file name in the cache; it keeps the group, so that two artifacts never share a name."""
        return f"{self.group}_{self.short_name}"


@dataclass(frozen=True)
class JarSet:
    """The jars of one set and the SHA-256 over their lines, which names this exact set."""

    name: str
    jars: tuple[LockedJar, ...]
    digest: str


def read_lock(text: str) -> dict[str, JarSet]:
    """Parse the text of a lock file.

    Parameters
    ----------
    text : str
        The whole file. Empty lines and lines that start with ``#`` are passed over.

    Returns
    -------
    dict of str to JarSet
        By set name, in file order.

    Raises
    ------
    InputError
        A line cannot be read.
    """
    sets: dict[str, list[LockedJar]] = {}
    current = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            current = line[1:-1].strip()
            sets[current] = []
        else:
            jar = _parse_line(line)
            if jar is None or not current:
                raise InputError(
                    f"{LOCK_FILE} line {number} cannot be read: {line[:80]!r}.",
                    expected="[set], then lines of group:artifact:version sha256 size",
                )
            sets[current].append(jar)
    return {name: JarSet(name, tuple(jars), _digest(jars)) for name, jars in sets.items()}


def locked_set(name: str) -> JarSet:
    """The set called ``name`` of the lock file that this installation carries.

    Raises
    ------
    InputError
        There is no such set.
    """
    text = resources.files("twinrun.session").joinpath(LOCK_FILE).read_text(encoding="utf-8")
    sets = read_lock(text)
    if name not in sets:
        raise InputError(f"There is no set of jars called {name!r}.", expected=" or ".join(sets))
    return sets[name]


def _parse_line(line: str) -> LockedJar | None:
    parts = line.split()
    names = parts[0].split(":")
    if len(parts) != 3 or len(names) != 3 or len(parts[1]) != 64 or not parts[2].isdigit():
        return None
    return LockedJar(names[0], names[1], names[2], parts[1].lower(), int(parts[2]))


def _digest(jars: list[LockedJar]) -> str:
    lines = sorted(f"{jar.coordinate} {jar.sha256} {jar.size}" for jar in jars)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
