"""Where twinrun keeps what it may fetch or write once per user: jars, a Java shim, log settings."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from twinrun.errors import MachineError


def cache_dir() -> Path:
    """The per-user cache folder; it is created when absent.

    ``TWINRUN_CACHE`` wins over ``XDG_CACHE_HOME/twinrun``, which wins over ``~/.cache/twinrun``.

    Returns
    -------
    Path
        An absolute path of a folder that exists.

    Raises
    ------
    MachineError
        The folder cannot be created.
    """
    own = os.environ.get("TWINRUN_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME")
    if own:
        folder = Path(own).expanduser()
    elif shared:
        folder = Path(shared).expanduser() / "twinrun"
    else:
        folder = Path.home() / ".cache" / "twinrun"
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"The cache folder {folder} cannot be created ({error.strerror}).",
            fix="set TWINRUN_CACHE to a folder that you can write",
        ) from None
    return folder


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a small text file so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(name, mode)
    os.replace(name, path)
