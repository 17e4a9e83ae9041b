"""Compare two tables: schemas, then a digest per window, then the rows of the windows that differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.types import DataType

from twinrun.comparator.digest import (
    GROUP,
    PENDING,
    TOLD_GROUPS,
    Overview,
    Selection,
    column_name,
    digest,
    encode_group,
    everything,
    overview,
    paired_digests,
    prepare,
    row_digests,
    select_groups,
)
from twinrun.comparator.result import Audit, ColumnStats, Comparison, Sample
from twinrun.comparator.rows import (
    KINDS,
    RepeatedKeys,
    differing_pairs,
    differing_pairs_once,
    public_columns,
    public_rows,
    repeated_keys,
    repeated_keys_within,
)
from twinrun.comparator.schema import PlannedColumn, SchemaPlan, need_kept, offset_s, plan_schema, type_named
from twinrun.comparator.values import NUMERICS, distance
from twinrun.errors import TableError
from twinrun.tolerance import Tolerance

# Sums over the differing rows: by kind, by column, by window, and a few samples.


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
        From :func:`twinrun.comparator.rows.differing_pairs`.
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


@dataclass(frozen=True)
class _Tables:
    plan: SchemaPlan
    batch: DataFrame
    stream: DataFrame

    def pairs(self, selection: Selection, repeated: RepeatedKeys) -> DataFrame:
        """The differing rows of some groups; ``repeated`` has been counted in these at least."""
        paired = differing_pairs if repeated.batch or repeated.stream else differing_pairs_once
        return paired(selection.rows(self.batch), selection.rows(self.stream), self.plan)


def compare_frames(
    batch: DataFrame,
    stream: DataFrame,
    *,
    keys: Sequence[str],
    window_column: str | None = None,
    tolerances: Mapping[str, Tolerance | float] | None = None,
    ignore: Iterable[str] = (),
    types: Mapping[str, DataType | str] | None = None,
    naive_time_zone: str | None = None,
    ready_until: datetime | Column | None = None,
    buckets: int = 64,
    sample_rows: int = 20,
    full: bool = False,
    every_key: bool = False,
    materialise: bool = False,
) -> tuple[Comparison, DataFrame]:
    """Compare two tables row by row, whatever the order of their rows.

    One Spark action where the digests agree, three where they differ, one more each for ``full``, for ``every_key``
    where they agree, and for more than 10,000 windows that differ; each returns a few small rows, nothing is cached
    unless asked for. Both tables are read once for the digests, and the windows that differ twice more: their rows,
    and their keys.

    Parameters
    ----------
    batch, stream : DataFrame
        Tables, not queries: a filter on a window's end may be pushed below a session window and change its rows. They
        must give the same rows each time they are read: pin versions.
    keys : sequence of str
        The columns that name a row. Null equals null. Keys may repeat; then copies are matched as a multiset.
    window_column : str, optional
        The column by which rows are grouped. Without one, they are grouped by a hash of the key.
    tolerances : mapping of str to Tolerance or float, optional
        Numeric columns that may differ a little; a bare number is absolute. All others are exact.
    ignore : iterable of str
        Columns that are not compared, such as lineage.
    types : mapping of str to DataType or str, optional
        As what plain columns are compared whose types differ, such as ``{"zip": "int"}``. A value that is none of that
        type, or that becomes another one, is an error; one Spark action more per table where there may be any.
    naive_time_zone : str, optional
        UTC or an offset such as ``+01:00``: a timestamp_ntz column is read as times of that zone where the other
        table's is a timestamp. The session must be in UTC.
    ready_until : datetime or Column, optional
        An instant with a time zone: rows whose window column is later are counted as pending and not compared. Where
        the window column is not the end of the window, a condition over the tables' columns, true for rows to compare.
        Rows for which it is null are compared.
    buckets : int
        Groups by key hash where there is no window column; more buckets, fewer rows to look at for one difference.
    sample_rows : int
        Samples per kind of difference in the result, at most.
    full : bool
        Audit: look at every row, exactly and without any hash, and check that the digests had led to the same. Takes
        in ``every_key``.
    every_key : bool
        Count repeated keys among all rows, at the cost of a shuffle of all keys of the batch. Otherwise they are
        counted in the windows whose digests differ; in all others both sides repeat the same ones, if any.
    materialise : bool
        Cut the differing rows off from their plan before they are counted (a local checkpoint, on the executors), so
        that whoever reads them several times does not compare several times.

    Returns
    -------
    Comparison
        The numbers.
    DataFrame
        All differing rows, lazily: ``key`` (struct), ``window``, ``kind``, ``columns`` (array of the names that
        differ), ``batch`` and ``stream`` (structs, null where a side has no row), ``copy``. No order. Each read costs
        one shuffle of the windows that differ, unless ``materialise``.

    Raises
    ------
    TableError
        If a column is missing or cannot be used as asked, or ``ready_until`` cannot be applied.
    """
    if buckets < 1 or sample_rows < 0:
        found = f"buckets is {buckets} and sample_rows is {sample_rows}"
        raise TableError(found, expected="buckets of at least 1, sample_rows of at least 0")
    declared = {name: type_named(given) if isinstance(given, str) else given for name, given in (types or {}).items()}
    naive = None if naive_time_zone is None else offset_s(naive_time_zone)
    if naive is not None and batch.sparkSession.conf.get("spark.sql.session.timeZone") != "UTC":
        raise TableError("naive_time_zone needs a session in UTC.", fix="set spark.sql.session.timeZone to UTC")
    plan = plan_schema(batch.schema, stream.schema, keys, window_column, tolerances or {}, ignore, declared, naive)
    need_kept(batch, plan, "batch")
    need_kept(stream, plan, "stream")
    tables = _Tables(
        plan,
        prepare(batch, plan, "batch", ready_until, buckets),
        prepare(stream, plan, "stream", ready_until, buckets),
    )
    of_side = digest if _fuses(batch) else row_digests
    digests = paired_digests(of_side(tables.batch, plan), of_side(tables.stream, plan))
    seen = overview(digests, plan)
    unequal = digests.where(~F.col(PENDING) & ~F.col("equal")).select(GROUP)
    suspected = select_groups(plan, seen.groups, seen.groups_unequal, seen.unequal, unequal)
    looked_at = everything() if full else suspected
    if full or every_key:
        # An audit does not take equal digests for equal rows.
        repeated = repeated_keys(tables.batch, tables.stream, plan, looked_at)
    else:
        repeated = repeated_keys_within(tables.batch, tables.stream, plan, suspected)
    pairs = tables.pairs(looked_at, repeated)
    if materialise and (full or seen.groups_unequal):
        pairs = pairs.localCheckpoint()
    details = no_details()
    if full or seen.groups_unequal:
        details = count_details(pairs, plan, sample_rows, seen.groups_unequal)
    audit: Audit = "not_run"
    if full:
        found_by_digest = tables.pairs(suspected, repeated).count() if seen.groups_unequal else 0
        audit = "agrees" if found_by_digest == sum(details.counts.values()) else "disagrees"
    return _comparison(plan, seen, details, repeated, audit), public_rows(pairs, plan)


def _fuses(frame: DataFrame) -> bool:
    """Whether Spark reads, hashes and sums up in one generated loop, which a union of both sides would break."""
    return frame.sparkSession.conf.get("spark.sql.codegen.wholeStage") == "true"


def _comparison(plan: SchemaPlan, seen: Overview, details: Details, repeated: RepeatedKeys, audit: Audit) -> Comparison:
    windows = seen.groups if plan.window is not None else 0
    return Comparison(
        schema=plan,
        rows_batch=seen.rows_batch,
        rows_stream=seen.rows_stream,
        pending_batch=seen.pending_batch,
        pending_stream=seen.pending_stream,
        windows_compared=windows,
        windows_equal=windows - details.windows,
        windows_different=details.windows,
        windows_suspected=seen.groups_unequal,
        keys_repeated_batch=repeated.batch,
        keys_repeated_stream=repeated.stream,
        keys_counted=repeated.among,
        counts=details.counts,
        columns=details.columns,
        samples=details.samples,
        audit=audit,
    )
