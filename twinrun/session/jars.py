"""The jars that pyspark lacks: fetched once, verified by SHA-256, then used from a per-user cache only.

Run ``python -m twinrun.session.jars`` to fetch both sets.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

from twinrun.errors import InputError, MachineError, TwinrunError
from twinrun.session.java import JavaHome, find_java
from twinrun.session.settings import cache_dir
from twinrun.session.trust import trust_options

# Download exactly the jars of a lock with the Ivy that pyspark ships; no Maven is needed.
#
# Each jar is asked for by name, without its POM and its dependencies: the lock already lists them all, and so
# one request per jar is enough. The address of Maven Central is Ivy's own default.


MIRROR_VARIABLE = "TWINRUN_MAVEN_MIRROR"
_ATTEMPTS = 3
_LIMIT_S = 900
_REPORT_EVERY = 10
_FIX = (
    f"check the network and run it again, set {MIRROR_VARIABLE} to the address of a mirror, "
    "or copy the jars to a folder and run: python -m twinrun.session.jars --from-dir FOLDER"
)


def download(jars: Sequence[LockedJar], into: Path, java: JavaHome, progress: Callable[[str], None]) -> None:
    """Download ``jars`` to the folder ``into`` under their cache names; nothing is verified by SHA-256 here.

    Raises
    ------
    MachineError
        Some jar is still missing after three attempts. What was downloaded stays in ``into``.
    """
    with tempfile.TemporaryDirectory(prefix="ivy-", dir=into) as work:
        options = _proxy_options()
        for attempt in range(_ATTEMPTS):
            missing = _missing(jars, into)
            if not missing:
                return
            if attempt == 1:
                options += trust_options(Path(work))
            _run_ivy(missing, into, Path(work), [str(java.binary), *options], progress)
    missing = _missing(jars, into)
    if missing:
        raise MachineError(
            f"{len(missing)} of {len(jars)} jars could not be downloaded, first {missing[0].coordinate}.", fix=_FIX
        )


def _missing(jars: Sequence[LockedJar], folder: Path) -> list[LockedJar]:
    return [jar for jar in jars if not (folder / jar.file_name).exists()]


def _run_ivy(
    jars: Sequence[LockedJar], into: Path, work: Path, java: list[str], progress: Callable[[str], None]
) -> None:
    (work / "settings.xml").write_text(_settings_xml(work / "cache"), encoding="utf-8")
    (work / "ivy.xml").write_text(_module_xml(jars), encoding="utf-8")
    pattern = f"{into}/[organisation]_[artifact]-[revision].[ext]"
    command = [*java, f"-Divy.default.ivy.user.dir={work}", "-jar", str(_ivy_jar())]
    command += ["-settings", str(work / "settings.xml"), "-ivy", str(work / "ivy.xml")]
    command += ["-confs", "default", "-retrieve", pattern, "-types", "jar", "bundle"]
    done = 0
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            for line in process.stdout or ():
                if "[SUCCESSFUL ]" in line:
                    done += 1
                    if done % _REPORT_EVERY == 0:
                        progress(f"{done} of {len(jars)} jars")
            process.wait(timeout=_LIMIT_S)
        finally:
            process.kill()


def _ivy_jar() -> Path:
    import pyspark

    folder = Path(pyspark.__file__).parent / "jars"
    found = sorted(folder.glob("ivy-*.jar"))
    if not found:
        raise MachineError("pyspark has no Ivy jar.", expected=f"ivy-*.jar in {folder}", fix="install pyspark again")
    return found[-1]


def _settings_xml(cache: Path) -> str:
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    root = f" root={quoteattr(mirror.rstrip('/') + '/')}" if mirror else ""
    return (
        '<ivysettings><settings defaultResolver="central"/>'
        f"<caches defaultCacheDir={quoteattr(str(cache))}/>"
        f'<resolvers><ibiblio name="central" m2compatible="true" usepoms="false" '
        f'useMavenMetadata="false" checksums="sha1"{root}/></resolvers></ivysettings>\n'
    )


def _module_xml(jars: Sequence[LockedJar]) -> str:
    wanted = "".join(
        f"<dependency org={quoteattr(jar.group)} name={quoteattr(jar.artifact)} rev={quoteattr(jar.version)} "
        'transitive="false" conf="default->default"/>'
        for jar in jars
    )
    return (
        '<ivy-module version="2.0"><info organisation="twinrun" module="jars"/>'
        f'<configurations><conf name="default"/></configurations><dependencies>{wanted}</dependencies>'
        "</ivy-module>\n"
    )


def _proxy_options() -> list[str]:
    """Java does not read the proxy variables that every other tool reads."""
    options = []
    for scheme in ("http", "https"):
        value = os.environ.get(f"{scheme}_proxy") or os.environ.get(f"{scheme.upper()}_PROXY") or ""
        address = urlsplit(value if "//" in value else f"//{value}")
        if address.hostname:
            options += [f"-D{scheme}.proxyHost={address.hostname}", f"-D{scheme}.proxyPort={address.port or 3128}"]
    return options


# Read jars.lock: which jars twinrun needs, and what each must hash to.
#
# The file is package data, so that a wheel and a zip carry it; ``jars.lock`` at the top of the repository is
# a link to it. A line is ``group:artifact:version sha256 size``; a line ``[name]`` starts a set.


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


SET_NAMES = ("spark", "broker")
STAMP = "verified.sha256"
FETCH_COMMAND = "python -m twinrun.session.jars"


def fetch_jars(
    set_name: str, *, progress: Callable[[str], None] | None = None, from_dir: Path | None = None
) -> list[Path]:
    """Make the jars of a set available; no network is touched when they already are.

    Parameters
    ----------
    set_name : str
        ``spark`` (Delta and the Kafka connector) or ``broker`` (the development broker).
    progress : callable, optional
        Called with a short text now and then while downloading.
    from_dir : Path, optional
        Take the jars from this folder instead of the network (air-gapped sites). Files are named
        ``artifact-version.jar``, as repositories name them, or as in the cache.

    Returns
    -------
    list of Path
        The jars in the cache, in the order of the lock.

    Raises
    ------
    MachineError
        A jar cannot be had, or is not the one that was locked; then none of this fetch is kept.
    """
    return fetch_set(locked_set(set_name), progress=progress, from_dir=from_dir)


def fetch_set(
    wanted: JarSet, *, progress: Callable[[str], None] | None = None, from_dir: Path | None = None
) -> list[Path]:
    """`fetch_jars` for a set of any lock file, such as that of the other engines."""
    if _quick_problem(wanted) == "":
        return _paths(wanted)
    with tempfile.TemporaryDirectory(prefix=f".{wanted.name}-", dir=_jar_root()) as scratch:
        staging = Path(scratch) / "new"
        staging.mkdir()
        if from_dir is None:
            say = progress or _silent
            size_mb = sum(jar.size for jar in wanted.jars) / 1e6
            say(f"downloading {len(wanted.jars)} {wanted.name} jars ({size_mb:.0f} MB)")
            download(wanted.jars, staging, find_java(), say)
        else:
            _copy_from(wanted.jars, from_dir, staging)
        for jar in wanted.jars:
            _check(jar, staging / jar.file_name)
        (staging / STAMP).write_text(wanted.digest, encoding="utf-8")
        _publish(staging, _folder(wanted), Path(scratch) / "old")
    return _paths(wanted)


def jar_paths(set_name: str) -> list[Path]:
    """The cached jars of a set, after a cheap check (stamp and sizes); never touches the network.

    Raises
    ------
    MachineError
        A jar is absent or has another size, or the set was never verified.
    """
    wanted = locked_set(set_name)
    problem = _quick_problem(wanted)
    if problem:
        raise MachineError(problem, fix=f"run: make setup, or: {FETCH_COMMAND}")
    return _paths(wanted)


def jar_folder(set_name: str) -> Path:
    """Where the jars of a set are, or will be once they are fetched."""
    return _folder(locked_set(set_name))


def verify_jars(set_name: str) -> list[Path]:
    """Read every cached jar of a set and compare its SHA-256 with the lock.

    A set that fails is no longer trusted: its stamp is removed, so that the next fetch replaces it.

    Raises
    ------
    MachineError
        A jar is absent or is not the one that was locked.
    """
    paths = jar_paths(set_name)
    wanted = locked_set(set_name)
    try:
        for jar, path in zip(wanted.jars, paths, strict=True):
            _check(jar, path)
    except MachineError:
        (_folder(wanted) / STAMP).unlink(missing_ok=True)
        raise
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Fetch both sets from a shell; returns the exit code."""
    parser = argparse.ArgumentParser(prog=FETCH_COMMAND, description="Fetch and verify the jars that twinrun needs.")
    parser.add_argument("--from-dir", type=Path, help="take the jars from this folder, not from the network")
    parser.add_argument("--set", choices=SET_NAMES, action="append", dest="sets", help="only this set")
    options = parser.parse_args(arguments)
    try:
        for name in options.sets or SET_NAMES:
            paths = fetch_jars(name, progress=_show, from_dir=options.from_dir)
            print(f"{name}: {len(paths)} jars in {paths[0].parent}")
    except TwinrunError as error:
        print(error.sentence(), file=sys.stderr)
        return error.exit_code
    return 0


def _silent(_: str) -> None:
    """Show nothing."""


def _show(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _jar_root() -> Path:
    root = cache_dir() / "jars"
    root.mkdir(exist_ok=True)
    return root


def _folder(wanted: JarSet) -> Path:
    """One folder per exact lock, so that two versions of twinrun share a cache without a quarrel."""
    return _jar_root() / f"{wanted.name}-{wanted.digest[:12]}"


def _paths(wanted: JarSet) -> list[Path]:
    return [_folder(wanted) / jar.file_name for jar in wanted.jars]


def _quick_problem(wanted: JarSet) -> str:
    folder = _folder(wanted)
    stamp = folder / STAMP
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted.digest:
        return f"The {wanted.name} jars are not in the cache ({folder})."
    for jar, path in zip(wanted.jars, _paths(wanted), strict=True):
        if not path.exists():
            return f"{path.name} is missing from the jar cache."
        if path.stat().st_size != jar.size:
            return f"{path.name} in the jar cache has {path.stat().st_size} bytes, the lock says {jar.size}."
    return ""


def _check(jar: LockedJar, path: Path) -> None:
    if not path.exists():
        raise MachineError(f"{jar.coordinate} is missing.", fix=f"run: {FETCH_COMMAND}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if path.stat().st_size != jar.size or found != jar.sha256:
        raise MachineError(
            f"{jar.coordinate} is refused: it is not the jar that was locked (SHA-256 {found[:16]}...).",
            expected=f"SHA-256 {jar.sha256[:16]}..., {jar.size} bytes",
            fix="find out who changed it (a mirror, a proxy, the folder) before you fetch it again",
        )


def _copy_from(jars: tuple[LockedJar, ...], source: Path, staging: Path) -> None:
    for jar in jars:
        found = [source / name for name in (jar.file_name, jar.short_name) if (source / name).is_file()]
        if not found:
            raise MachineError(f"{source} has no {jar.short_name}.", expected=f"all {len(jars)} jars of jars.lock")
        shutil.copyfile(found[0], staging / jar.file_name)


def _publish(staging: Path, target: Path, old: Path) -> None:
    """Put a verified folder in place; of two processes that fetch at once the later one keeps the earlier's."""
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(staging, target)
    except OSError:
        if not target.exists():
            raise


if __name__ == "__main__":
    sys.exit(main())
