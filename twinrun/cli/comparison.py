"""A comparison of two tables as text for people and as a document for machines."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any

from twinrun.cli.output import columns
from twinrun.comparator.result import Comparison, Sample
from twinrun.comparator.schema import SchemaDifference
from twinrun.report.cells import NONE, apart, difference, joined
from twinrun.report.neutral import fit, visible
from twinrun.wording import plural

if TYPE_CHECKING:
    from twinrun.comparator.references import Read

MAX_SAMPLES = 10
MAX_COLUMNS = 10
_CELL = 40
_TIMES = ("timestamp", "timestamp_ntz")
_UNDECLARED = ("array", "map", "struct", "interval", "variant", "void", "time(")
"""How types begin that no declaration brings to another."""
_COMMA = ","
_WORDS = {
    "changed": "changed",
    "only_batch": "only in batch",
    "only_stream": "only in stream",
    "duplicate_in_batch": "repeated in batch",
    "duplicate_in_stream": "repeated in stream",
}


_ZEROS = re.compile(r"(\d\d:\d\d:\d\d)\.(\d*?)0+(Z|[+-]\d\d:\d\d|)")


def comparison_lines(found: Comparison, refs: tuple[str, str], read: tuple[Read, Read]) -> list[str]:
    """The outcome, the counts, the columns that differ, and a few rows side by side."""
    lines = [f"{found.verdict.replace('_', ' ')}: {_outcome(found)}"]
    lines += columns(
        [(side, ref, f"({each.note})") for side, ref, each in zip(("batch", "stream"), refs, read, strict=True)]
    )
    lines += columns([(name, text) for name, text in _counts(found) if text])
    facts = [(side, fact) for side, each in zip(("batch", "stream"), read, strict=True) for fact in each.facts]
    if facts:
        lines.append("how they were read:")
        lines += columns([(f"{side}:", visible(fact)) for side, fact in facts])
    if found.columns:
        lines.append("columns that differ:")
        lines += columns([_column(each) for each in found.columns[:MAX_COLUMNS]])
        lines += _more(len(found.columns) - MAX_COLUMNS, "column")
    if found.schema_differences:
        lines.append("schemas:")
        names = _told_apart([each.name for each in found.schema_differences])
        lines += [f"  {_schema(each, names)}" for each in found.schema_differences]
    if found.samples:
        lines.append("rows:")
        shown = found.samples[:MAX_SAMPLES]
        keys = _told_apart([_key_text(sample) for sample in shown])
        times = {each.name for each in found.schema.columns if each.dtype.simpleString() in _TIMES}
        rows = [row for sample in shown for row in _sample_rows(sample, keys[_key_text(sample)], times)]
        lines += columns([("key", "what", "column", "batch", "stream", "difference"), *rows])
        lines += _more(found.rows_different - min(len(found.samples), MAX_SAMPLES), "row")
    return lines


def comparison_payload(found: Comparison, refs: tuple[str, str], read: tuple[Read, Read]) -> dict[str, Any]:
    """Everything that was found; samples as objects."""
    return {
        "verdict": found.verdict,
        "batch": {
            "table": refs[0],
            "read": read[0].note,
            "facts": list(read[0].facts),
            "rows": found.rows_batch,
            "pending": found.pending_batch,
        },
        "stream": {
            "table": refs[1],
            "read": read[1].note,
            "facts": list(read[1].facts),
            "rows": found.rows_stream,
            "pending": found.pending_stream,
        },
        "compared_as": dict(_declared(found)),
        "windows": {
            "compared": found.windows_compared,
            "equal": found.windows_equal,
            "different": found.windows_different,
        },
        "keys_repeated": {
            "batch": found.keys_repeated_batch,
            "stream": found.keys_repeated_stream,
            "among": found.keys_counted,
        },
        "rows_different": dict(found.counts),
        "columns": [vars(each) for each in found.columns],
        "schema_differences": [vars(each) for each in found.schema_differences],
        "samples": [_sample_payload(sample) for sample in found.samples],
        "audit": found.audit,
    }


def _outcome(found: Comparison) -> str:
    if found.verdict == "nothing_compared":
        return "neither table has a row to compare, which is never called equal"
    parts = [f"{plural(count, 'row')} {_WORDS[kind]}" for kind, count in found.counts.items() if count]
    if found.schema_differences:
        parts.append(f"{plural(len(found.schema_differences), 'column')} of only one table or of two types")
    if found.audit == "disagrees":
        parts.append("the exact audit found other rows than the digests")
    return "; ".join(parts) or f"{plural(found.rows_batch, 'row')} on each side"


def _counts(found: Comparison) -> list[tuple[str, str]]:
    pending = found.pending_batch + found.pending_stream
    repeated = f"batch {found.keys_repeated_batch:,}, stream {found.keys_repeated_stream:,}"
    audit = {"not_run": "", "agrees": "every row looked at: agrees", "disagrees": "every row looked at: disagrees"}
    windows = (
        f"{found.windows_compared:,} compared, {found.windows_equal:,} equal, {found.windows_different:,} different"
    )
    return [
        ("rows", f"batch {found.rows_batch:,}, stream {found.rows_stream:,}"),
        ("windows", windows if found.windows_compared else ""),
        ("pending", f"batch {found.pending_batch:,}, stream {found.pending_stream:,}" if pending else ""),
        ("repeated keys", repeated if found.keys_repeated_batch or found.keys_repeated_stream else ""),
        ("keys", _keys_counted(found)),
        ("compared as", ", ".join(f"{name} {text}" for name, text in _declared(found))),
        ("audit", audit[found.audit]),
    ]


def _keys_counted(found: Comparison) -> str:
    """Where it was not looked for repeated keys; nothing where all rows were counted."""
    if found.keys_counted == "all" or found.verdict == "nothing_compared":
        return ""
    if not found.windows_suspected:
        equal = "the columns of both tables are" if found.schema_differences else "the rows are"
        return f"repeated ones not counted, as {equal} equal (--full counts them)"
    parts = "windows" if found.windows_compared else "parts"
    return f"repeated ones counted in the {parts} whose digests differ (--full counts all)"


def _declared(found: Comparison) -> list[tuple[str, str]]:
    """Columns that were compared as declared, and as what."""
    return [
        (each.name, each.dtype.simpleString() if each.declared else "timestamp, naive times in the declared zone")
        for each in found.schema.columns
        if each.declared or each.naive_offset_s is not None
    ]


def _column(each: Any) -> tuple[str, ...]:
    largest = "" if each.max_abs is None else f"by at most {each.max_abs:.6g}"
    return each.name, plural(each.different, "row"), largest


def _schema(each: SchemaDifference, names: Mapping[str, str]) -> str:
    name = names[each.name]
    if each.kind == "type_differs":
        return f"{name}: {each.batch_type} in batch, {each.stream_type} in stream{_way(each)}"
    where = "only in batch" if each.kind == "missing_in_stream" else "only in stream"
    nearest = names.get(each.nearest, each.nearest) if each.nearest else ""
    return f"{name}: {where}" + (f" (the nearest of the other is {nearest})" if nearest else "")


def _way(each: SchemaDifference) -> str:
    """How a column of two types can be compared, where a declaration may do it."""
    types = {each.batch_type, each.stream_type}
    if types == {"timestamp", "timestamp_ntz"}:
        return " (--naive-time-zone UTC compares them, if the naive times are in UTC)"
    undeclared = any(str(text).startswith(_UNDECLARED) for text in types)
    return "" if undeclared else f" (--as {each.name}=TYPE compares both as one type)"


def _key_text(sample: Sample) -> str:
    """The whole key on one line."""
    key = _loaded(sample.key)
    long = any(isinstance(cell, str) and len(cell) > _CELL for cell in key.values())
    return " · ".join(map(str, key.values())) if long else joined(key)


def _told_apart(texts: Sequence[str]) -> dict[str, str]:
    """What is shown for each of some texts, so that no two that differ look the same where one is under the other."""
    shown = {text: fit(visible(text), 2 * _CELL) for text in texts}
    for one, other in combinations(dict.fromkeys(texts), 2):
        if _look(shown[one]) == _look(shown[other]) or _one_letter_apart(one, other):
            left, right, _ = apart(one, other, 2 * _CELL)
            shown |= {one: left, other: right}
    return shown


def _look(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def _one_letter_apart(one: str, other: str) -> bool:
    """Whether two texts differ in one letter that may look the same: one of them is of another script."""
    if len(one) != len(other):
        return False
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    return len(pairs) == 1 and pairs[0][0].isascii() != pairs[0][1].isascii()


def _sample_rows(sample: Sample, key: str, times: Collection[str]) -> list[tuple[str, ...]]:
    """A changed row has a line per differing column; a row of one side has one."""
    what = _WORDS[sample.kind]
    batch, stream = (_loaded(side) if side else {} for side in (sample.batch, sample.stream))
    if not sample.columns:
        return [(key, what, "", "", "", "")]
    return [
        (key, what, visible(name), *_cells(batch.get(name), stream.get(name), name in times)) for name in sample.columns
    ]


def _cells(batch: Any, stream: Any, is_time: bool) -> tuple[str, str, str]:
    """Both values so that they look different, and by how much or from where on they differ."""
    if is_time:
        batch, stream = (
            _ZEROS.sub(_without_zeros, each) if isinstance(each, str) else each for each in (batch, stream)
        )
    left, right, where = apart(batch, stream, _CELL)
    far = difference(batch, stream)
    return left, right, where if where and far in (NONE, "0") else far


def _without_zeros(match: re.Match[str]) -> str:
    digits = f".{match[2]}" if match[2] else ""
    return f"{match[1]}{digits}{match[3]}"


def _loaded(text: str) -> Any:
    return json.loads(text, parse_float=_number, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """An object; where a name stands twice, as it may in a map, all its entries."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else [{name: value} for name, value in pairs]


def _number(text: str) -> float | str:
    """A number as it is, or the text where a float has no room for its digits (a decimal's)."""
    number = float(text)
    return number if Decimal(text) == Decimal(repr(number)) else text


def _sample_payload(sample: Sample) -> dict[str, Any]:
    read = {name: _loaded(text) if text else None for name, text in _texts(sample).items()}
    return {"kind": sample.kind, "copy": sample.copy, "columns": list(sample.columns), **read}


def _texts(sample: Sample) -> dict[str, str | None]:
    return {"key": sample.key, "window": sample.window, "batch": sample.batch, "stream": sample.stream}


def _more(count: int, noun: str) -> list[str]:
    return [f"  and {plural(count, f'more {noun}')}"] if count > 0 else []
