#!/usr/bin/env bash
# Spark Structured Streaming: an outer join of two streams whose condition looks, in part, at the kept side alone loses
# rows. A left row that meets that part and finds no partner never comes out, however far the watermark goes; batch has
# it. A row that fails that part is padded with nulls at once. Valid input, no error, no warning.
# Needs Python 3.10 or later with venv, and Java 17 or later. Exits 0 if the behaviour is as described, 1 if it is not.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyspark==4.2.0 pyarrow==26.0.1
cat > "$work/program.py" <<'PYTHON'
import os
import platform
import sys
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

root = sys.argv[1]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("OFF")
print("Python", platform.python_version(), "| pyspark", pyspark.__version__, "| Java",
      spark._jvm.java.lang.System.getProperty("java.version"))

start = datetime(2024, 1, 1, tzinfo=timezone.utc)
schema = pa.schema([("k", pa.string()), ("at", pa.timestamp("us", tz="UTC")), ("v", pa.int32())])


def write(name, files):
    os.makedirs(f"{root}/{name}")
    for number, rows in enumerate(files):
        made = [{"k": k, "at": start + timedelta(seconds=s), "v": v} for k, s, v in rows]
        path = f"{root}/{name}/{number}.parquet"
        pq.write_table(pa.Table.from_pylist(made, schema=schema), path)
        os.utime(path, (1_600_000_000 + number,) * 2)


# Everything of interest is in the first file; the others only push the watermark on, by an hour each.
later = [[("later", 3600 * hour, 9)] for hour in (1, 2, 3)]
write("left", [[("alone-1", 0, 1), ("alone-9", 0, 9), ("paired-9", 0, 9)], *later])
write("right", [[("paired-9", 1, 0)], *later])


def frame(name, streaming):
    reader = spark.readStream.option("maxFilesPerTrigger", 1) if streaming else spark.read
    rows = reader.schema("k STRING, at TIMESTAMP, v INT").parquet(f"{root}/{name}")
    return rows.withWatermark("at", "10 seconds") if streaming else rows


def joined(condition, streaming):
    near = "l.k = r.k AND r.at BETWEEN l.at AND l.at + INTERVAL 5 SECONDS" + condition
    rows = frame("left", streaming).alias("l").join(frame("right", streaming).alias("r"), F.expr(near), "left")
    return rows.select("l.k", F.col("r.v").alias("partner"))


def without_later(rows):
    # Not a filter of the query: Spark would move it below the watermark, which then stands still.
    return sorted((row for row in rows if "later" not in row), key=str)


def streamed(condition):
    found = []

    def keep(rows, number):
        found.extend((number, *row) for row in rows.collect())

    query = joined(condition, True).writeStream.foreachBatch(keep).trigger(availableNow=True).start()
    query.awaitTermination()
    return without_later(found)


lost = {}
for condition in ("", " AND l.v > 5"):
    batch = without_later(tuple(row) for row in joined(condition, False).collect())
    stream = streamed(condition)
    lost[condition] = [row for row in batch if row not in [each[1:] for each in stream]]
    print(f"\nleft outer join ON k, time range{condition}")
    print("  batch:                      ", batch)
    print("  stream (micro-batch first): ", stream)
    print("  never comes out:            ", lost[condition])

expected = {"": [], " AND l.v > 5": [("alone-9", None)]}
print("\nas described" if lost == expected else f"\nCHANGED: expected {expected}, found {lost}")
sys.exit(lost != expected)
PYTHON
"$work/venv/bin/python" "$work/program.py" "$work/data" 2>/dev/null
