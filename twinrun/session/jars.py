"""The jars that pyspark lacks: fetched once, verified by SHA-256, then used from a per-user cache only.

Run ``python -m twinrun.session.jars`` to fetch both sets.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from twinrun.errors import MachineError, TwinrunError
from twinrun.session.cache import cache_dir
from twinrun.session.ivy import download
from twinrun.session.jarlock import JarSet, LockedJar, locked_set
from twinrun.session.java import find_java

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
