"""Which flights a stream dropped, and what both results must be: polars over what was recorded, no code of the product.

The rule, written a second time: a record that micro-batch b read is dropped when its hour had ended at or before the
watermark of micro-batch b - 1 (0 before the first); an hour comes out when the watermark has reached its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from twinrun.config.model import Config


@dataclass(frozen=True)
class Expected:
    """What must have come out.

    ``dropped`` are (partition, offset); ``batch`` and ``stream`` have ``origin``, ``start_ms`` and ``flights``.
    """

    micro_batches: int
    watermark_ms: int
    dropped: set[tuple[int, int]]
    batch: pl.DataFrame
    stream: pl.DataFrame


def expected_of(cfg: Config, query_id: str, window_ms: int) -> Expected:
    """Work it out from bronze and the micro-batch log."""
    log = pl.read_delta(cfg.table("micro_batches")).filter(pl.col("query_id") == query_id).sort("micro_batch")
    log = log.with_columns(late_ms=pl.col("watermark_ms").shift(1).fill_null(0))
    ends = log.explode("end_offsets").unnest("end_offsets").select("partition", "offset", "micro_batch", "late_ms")
    ends = ends.sort("micro_batch").with_columns(
        before=pl.col("offset").shift(1).over("partition", order_by="micro_batch").fill_null(0)
    )
    read = ends.filter(pl.col("offset") > pl.col("before")).with_columns(last=pl.col("offset") - 1).drop("offset")
    bronze = pl.read_delta(cfg.table("bronze", topic="flights")).select("partition", "offset", "value")
    text = pl.col("value").cast(pl.String)
    fields = bronze.with_columns(
        origin=text.str.json_path_match("$.origin"),
        at_ms=text.str.json_path_match("$.scheduled_departure").cast(pl.Int64),
    ).drop("value")
    events = fields.with_columns(start_ms=pl.col("at_ms") // window_ms * window_ms).with_columns(
        partition=pl.col("partition").cast(pl.Int32)
    )
    judged = events.sort("offset").join_asof(
        read.with_columns(partition=pl.col("partition").cast(pl.Int32)).sort("last"),
        left_on="offset",
        right_on="last",
        by="partition",
        strategy="forward",
        check_sortedness=False,  # both are in order of offset within each partition
    )
    late = pl.col("start_ms") + window_ms <= pl.col("late_ms")
    watermark = log["watermark_ms"].max()
    assert isinstance(watermark, int)
    closed = pl.col("start_ms") + window_ms <= watermark
    by = ["origin", "start_ms"]
    return Expected(
        micro_batches=log.height,
        watermark_ms=watermark,
        dropped=set(judged.filter(late).select("partition", "offset").iter_rows()),
        batch=events.group_by(by).len("flights").sort(by),
        stream=judged.filter(~late).filter(closed).group_by(by).len("flights").sort(by),
    )


def tables_problems(expected: Expected, batch_table: str, stream_table: str) -> tuple[str, ...]:
    """Where the product's two tables are not what was worked out; one sentence each."""
    problems = []
    for mode, path, rows in (("batch", batch_table, expected.batch), ("stream", stream_table, expected.stream)):
        held = pl.read_delta(path).select(
            "origin",
            start_ms=pl.col("window_start").dt.epoch("ms"),
            flights=pl.col("flights").cast(pl.UInt32),
        )
        held = held.sort(["origin", "start_ms"])
        wanted = rows.with_columns(flights=pl.col("flights").cast(pl.UInt32))
        if not held.equals(wanted):
            other = held.join(wanted, on=["origin", "start_ms", "flights"], how="anti").height
            problems.append(f"the {mode}'s table has {held.height} rows, {other} of them not as worked out")
    return tuple(problems)
