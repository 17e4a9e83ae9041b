"""A disk that is full, really: small file systems in memory for tables and checkpoints, filled to the last bytes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bad_input.conftest import Place, names, offsets_in, refused

SIZE_MB = 16
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_session")]


@pytest.fixture(scope="module")
def place(make_place: Callable[[], Place], one_session: object) -> Iterator[Place]:
    """A project whose warehouse and checkpoints are file systems of their own, with four clicks in both modes."""
    place = make_place()
    mounted = []
    try:
        for name in ("wh", "cp"):
            folder = place.root / name
            folder.mkdir()
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)], capture_output=True, text=True
            )
            if done.returncode:
                pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
            mounted.append(folder)
        place.make_topic()
        place.produce(names(0, 4))
        place.works("ingest clicks", "stream seen", "batch seen")
        place.produce(names(4, 8))
        yield place
    finally:
        for folder in mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def full(folder: Path, room_kb: int = 0) -> Iterator[None]:
    """A file system with only so much room left, for a block."""
    ballast = folder / "ballast"
    space = os.statvfs(folder)
    size = space.f_bavail * space.f_frsize - room_kb * 1024
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    try:
        yield
    finally:
        ballast.unlink()


@pytest.mark.parametrize("command", ["ingest clicks", "stream seen"])
def test_no_room_for_the_checkpoint(command: str, place: Place) -> None:
    with full(place.root / "cp"):
        refused(place.run(*command.split()), "the disk is full", "free disk space")


@pytest.mark.parametrize(
    # With no room nothing begins; with a little the run breaks off after it has begun to write.
    ("command", "room_kb"),
    [("ingest clicks", 0), ("ingest clicks", 24), ("stream seen", 48), ("batch seen", 0), ("batch seen", 72)],
)
def test_no_room_for_tables(command: str, room_kb: int, place: Place) -> None:
    with full(place.root / "wh", room_kb):
        refused(place.run(*command.split()), "the disk is full", "free disk space")


def test_with_room_again_the_same_commands_have_every_row_once(place: Place) -> None:
    place.works("ingest clicks", "stream seen", "batch seen")
    assert offsets_in(Path(place.cfg().table("bronze", topic=place.topic))) == list(range(8))
    assert place.ids("stream") == place.ids("batch") == names(0, 8)
    place.works("verify seen")
