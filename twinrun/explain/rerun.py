"""Differences that no event explains: floating-point order, and a function that does not repeat itself."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType, DoubleType, FloatType

from twinrun.comparator.digest import sent
from twinrun.events.exact import quoted
from twinrun.explain.differing import KEY_ID, differing, differing_keys, rows_at
from twinrun.explain.evidence import ProofInputs, causes_of
from twinrun.explain.used import batch_rows, stream_rows
from twinrun.job.job import Job
from twinrun.tolerance import rel

# One proof after another: each looks only at what those before it left unexplained.


def with_verdict(rows: DataFrame, verdict: str) -> DataFrame:
    """The rows with one ``verdict`` for all, and no ``causes``; lazy."""
    return rows.withColumns({"verdict": F.lit(verdict), "causes": F.create_map().cast("map<string,bigint>")})


def still_open(judged: DataFrame) -> bool:
    """Whether a row is still unexplained. One Spark job."""
    return judged.filter(F.col("verdict") == "unexplained").limit(1).count() > 0


def rest_of(judged: DataFrame) -> DataFrame:
    """The rows that are still unexplained, without verdict and causes; lazy."""
    return judged.filter(F.col("verdict") == "unexplained").drop("verdict", "causes")


def with_more(judged: DataFrame, later: DataFrame | None) -> DataFrame:
    """What is proven so far, with what a later proof says about the rest. One Spark job, or none without one."""
    if later is None:
        return judged
    done = judged.filter(F.col("verdict") != "unexplained")
    return done.unionByName(later, allowMissingColumns=True).localCheckpoint()


# Differences that no event explains: floating-point order, and a function that does not repeat itself.
#
# Floating-point addition depends on order. Whether a row differs by that alone is decided by exact arithmetic: the same
# function over the same events, their floating-point fields cast to decimals, so that sums and means come out exact.


_EXACT = DecimalType(38, 15)
_ROUNDING = 1e-9
"""Largest share by which order alone is taken to change the sum of some numbers. Beyond it nothing is claimed."""


def explain_floats(job: Job, rows: DataFrame, inputs: ProofInputs) -> DataFrame | None:
    """Judge the rows whose differing columns are all floating-point; None where the job has no such exact form. Lazy.

    Claimed only if the function, over decimals, gives a decimal column, and both tables lie within `_ROUNDING` of it.

    Parameters
    ----------
    rows : DataFrame
        Differing rows with `KEY_ID`, ``kind``, ``columns`` and ``place``, of a job with a closed form.
    """
    source = job.sources[0]
    exact = _exact(inputs.marked[source.name])
    try:
        of_stream = stream_rows(job, exact, inputs.stream_static)
        of_batch = batch_rows(job, {source.name: exact}, inputs.batch_static)
        names = _summed(of_batch, inputs.sides.batch)
        if not names:
            return None
        keys = sent(rows.select(KEY_ID).distinct().localCheckpoint())
        stream, batch = (
            rows_at(job, _as_double(frame, names), keys).localCheckpoint() for frame in (of_stream, of_batch)
        )
    except Exception:  # a function that does not take decimals, or sums beyond 38 digits: nothing is claimed
        return None
    loose = _loose(job, names)
    held_stream, held_batch = (rows_at(job, frame, keys) for frame in (inputs.sides.stream, inputs.sides.batch))
    judged = causes_of(rows, inputs.evidence)
    flags = [
        differing_keys(loose, stream, held_stream, "_far_stream"),
        differing_keys(loose, batch, held_batch, "_far_batch"),
        differing_keys(job, stream, batch, "_events"),
    ]
    for flag in flags:
        judged = judged.join(flag, KEY_ID, "left")
    only_floats = F.size(F.array_except("columns", F.array(*[F.lit(name) for name in names]))) == 0
    near = F.col("_far_stream").isNull() & F.col("_far_batch").isNull() & (F.col("kind") == "changed")
    rounding = F.create_map(F.lit("float_order"), F.lit(0).cast("bigint"))
    events = F.when(F.col("_events").isNotNull(), F.col("causes"))
    found = F.map_concat(F.coalesce(events, F.create_map().cast("map<string,bigint>")), rounding)
    # Events that change the exact value must be named; then their columns differ too, floating-point or not.
    proven = near & F.when(F.col("_events").isNotNull(), F.size("causes") > 0).otherwise(only_floats)
    return _judged(judged, rows.columns, proven, found)


def explain_unstable(job: Job, rows: DataFrame, inputs: ProofInputs) -> DataFrame:
    """Judge the rows whose batch, run twice more over the same events, differs from itself. Lazy.

    The second run reads the events in another order and in other partitions.
    """
    mixed = {
        name: frame.repartition(7, F.xxhash64("_offset", "_partition")).sortWithinPartitions(F.xxhash64("_offset"))
        for name, frame in inputs.marked.items()
    }
    keys = sent(rows.select(KEY_ID).distinct().localCheckpoint())
    once = rows_at(job, batch_rows(job, inputs.marked, inputs.batch_static).localCheckpoint(), keys)
    again = rows_at(job, batch_rows(job, mixed, inputs.batch_static).localCheckpoint(), keys)
    # The last bits of floating-point sums do not count here: they would hide any other change of such a column.
    floats = [field.name for field in once.schema if isinstance(field.dataType, DoubleType | FloatType)]
    found_twice = differing(_loose(job, floats), once, again).groupBy(KEY_ID)
    unstable = found_twice.agg(
        F.flatten(F.collect_set("columns")).alias("_changing"), F.max(F.col("kind") != "changed").alias("_coming")
    )
    judged = rows.join(unstable, KEY_ID, "left")
    same_columns = F.size(F.array_except("columns", F.coalesce("_changing", F.array().cast("array<string>")))) == 0
    proven = F.when(F.col("kind") == "changed", same_columns & F.col("_changing").isNotNull()).otherwise(
        F.col("_coming")
    )
    found = F.create_map(F.lit("nondeterministic"), F.lit(0).cast("bigint"))
    return _judged(judged, rows.columns, proven, found)


def _loose(job: Job, names: list[str]) -> Job:
    return replace(job, tolerances={**job.tolerances, **{n: rel(_ROUNDING) for n in names if n not in job.keys}})


def _judged(frame: DataFrame, columns: list[str], proven: Column, found: Column) -> DataFrame:
    none = F.create_map().cast("map<string,bigint>")
    done = frame.withColumn("_proven", F.coalesce(proven, F.lit(False)))
    done = done.withColumn("_found", F.when(F.col("_proven"), found).otherwise(none))
    verdict = F.when(F.col("_proven"), F.lit("explained")).otherwise(F.lit("unexplained"))
    kept = [F.col(quoted(name)) for name in columns]
    return done.select(*kept, verdict.alias("verdict"), F.col("_found").alias("causes"))


def _exact(events: DataFrame) -> DataFrame:
    """Floating-point fields as decimals. NaN and infinities have none: then nothing is claimed."""
    floats = [field.name for field in events.schema if isinstance(field.dataType, DoubleType | FloatType)]
    return events.withColumns({name: F.col(quoted(name)).try_cast(_EXACT) for name in floats})


def _summed(exact: DataFrame, held: DataFrame) -> list[str]:
    """Floating-point columns of the table that the function computes as decimals when it is given decimals."""
    kinds = {field.name: field.dataType for field in exact.schema}
    floats = [field.name for field in held.schema if isinstance(field.dataType, DoubleType | FloatType)]
    return [name for name in floats if isinstance(kinds.get(name), DecimalType)]


def _as_double(rows: DataFrame, names: list[str]) -> DataFrame:
    return rows.withColumns({name: F.col(quoted(name)).cast("double") for name in names})
