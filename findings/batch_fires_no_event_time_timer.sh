#!/usr/bin/env bash
# Spark transformWithState: the same processor, registering an event-time timer for each key, emits a row per expired
# timer in a stream, and none at all in a batch query over the same rows: no timer fires there, not even at the end of the
# input. The batch query takes timeMode "eventTime" and registerTimer without an error or a warning.
# Needs Python 3.10 or later with venv, and Java 17 or later. Exits 0 if the behaviour is as described, 1 if it is not.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyspark==4.2.0 pyarrow==26.0.1 pandas==2.3.3 protobuf==7.36.2
cat > "$work/program.py" <<'PYTHON'
import os
import platform
import sys
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
from pyspark.sql import Row, SparkSession
from pyspark.sql.streaming import StatefulProcessor

root = sys.argv[1]
os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .config(
        "spark.sql.streaming.stateStore.providerClass",
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
    )
    .getOrCreate()
)
spark.sparkContext.setLogLevel("OFF")
print("Python", platform.python_version(), "| pyspark", pyspark.__version__, "| Java",
      spark._jvm.java.lang.System.getProperty("java.version"))

start = datetime(2024, 1, 1, tzinfo=timezone.utc)
schema = pa.schema([("k", pa.string()), ("at", pa.timestamp("us", tz="UTC"))])
os.makedirs(f"{root}/rows")
# One key a file; each file lies an hour behind the one before, so that the watermark passes every timer but the last.
for number, key in enumerate(("a", "b", "c", "d")):
    made = [{"k": key, "at": start + timedelta(hours=number)}]
    path = f"{root}/rows/{number}.parquet"
    pq.write_table(pa.Table.from_pylist(made, schema=schema), path)
    os.utime(path, (1_600_000_000 + number,) * 2)


class Quiet(StatefulProcessor):
    """A row for each key, a minute of event time after it was seen."""

    def init(self, handle):
        self.handle = handle

    def handleInputRows(self, key, rows, timerValues):
        for row in rows:
            self.handle.registerTimer(int(row["at"].timestamp() * 1000) + 60_000)
        return iter(())

    def handleExpiredTimer(self, key, timerValues, expiredTimerInfo):
        yield Row(k=key[0])

    def close(self):
        pass


def quiet(streaming):
    reader = spark.readStream.option("maxFilesPerTrigger", 1) if streaming else spark.read
    rows = reader.schema("k STRING, at TIMESTAMP").parquet(f"{root}/rows").withWatermark("at", "10 seconds")
    return rows.groupBy("k").transformWithState(Quiet(), "k STRING", "append", "eventTime")


found = []
query = (
    quiet(True)
    .writeStream.foreachBatch(lambda rows, _: found.extend(row.k for row in rows.collect()))
    .option("checkpointLocation", f"{root}/checkpoint")
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
stream, batch = sorted(found), sorted(row.k for row in quiet(False).collect())
print("keys whose timer fired in the stream:", stream)
print("keys whose timer fired in the batch: ", batch)

as_described = stream == ["a", "b", "c"] and batch == []
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$work/venv/bin/python" "$work/program.py" "$work/data" 2>/dev/null
