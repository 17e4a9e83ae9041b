"""The watermark that a checkpoint hands on to its next micro-batch, in the file that says the last one is done."""

from __future__ import annotations

import json
from typing import Any

from pyspark.sql import SparkSession

from twinrun.tables.files import read_text, write_text

_NEXT = "nextBatchWatermarkMs"


def hand_on(spark: SparkSession, checkpoint: str, micro_batch: int, watermark_ms: int) -> None:
    """Let the next start of a stopped query begin with this watermark (epoch ms) instead of its own.

    Only for a checkpoint of one's own: it replaces what Spark wrote. A start takes the watermark of the last
    micro-batch, or of its commit file where that is later (Spark: MicroBatchExecution).
    """
    path = f"{checkpoint}/commits/{micro_batch}"
    version, text = read_text(spark, path).split("\n", 1)
    facts: dict[str, Any] = json.loads(text)
    write_text(spark, path, f"{version}\n{json.dumps({**facts, _NEXT: watermark_ms})}")
