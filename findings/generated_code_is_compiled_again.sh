#!/usr/bin/env bash
# Spark keeps the generated code of 100 classes per JVM, the least recently used go first (the internal setting
# spark.sql.codegen.cache.maxEntries). A session that repeats one query with more classes than that, or some queries in
# turn, compiles them all again each time, and Java's own compilers start anew on each copy. With room for them, a
# repetition compiles nothing. Runs 60 queries twice, each of some classes, and counts what was compiled.
# Exits non-zero when the behaviour changes. Needs Java 17 or 21 and python3.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyspark==4.2.0
cat >"$work/program.py" <<'PY'
import sys
import time

import pyspark
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

room = sys.argv[1]
builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
builder = builder.config("spark.sql.shuffle.partitions", "1").config("spark.sql.codegen.cache.maxEntries", room)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
compiled = spark._jvm.org.apache.spark.metrics.source.CodegenMetrics.METRIC_COMPILATION_TIME()


def run_all():
    before, began = compiled.getCount(), time.monotonic()
    for number in range(1, 61):
        rows = spark.range(10).select(*[(F.col("id") + place).alias(f"c{place}") for place in range(number % 6 + 1)])
        rows.groupBy((F.col("c0") % number).alias("k")).agg(F.max(F.col("c0") * number)).orderBy("k").collect()
    return compiled.getCount() - before, time.monotonic() - began


first, again = run_all(), run_all()
print(f"pyspark {pyspark.__version__}, room for {room} classes:")
for name, (classes, seconds) in (("first", first), ("again", again)):
    print(f"  {name}: {classes} classes compiled, {seconds:.1f} s")
spark.stop()
expected = again[0] > first[0] / 2 > 50 if room == "100" else again[0] == 0
print("as described" if expected else "the behaviour has changed")
sys.exit(0 if expected else 1)
PY
"$work/venv/bin/python" "$work/program.py" 100
"$work/venv/bin/python" "$work/program.py" 2000
