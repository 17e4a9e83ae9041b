"""What a user sees while a step takes long: one line that changes, only on a terminal and only after a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.status import Status

from twinrun.cli.output import Output
from twinrun.results.records import Progress, Say
from twinrun.wording import plural

QUIET_S = 3.0
"""Steps that are shorter show nothing; longer ones are shown anew twice a second."""

_EVERY_S = 0.5


@contextmanager
def step(out: Output, title: str) -> Iterator[Say]:
    """Show a step that takes over `QUIET_S`; where standard error is no terminal, show nothing.

    Yields
    ------
    function of str
        Says how far the step is; cheap, from any thread.
    """
    if not out.errors.is_terminal:
        yield lambda _: None
        return
    said = [""]
    ended = threading.Event()
    began = time.monotonic()

    def show() -> None:
        if ended.wait(QUIET_S):
            return
        with Status("", console=out.errors) as status:
            while not ended.wait(_EVERY_S):
                detail = f": {said[0]}" if said[0] else ""
                # The status line reads markup; what is said may come from data.
                status.update(out.clean(f"{title}, {time.monotonic() - began:.0f} s{detail}").replace("[", r"\["))

    shower = threading.Thread(target=show, name="twinrun-live", daemon=True)
    shower.start()

    def say(text: str) -> None:
        said[0] = text

    try:
        yield say
    finally:
        ended.set()
        shower.join()


def progress_text(progress: Progress) -> str:
    """``micro-batch 12, 1,440 records, behind by 60, watermark 2013-01-06T10:00:00.000Z``; or what it waits for."""
    if progress.waits:
        return progress.waits
    parts = [plural(progress.events, "record")]
    if progress.micro_batch >= 0:
        parts.insert(0, f"micro-batch {progress.micro_batch}")
    if progress.behind is not None:
        parts.append(f"behind by {progress.behind:,}")
    if progress.watermark:
        parts.append(f"watermark {progress.watermark}")
    return ", ".join(parts)
