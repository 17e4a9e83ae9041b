"""What a record of a result topic is around the row: a window of quixstreams, a change of Debezium, a row with a sign.

Each format says which fields its records have, where in them the columns of the result are, and what makes a record one
of no such format. The strict decoder reads what they ask for; nothing here looks at a record twice.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType

from twinrun.config.sections import ExternalBinding
from twinrun.job.job import Job

CELLS, SIGN, DELETED = "_cells", "_sign", "_deleted"
Check = tuple[Column, Column, Column]
"""Condition, rule and reason."""
_QUIX_START, _QUIX_END, _QUIX_VALUE = "start", "end", "value"
_DIFF, _TIME = "diff", "time"
_BEFORE, _AFTER, _OP, _PAYLOAD = "before", "after", "op", "payload"
_WRITES, _DELETES = ("c", "r", "u"), "d"
"""Operations of Debezium that leave a row: created, read in a snapshot, updated; and the one that takes it away."""


def wire_of(row: StructType, binding: ExternalBinding, job: Job) -> StructType:
    """The fields that a record has, for the columns of a result as the decoder reads them."""
    if binding.format == "quix":
        fields = [StructField(_QUIX_START if f.name == job.window_column else f.name, f.dataType) for f in row]
        alone = _alone(row.names, binding, job)
        more = [StructField(_QUIX_VALUE, row[alone].dataType)] if alone else []
        return StructType([*fields, *more, StructField(_QUIX_END, LongType())])
    if binding.format == "debezium":
        change = [StructField(_BEFORE, row), StructField(_AFTER, row), StructField(_OP, StringType())]
        return StructType([*change, StructField(_PAYLOAD, StructType(change))])
    if binding.format == "diff":
        return StructType([*row, StructField(_DIFF, LongType())])
    return row


def with_cells(decoded: DataFrame, names: list[str], binding: ExternalBinding, job: Job) -> DataFrame:
    """Add `CELLS`, a struct of the result's columns as they were read, and `SIGN` and `DELETED`. Lazy.

    ``SIGN`` is 1 or -1 of a row with a sign, else 1; ``DELETED`` is true where the record itself says that its row is
    gone.
    """
    fields = F.col("_fields")
    sign, deleted = F.lit(1), F.lit(False)
    if binding.format == "quix":
        alone = _alone(names, binding, job)
        cells = {name: fields[_QUIX_START if name == job.window_column else name] for name in names}
        if alone:
            cells[alone] = F.coalesce(fields[alone], fields[_QUIX_VALUE])
    elif binding.format == "debezium":
        deleted = F.coalesce(_of_change(_OP) == _DELETES, F.lit(False))
        cells = {name: _image()[name] for name in names}
    else:
        cells = {name: fields[name] for name in names}
        if binding.format == "diff":
            sign = F.coalesce(fields[_DIFF], F.lit(1)).cast("int")
    row = F.struct(*[cell.alias(name) for name, cell in cells.items()])
    return decoded.withColumns({CELLS: row, SIGN: sign, DELETED: deleted})


def format_checks(binding: ExternalBinding, job: Job) -> list[Check]:
    """What makes a record, read as JSON without a fault, one that its format does not have."""
    fields, there = F.col("_fields"), F.col("_fields").isNotNull()
    if binding.format == "quix":
        start, end = fields[_QUIX_START].cast("bigint"), fields[_QUIX_END]
        length = F.concat(F.lit("its window is of "), end - start, F.lit(f" ms, the job's of {job.window_ms}"))
        return [
            (there & end.isNull(), F.lit("missing_field"), F.lit("field end is missing or null")),
            (there & (end - start != job.window_ms), F.lit("wrong_window"), length),
        ]
    if binding.format == "debezium":
        op = _of_change(_OP)
        known = op.isin(*_WRITES, _DELETES)
        side = F.when(op == _DELETES, F.lit(_BEFORE)).otherwise(F.lit(_AFTER))
        shown = F.concat(F.lit("field op is "), F.substring(op, 1, 40), F.lit(", and not c, r, u or d"))
        lacks = F.concat(F.lit("a change with op "), op, F.lit(" has no "), side)
        return [
            (there & op.isNull(), F.lit("missing_field"), F.lit("field op is missing or null")),
            (there & ~known, F.lit("wrong_op"), shown),
            (there & known & _image().isNull(), F.lit("missing_image"), lacks),
        ]
    if binding.format == "diff":
        diff = fields[_DIFF]
        shown = F.concat(F.lit("field diff is "), diff, F.lit(", and not 1 or -1"))
        return [
            (there & diff.isNull(), F.lit("missing_field"), F.lit("field diff is missing or null")),
            (there & ~diff.isin(1, -1), F.lit("wrong_diff"), shown),
        ]
    return []


def field_names(binding: ExternalBinding, wanted: list[str], job: Job) -> Column:
    """The names of the result's columns, and of others, that a good record has, from its ``value``."""
    text = F.col("value").cast("string")
    if binding.format == "debezium":
        paths = [f"$.{_PAYLOAD}.{side}" for side in (_AFTER, _BEFORE)] + [f"$.{side}" for side in (_AFTER, _BEFORE)]
        return F.json_object_keys(F.coalesce(*[F.get_json_object(text, path) for path in paths]))
    names = F.json_object_keys(text)
    if binding.format == "quix":
        alone = _alone(wanted, binding, job)
        as_ours = F.transform(
            names, lambda name: _as_column(name, {_QUIX_START: job.window_column, _QUIX_VALUE: alone})
        )
        return F.array_remove(as_ours, _QUIX_END)
    if binding.format == "diff":
        return (
            F.array_remove(F.array_remove(names, _DIFF), _TIME) if _TIME not in wanted else F.array_remove(names, _DIFF)
        )
    return names


def _as_column(name: Column, renamed: dict[str, str | None]) -> Column:
    found = name
    for theirs, ours in renamed.items():
        if ours is not None:
            found = F.when(name == theirs, F.lit(ours)).otherwise(found)
    return found


def _alone(names: list[str], binding: ExternalBinding, job: Job) -> str | None:
    """The one column that a window's single aggregate can be, which quixstreams calls ``value``; None where several."""
    of_key = binding.key_column[0] if binding.key_schema else ""
    rest = [name for name in names if name not in (job.window_column, of_key)]
    return rest[0] if len(rest) == 1 and rest[0] != _QUIX_VALUE else None


def _image() -> Column:
    """The row that a change is about: what a deletion took away, else what it left."""
    return F.when(_of_change(_OP) == _DELETES, _of_change(_BEFORE)).otherwise(_of_change(_AFTER))


def _of_change(part: str) -> Column:
    """A part of a change, whether its schema stands around it or not."""
    fields = F.col("_fields")
    return F.coalesce(fields[_PAYLOAD][part], fields[part])
