"""The only place of the command line that prints: text for people, one JSON document for machines, errors.

Every text passes here through two filters: secrets are masked, and characters that could steer a terminal become
visible escapes.
"""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from twinrun.config.secrets import redact_text
from twinrun.errors import EXIT_INTERRUPTED, MachineError, QueryError, TwinrunError
from twinrun.report.neutral import visible

_STDOUT, _STDERR = 1, 2  # as child processes know them


class Output:
    """Where one command prints. Nothing but one JSON document reaches standard output when ``as_json`` is set.

    Attributes
    ----------
    as_json : bool
        Whether machines read the result.
    secrets : tuple of str
        Values that are masked in everything printed; set as soon as the configuration is known.
    reader_gone : bool
        Whether a reader such as head has had enough: what would print on and on may end.
    """

    def __init__(self, stdout: TextIO, *, as_json: bool = False, debug: bool = False) -> None:
        self.as_json = as_json
        self.debug = debug
        self.secrets: tuple[str, ...] = ()
        self.reader_gone = False
        self._has_result = False
        self._stdout = stdout
        self.errors: Console = _Errors(file=sys.stderr, highlight=False, markup=False, emoji=False)

    def clean(self, text: str) -> str:
        """The text without secrets and without characters that steer a terminal; line feeds stay."""
        return "\n".join(visible(line) for line in redact_text(text, self.secrets).split("\n"))

    def result(self, payload: dict[str, Any], lines: Iterable[str]) -> None:
        """What the command found: the payload as one JSON document, or the lines as text."""
        if not self.as_json:
            self._write("".join(f"{self.clean(line)}\n" for line in lines))
        else:
            self._write_json(payload, indent=2)

    def event(self, payload: dict[str, Any], line: str) -> None:
        """One of many results, as it happens: a line of text, or of JSON."""
        if self.as_json:
            self._write_json(payload, indent=None)
        else:
            self._write(f"{self.clean(line)}\n")

    def note(self, line: str) -> None:
        """Say something beside the result, on standard error."""
        self._print(line)

    def error(self, error: TwinrunError) -> None:
        """One block: what was found, what was expected, what to do. With JSON also as a document."""
        self._block(f"error: {error.sentence()}")
        self._error_document(
            type(error).__name__, error.exit_code, found=error.found, expected=error.expected, fix=error.fix
        )

    def interrupted(self) -> None:
        """Say that the user ended the command."""
        self._block("interrupted: the command was ended before it was done; what was committed stays")
        self._error_document("Interrupted", EXIT_INTERRUPTED, found="interrupted", expected="", fix="")

    def unexpected(self, error: TwinrunError, cause: BaseException) -> None:
        """An error that nobody foresaw: one sentence; the traceback only with ``--debug``."""
        self.error(error)
        if self.debug:
            for line in "".join(traceback.format_exception(cause)).rstrip().split("\n"):
                self._print(line)

    def _error_document(self, kind: str, exit_code: int, **words: str) -> None:
        if self.as_json and not self._has_result:
            self._write_json({"error": {"type": kind, "exit_code": exit_code, **words}}, indent=2)

    def _write_json(self, payload: dict[str, Any], indent: int | None) -> None:
        self._has_result = True
        self._write(json.dumps(self._strict(payload), indent=indent, allow_nan=False, ensure_ascii=True) + "\n")

    def _write(self, text: str) -> None:
        try:
            self._stdout.write(text)
            self._stdout.flush()
        except BrokenPipeError:
            # A reader such as head has enough: that must not change the exit code, nor may the flush at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stdout.fileno())
            self.reader_gone = True

    def _strict(self, value: Any) -> Any:
        """The payload as strict JSON, with secrets masked in every text before it is quoted."""
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, dict):
            return {redact_text(str(key), self.secrets): self._strict(cell) for key, cell in value.items()}
        if isinstance(value, list | tuple):
            return [self._strict(cell) for cell in value]
        return redact_text(str(value), self.secrets)

    def _block(self, text: str) -> None:
        first, *rest = self.clean(text).split("\n")
        head, _, sentence = first.partition(": ")
        self._print(Text.assemble((f"{head}: ", "bold red"), (sentence, "red")))
        for line in rest:
            self._print(Text(line, "red"))

    def _print(self, line: str | Text) -> None:
        text = line if isinstance(line, Text) else Text(self.clean(line))
        # A long line is the terminal's to wrap: a path or command that is cut cannot be copied.
        self.errors.print(text, soft_wrap=True)


class _Errors(Console):
    """Standard error with colours where it is a terminal."""

    def on_broken_pipe(self) -> None:
        """Go on without a word: rich would end the process with exit code 1, which here means a difference."""
        self.quiet = True


def in_words(error: Exception) -> TwinrunError:
    """Any error as one that says what was found: of twinrun, the machine or Spark, or one that nobody foresaw."""
    if isinstance(error, TwinrunError):
        return error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return MachineError(
            "The disk is full.", fix="free some space, then run the same command again: nothing is lost"
        )
    if isinstance(error, OSError) and error.filename:
        return MachineError(f"{error.filename} cannot be used: {error.strerror}.")
    if type(error).__module__.startswith(("pyspark", "py4j")):
        # Known only where a session was: the import costs more than most commands take.
        from twinrun.session.plain import plain_cause

        return QueryError(f"Spark failed: {plain_cause(error)}")
    return TwinrunError(
        f"something unexpected happened ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else '-'}).",
        fix="run the same command with --debug to see where, and report it",
    )


@contextmanager
def standard_output(*, only_json: bool) -> Iterator[TextIO]:
    """The stream for results. With ``only_json`` all else that prints (job files, Java) is led to standard error."""
    if not only_json:
        yield sys.stdout
        return
    stream = sys.stdout
    with redirect_stdout(sys.stderr):
        try:
            own = os.dup(stream.fileno())
        except (OSError, ValueError):
            # A stream in memory: no child process can write to it.
            yield stream
            return
        stream.flush()
        before = os.dup(_STDOUT)
        with os.fdopen(own, "w", encoding="utf-8") as kept:
            os.dup2(_STDERR, _STDOUT)
            try:
                yield kept
            finally:
                os.dup2(before, _STDOUT)
                os.close(before)


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Rows as lines with aligned columns; the last column is not padded."""
    if not rows:
        return []
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    return [
        indent + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
