"""One twinrun command as a process of its own, with the Java process that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

TWINRUN = Path(sys.executable).parent / "twinrun"
START_LIMIT_S = 60
END_LIMIT_S = 300
LOOK_S = 0.001


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


def gone(process: psutil.Process, limit_s: float) -> None:
    """Wait until a process that is not our child has ended."""
    with suppress(psutil.NoSuchProcess):
        process.wait(limit_s)


class Command:
    """A running command; leaving its block kills whatever is left of it."""

    def __init__(self, arguments: list[str], folder: Path, log: Path) -> None:
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        # Settings of a session in this pytest process must not reach a command that a user would start from a shell.
        env = {key: text for key, text in os.environ.items() if not key.startswith(("PYSPARK_", "SPARK_", "TWINRUN_"))}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(TWINRUN), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=env,
                start_new_session=True,
            )
        self.arguments = arguments
        self._jvm: psutil.Process | None = None

    def __enter__(self) -> Command:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Java is in the group of its parent, also when that is gone.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(END_LIMIT_S)
        if self._jvm is not None:
            gone(self._jvm, END_LIMIT_S)
        if error is not None:
            error.add_note(f"twinrun {' '.join(self.arguments)} said:\n{self.stderr()[-4000:]}")

    @property
    def pid(self) -> int:
        return self.process.pid

    def jvm(self) -> psutil.Process:
        """Its Java process; waits until there is one."""
        deadline = time.monotonic() + START_LIMIT_S
        while self._jvm is None:
            self.still_runs()
            assert time.monotonic() < deadline, f"no Java within {START_LIMIT_S} s"
            found = [child for child in psutil.Process(self.pid).children() if child.name() == "java"]
            self._jvm = found[0] if found else None
            time.sleep(LOOK_S)
        return self._jvm

    def still_runs(self) -> None:
        """Fail with the command's own words where it has ended."""
        code = self.process.poll()
        assert code is None, f"twinrun {' '.join(self.arguments)} ended with {code}:\n{self.stderr()}"

    def stderr(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def end(self, limit_s: float = END_LIMIT_S) -> Ended:
        """Wait for its end."""
        code = self.process.wait(limit_s)
        return Ended(code, self._out.read_text(encoding="utf-8"), self.stderr())

    def ended_with(self, code: int, limit_s: float = END_LIMIT_S) -> Ended:
        """Wait for its end and require its exit code."""
        ended = self.end(limit_s)
        assert ended.code == code, f"twinrun {' '.join(self.arguments)} ended with {ended.code}:\n{ended.stderr}"
        return ended
