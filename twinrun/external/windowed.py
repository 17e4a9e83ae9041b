"""Keys that Kafka Streams writes for windows: the bytes of the key, and behind them the window's start, as JSON.

`TimeWindowedSerializer`: eight bytes, big-endian, epoch milliseconds; neither the end nor the length is in a record. Of
which type the bytes before them are nobody can tell from them: it is declared.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.config.sections import ExternalBinding
from twinrun.job.job import Job

JSON_KEY, WHY_NO_KEY = "_json_key", "_why_no_key"
_START_BYTES = 8
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
    key = F.col("key")
    length = F.length(key)
    inner = F.expr(f"substring(key, 1, length(key) - {_START_BYTES})")
    start = _number(F.expr(f"substring(key, length(key) - {_START_BYTES - 1}, {_START_BYTES})"))
    wrong = F.when(key.isNull(), F.lit("it is null")).when(
        length < _START_BYTES, F.concat(F.lit("it has "), length, F.lit(" bytes, and the start of a window has 8"))
    )
    if dtype == "string":
        cell: Column = inner.cast("string")
        wrong = wrong.when(~F.is_valid_utf8(cell), F.lit("what stands before the window's start is not UTF-8"))
    else:
        cell = _number(inner)
        wide = _INNER_BYTES[dtype]
        says = F.concat(length - _START_BYTES, F.lit(f" bytes stand before the window's start, {dtype} has {wide}"))
        wrong = wrong.when(length != _START_BYTES + wide, says)
    step_ms = job.slide_ms or job.window_ms or 1
    off = F.concat(F.lit("its window starts at "), start, F.lit(" ms, where no window of the job does"))
    wrong = wrong.when((start < 0) | (F.pmod(start, F.lit(step_ms)) != 0), off)
    at: Column = start
    if binding.time_format == "iso8601":
        at = F.date_format(F.timestamp_millis(start), "yyyy-MM-dd'T'HH:mm:ss.SSSXXX")
    text = F.to_json(F.struct(cell.alias(name), at.alias(job.window_column)))
    return raw.withColumns({WHY_NO_KEY: wrong, JSON_KEY: F.when(wrong.isNull(), text).cast("binary")})


def _number(data: Column) -> Column:
    """A big-endian two's complement number of 4 or 8 bytes; null where there are none."""
    text = F.hex(data)
    unsigned = F.conv(text, 16, -10).cast("bigint")
    return F.when((F.length(text) == 8) & (unsigned >= 2**31), unsigned - 2**32).otherwise(unsigned)
