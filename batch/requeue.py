"""Decode quarantined records again, after the decoder or the declaration was corrected.

Records that are valid now become events and stay in quarantine as a closed entry (``_requeued_seq``, ``_requeued_at``),
since a stream that read them before had refused them. Repeating a requeue changes nothing: an event is only inserted
where its coordinates are not there yet, and an entry is only closed for coordinates that are events.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.batch.decode import KIND, events_rows
from twinrun.config.model import Config
from twinrun.errors import InputError, TableError
from twinrun.events.decode import decode, decoder_fingerprint
from twinrun.events.rules import RULES
from twinrun.events.source import Source
from twinrun.session.plain import plain_errors
from twinrun.tables.control import add_record, latest_record
from twinrun.tables.delta import delta_table, one_change, read_table
from twinrun.tables.lease import held_lease

_PLACE = ("_topic", "_partition", "_offset")


@dataclass(frozen=True)
class RequeueSummary:
    """What one requeue did; ``examined`` = ``accepted`` + ``refused``."""

    source: str
    rule: str
    examined: int
    accepted: int
    refused: int


def run(spark: SparkSession, cfg: Config, source: Source, rule: str) -> RequeueSummary:
    """Decode the open quarantine of one rule again. About eight Spark jobs.

    Raises
    ------
    InputError
        There is no such rule.
    TableError
        Nothing was decoded yet.
    CheckpointError
        A decode or another requeue of this source is running.
    """
    if rule not in RULES:
        raise InputError(f"there is no quarantine rule {rule!r}.", expected="one of " + ", ".join(RULES))
    with held_lease(spark, cfg, f"decode:{source.name}", f"twinrun requeue {source.name}"), plain_errors("the requeue"):
        last = latest_record(spark, cfg, KIND, source.name)
        if last is None:
            raise TableError(
                f"the source {source.name} was never decoded.", fix="run a batch of a job that reads it first"
            )
        if last.payload["phase"] != "done":
            raise TableError(
                f"the last decode of {source.name} did not finish.", fix="run a batch of a job that reads it first"
            )
        quarantine_ref = cfg.table("quarantine", source=source.name)
        open_rows = read_table(spark, quarantine_ref).filter((F.col("_rule") == rule) & F.col("_requeued_seq").isNull())
        examined = open_rows.count()
        bronze = read_table(spark, cfg.table("bronze", topic=cfg.source(source.name).topic))
        same = [bronze[b] == open_rows[q] for b, q in zip(("topic", "partition", "offset"), _PLACE, strict=True)]
        decoded = decode(bronze.join(open_rows, same, "left_semi"), source)
        seq = int(last.payload["seq"]) + 1
        events_ref = cfg.table("events", source=source.name)
        accepted_rows = events_rows(decoded, source, seq)
        on_place = " AND ".join(f"target.{name} = source.{name}" for name in _PLACE)
        with one_change(spark):
            (
                delta_table(spark, events_ref)
                .alias("target")
                .merge(accepted_rows.alias("source"), on_place)
                .whenNotMatchedInsertAll()
                .execute()
            )
        # The number is recorded before the entries are closed: a batch then sees the new events as new.
        add_record(spark, cfg, KIND, source.name, {**last.payload, "seq": seq})
        events = read_table(spark, events_ref)
        landed = open_rows.join(events, list(_PLACE), "left_semi").select(*_PLACE)
        accepted = landed.count()
        with one_change(spark):
            (
                delta_table(spark, quarantine_ref)
                .alias("target")
                .merge(landed.alias("source"), on_place)
                .whenMatchedUpdate(
                    "target._requeued_seq IS NULL",
                    set={
                        "_requeued_seq": F.lit(seq).cast("bigint"),
                        "_requeued_at": F.current_timestamp(),
                        "_requeued_decoder": F.lit(decoder_fingerprint(source)),
                    },
                )
                .execute()
            )
    return RequeueSummary(source.name, rule, examined, accepted, examined - accepted)
