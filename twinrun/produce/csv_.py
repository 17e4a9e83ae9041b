"""Records from a CSV file: a row becomes the JSON object that the decoder reads, and no row is left out."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from twinrun.errors import InputError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""By the ending of a file's name."""
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LONGEST_NUMBER = 1_000
"""Characters: a JSON number of more digits makes the whole record unreadable, a text does not."""


def csv_values(path: Path, separator: str, needed: Sequence[str] = ()) -> Iterator[bytes]:
    """The rows of a CSV file with a header, each as a JSON object, without loading the file whole.

    A cell that reads as a JSON number, ``true`` or ``false`` is written as that and an empty one as null; every other
    one is a text. A STRING of a source loses nothing by that, since it takes numbers digit by digit: ``1.10`` stays
    ``1.10``, and ``007`` is no JSON number. A BINARY takes texts alone: base64 that reads as a number is refused.

    Parameters
    ----------
    path : Path
        A local file in UTF-8 (a byte order mark is passed over) in the form of RFC 4180. The first row has the names.
    separator : str
        What stands between two cells.
    needed : sequence of str
        Columns that must be there.

    Returns
    -------
    iterator of bytes
        In the order of the file. A row with more or fewer cells than there are names, a blank line, a quote at a wrong
        place or never closed, and bytes that are no UTF-8 come as they stand in the file, for quarantine to show (what
        is JSON by itself is read as that). Behind a quote at a wrong place the next line begins a row.

    Raises
    ------
    InputError
        On the first value: there is no header in UTF-8 that names each column once, or it lacks a needed one. Later:
        a cell is so long (131,072 characters) that its end is not looked for.
    """
    # surrogateescape keeps bytes that are no UTF-8, so that such a row can be sent as it is.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        taken: list[str] = []
        rows = csv.reader(_noted(file, taken), delimiter=separator, strict=True)
        try:
            names = _header(next(rows, []), path, needed)
        except csv.Error as error:
            raise _no_header(path, f"is no row of CSV ({error})") from None
        taken.clear()
        number = 0
        while True:
            number += 1
            try:
                cells = next(rows, None)
            except csv.Error as error:
                if "field limit" in str(error):
                    raise InputError(
                        f"Row {number} of {path} has a cell of over {csv.field_size_limit():,} characters.",
                        expected="shorter cells: a quote that is not closed makes one of all that follows",
                        fix="close the quote, or send the file as JSON lines",
                    ) from None
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


def _header(names: list[str], path: Path, needed: Sequence[str]) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise _no_header(path, f"repeats the column {repeated[0]!r}")
    if not names or "" in names:
        raise _no_header(path, "does not name all its columns")
    if any("\0" in name or _broken(name) for name in names):
        raise _no_header(path, "is no text in UTF-8")
    lacking = [name for name in needed if name not in names]
    if lacking:
        raise InputError(
            f"The header of {path} has no column {' and no column '.join(map(repr, lacking))}.",
            expected=f"one of its columns: {', '.join(names)}",
            fix="name columns that the file has, in their own case; between two stands a comma (.csv) or a tab (.tsv)",
        )
    return names


def _broken(text: str) -> bool:
    """Whether a text holds bytes of the file that are no UTF-8."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _no_header(path: Path, found: str) -> InputError:
    return InputError(
        f"The first line of {path} {found}.",
        expected="a header in UTF-8: the name of each column, once",
        fix="write one; the names are those of the source's fields",
    )


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
