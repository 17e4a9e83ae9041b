"""Records from a CSV file: a row becomes the JSON object that the decoder reads, and no row is left out."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from twinrun.errors import InputError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""By the ending of a file's name."""
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LONGEST_NUMBER = 1_000
"""Characters: a JSON number of more digits makes the whole record unreadable, a text does not."""


def csv_values(path: Path, separator: str) -> Iterator[bytes]:
    """The rows of a CSV file with a header, each as a JSON object, without loading the file whole.

    A cell that reads as a JSON number, ``true`` or ``false`` is written as that and an empty one as null; every other
    one is a text. Nothing is guessed by that: a STRING of a source takes numbers digit by digit, so ``1.10`` stays
    ``1.10``, and ``007`` is no JSON number.

    Parameters
    ----------
    path : Path
        A local file in UTF-8 (a byte order mark is passed over) in the form of RFC 4180. The first row has the names.
    separator : str
        What stands between two cells.

    Returns
    -------
    iterator of bytes
        In the order of the file. A row with more or fewer cells than there are names, a blank line, an open quote and
        bytes that are no UTF-8 come as they stand in the file: they are no JSON, and quarantine shows them.

    Raises
    ------
    InputError
        On the first value: there is no header, or a name in it is empty or repeated.
    """
    # surrogateescape keeps bytes that are no UTF-8, so that such a row can be sent as it is.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        taken: list[str] = []
        rows = csv.reader(_noted(file, taken), delimiter=separator, strict=True)
        names = _header(next(rows, []), path)
        taken.clear()
        while True:
            try:
                cells = next(rows, None)
            except csv.Error:
                cells = []
            if cells is None:
                return
            yield _value(names, cells, "".join(taken))
            taken.clear()


def _noted(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    """The lines, each kept until its row is done: a quoted cell may go over several."""
    for line in lines:
        taken.append(line)
        yield line


def _header(names: list[str], path: Path) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not names or "" in names or repeated:
        found = f"repeats the column {repeated[0]!r}" if repeated else "does not name all its columns"
        raise InputError(
            f"The first line of {path} {found}.",
            expected="a header: the name of each column, once",
            fix="write one; the names are those of the source's fields",
        )
    return names


def _value(names: list[str], cells: list[str], text: str) -> bytes:
    raw = text.removesuffix("\n").removesuffix("\r").encode("utf-8", errors="surrogateescape")
    if len(cells) != len(names):
        return raw
    fields = ",".join(
        f"{json.dumps(name, ensure_ascii=False)}:{_cell(cell)}" for name, cell in zip(names, cells, strict=True)
    )
    try:
        return f"{{{fields}}}".encode()
    except UnicodeEncodeError:
        return raw


def _cell(text: str) -> str:
    if not text:
        return "null"
    if text in {"true", "false"} or (len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text)):
        return text
    return json.dumps(text, ensure_ascii=False)
