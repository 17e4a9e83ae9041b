"""Keys that are bytes, as JSON: those of one column, and those that Kafka Streams writes for windows and sessions.

Behind the bytes of the key `TimeWindowedSerializer` puts the start of the window, eight bytes, big-endian, epoch
milliseconds; `SessionWindowedSerializer` puts the end of the session, which is its newest event, and then its start. Of
which type the bytes of the key are nobody can tell from them: it is declared.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.config.sections import ExternalBinding
from twinrun.job.job import Job

JSON_KEY, WHY_NO_KEY = "_json_key", "_why_no_key"
_TIME_BYTES = 8
_INNER_BYTES = {"bigint": 8, "int": 4}


def with_json_key(raw: DataFrame, binding: ExternalBinding, job: Job) -> DataFrame:
    """Add the key as a JSON object of key columns, and why it is none: one of the two is null. Lazy.

    Parameters
    ----------
    raw : DataFrame
        With ``key``, as Spark's Kafka source has it.
    binding : ExternalBinding
        With ``key_schema``, which names one column.
    """
    name, dtype = binding.key_column
    windows = binding.key == "kafka-streams"
    sessions = windows and job.shape == "session"
    behind = _TIME_BYTES * (windows + sessions)
    key = F.col("key")
    length = F.length(key)
    inner = F.expr(f"substring(key, 1, length(key) - {behind})")
    holds = "end and start of a session have 16" if sessions else "the start of a window has 8"
    wrong = F.when(key.isNull(), F.lit("it is null"))
    if windows:
        wrong = wrong.when(length < behind, F.concat(F.lit("it has "), length, F.lit(f" bytes, and {holds}")))
    before = "before the window's start" if windows else "in the key"
    if dtype == "string":
        cell: Column = inner.cast("string")
        wrong = wrong.when(~F.is_valid_utf8(cell), F.lit(f"what stands {before} is not UTF-8"))
    else:
        cell = _number(inner)
        wide = _INNER_BYTES[dtype]
        says = F.concat(length - behind, F.lit(f" bytes stand {before}, {dtype} has {wide}"))
        wrong = wrong.when(length != behind + wide, says)
    cells = [cell.alias(name)]
    if windows:
        start = _number(F.expr(f"substring(key, length(key) - {_TIME_BYTES - 1}, {_TIME_BYTES})"))
        wrong = wrong.when(*_no_window(start, behind, job))
        at: Column = start
        if binding.time_format == "iso8601":
            at = F.date_format(F.timestamp_millis(start), "yyyy-MM-dd'T'HH:mm:ss.SSSXXX")
        cells.append(at.alias(job.window_column))
    text = F.to_json(F.struct(*cells))
    return raw.withColumns({WHY_NO_KEY: wrong, JSON_KEY: F.when(wrong.isNull(), text).cast("binary")})


def _no_window(start: Column, behind: int, job: Job) -> tuple[Column, Column]:
    """When the times in a key are those of no window or session of the job, and what to say then."""
    if job.shape == "session":
        end = _number(F.expr(f"substring(key, length(key) - {behind - 1}, {_TIME_BYTES})"))
        says = F.concat(F.lit("its session begins at "), start, F.lit(" ms and ends at "), end, F.lit(" ms"))
        return (start < 0) | (end < start), says
    step_ms = job.slide_ms or job.window_ms or 1
    says = F.concat(F.lit("its window starts at "), start, F.lit(" ms, where no window of the job does"))
    return (start < 0) | (F.pmod(start, F.lit(step_ms)) != 0), says


def _number(data: Column) -> Column:
    """A big-endian two's complement number of 4 or 8 bytes; null where there are none."""
    text = F.hex(data)
    unsigned = F.conv(text, 16, -10).cast("bigint")
    return F.when((F.length(text) == 8) & (unsigned >= 2**31), unsigned - 2**32).otherwise(unsigned)
