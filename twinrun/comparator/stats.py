"""Sums over the differing rows: by kind, by column, by window, and a few samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.comparator.drilldown import KINDS, public_columns
from twinrun.comparator.frame import column_name
from twinrun.comparator.groups import TOLD_GROUPS, encode_group
from twinrun.comparator.plan import PlannedColumn, SchemaPlan
from twinrun.comparator.result import ColumnStats, Sample
from twinrun.comparator.types import NUMERICS
from twinrun.comparator.within import distance


@dataclass(frozen=True)
class Details:
    """What looking at the rows found; see :class:`twinrun.comparator.result.Comparison` for the fields."""

    counts: Mapping[str, int]
    columns: tuple[ColumnStats, ...]
    windows: int
    samples: tuple[Sample, ...]


def no_details() -> Details:
    """The details of two tables whose digests agree."""
    return Details(dict.fromkeys(KINDS, 0), (), 0, ())


def count_details(pairs: DataFrame, plan: SchemaPlan, sample_rows: int, suspected: int) -> Details:
    """Sum up the differing pairs: one Spark action, one row per kind to the driver; two where many windows differ.

    Parameters
    ----------
    pairs : DataFrame
        From :func:`twinrun.comparator.drilldown.differing_pairs`.
    plan : SchemaPlan
        The plan by which they were compared.
    sample_rows : int
        Samples per kind, the smallest keys first; they are the only rows of data that reach the driver.
    suspected : int
        At most so many windows differ. Few are told apart in the same action, many take one more.
    """
    values = [place for place in range(len(plan.columns)) if place not in plan.keys]
    aggregates = [F.count(F.lit(1)).alias("rows")]
    for place in values:
        aggregates += _column_aggregates(place, plan.columns[place])
    if sample_rows > 0:
        aggregates.append(F.min_by(F.struct(*public_columns(plan)), "place", sample_rows).alias("samples"))
    codes = _window_codes(plan) if suspected <= TOLD_GROUPS else []
    aggregates += [F.collect_set(code).alias(f"windows_{side}") for side, code in enumerate(codes)]
    summed = pairs.groupBy("kind").agg(*aggregates)
    if sample_rows > 0:
        summed = summed.withColumn("samples", F.transform("samples", lambda found: _sample_fields(found, plan)))
    rows = {row["kind"]: row for row in summed.collect()}
    found = [rows[kind] for kind in KINDS if kind in rows]
    return Details(
        counts={kind: rows[kind]["rows"] if kind in rows else 0 for kind in KINDS},
        columns=tuple(stats for place in values if (stats := _stats(found, place, plan.columns[place])).different),
        windows=len({code for row in found for side in range(len(codes)) for code in row[f"windows_{side}"]})
        if codes
        else count_windows(pairs, plan),
        samples=tuple(_sample(sample, plan) for row in found for sample in (row["samples"] if sample_rows > 0 else ())),
    )


def _window_codes(plan: SchemaPlan) -> list[Column]:
    if plan.window is None:
        return []
    codes = [encode_group(F.col(side).getField(column_name(plan.window)), plan) for side in ("batch", "stream")]
    # An absent row has no window, which is not the null window.
    return [
        F.when(F.col(side).isNotNull(), code)
        for side, code in zip(("batch", "stream"), codes, strict=True)
        if code is not None
    ]


def count_windows(pairs: DataFrame, plan: SchemaPlan) -> int:
    """How many windows hold a differing row: one Spark action. 0, without any, where the plan has no window.

    A row that changed its window counts for both.
    """
    if plan.window is None:
        return 0
    # Wrapped in structs, since the null window counts too.
    name = column_name(plan.window)
    sides = [
        F.when(F.col(side).isNotNull(), F.struct(F.col(side).getField(name).alias("w"))) for side in ("batch", "stream")
    ]
    return pairs.select(F.explode(F.array_compact(F.array(*sides))).alias("touched")).distinct().count()


def _column_aggregates(place: int, column: PlannedColumn) -> list[Column]:
    differs = F.array_contains("columns", column.name)
    aggregates = [F.count_if(differs).alias(f"different_{place}")]
    if isinstance(column.dtype, NUMERICS):
        left, right = (F.col(side).getField(column_name(place)) for side in ("batch", "stream"))
        gap = distance(left, right, column.dtype)
        size = F.greatest(F.abs(left.cast("double")), F.abs(right.cast("double")))
        aggregates += [
            F.max(F.when(differs, gap)).alias(f"abs_{place}"),
            F.max(F.when(differs, F.try_divide(gap, size))).alias(f"rel_{place}"),
        ]
    return aggregates


def _stats(found: Sequence[Row], place: int, column: PlannedColumn) -> ColumnStats:
    def largest(label: str) -> float | None:
        seen = [row[f"{label}_{place}"] for row in found] if isinstance(column.dtype, NUMERICS) else []
        return max((number for number in seen if number is not None), default=None)

    return ColumnStats(column.name, sum(row[f"different_{place}"] for row in found), largest("abs"), largest("rel"))


def _legible(row: Column, places: Iterable[int], plan: SchemaPlan) -> Column:
    """A row or key of which texts that are not UTF-8 are their bytes: in JSON all of them would be question marks."""
    columns = [plan.columns[place] for place in places]
    if not any(isinstance(column.dtype, T.StringType) for column in columns):
        return row
    cells = {column.name: row.getField(column.name) for column in columns}
    for column in columns:
        if isinstance(column.dtype, T.StringType):
            text = cells[column.name]
            bare = F.concat(F.lit("not UTF-8: "), F.hex(text))
            cells[column.name] = F.when(text.isNull() | F.is_valid_utf8(text), text).otherwise(bare)
    return F.when(row.isNotNull(), F.struct(*(cell.alias(name) for name, cell in cells.items())))


def _sample_fields(found: Column, plan: SchemaPlan) -> Column:
    # Spark writes milliseconds by default: two times that differ by less would look the same.
    exact = "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"
    options = {"ignoreNullFields": "false", "timestampFormat": f"{exact}XXX", "timestampNTZFormat": exact}
    window = F.struct(found.getField("window").alias("window"))
    return F.struct(
        *(found.getField(name).alias(name) for name in ("kind", "copy", "columns")),
        F.to_json(_legible(found.getField("key"), plan.keys, plan), options).alias("key"),
        F.to_json(window, options).alias("window"),
        *(
            F.to_json(_legible(found.getField(side), range(len(plan.columns)), plan), options).alias(side)
            for side in ("batch", "stream")
        ),
    )


def _sample(found: Row, plan: SchemaPlan) -> Sample:
    # {"window":..}: the value between the braces is what is wanted, whatever its type.
    window = None if plan.window is None else found["window"][len('{"window":') : -1]
    return Sample(
        found["kind"], found["copy"], tuple(found["columns"]), found["key"], window, found["batch"], found["stream"]
    )
