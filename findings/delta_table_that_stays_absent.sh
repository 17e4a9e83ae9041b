#!/usr/bin/env bash
# Delta Lake: DeltaTable.isDeltaTable, asked while a table's _delta_log folder exists and holds no commit yet, answers no;
# and it goes on answering no in that session after another writer has committed the table, although the same session
# reads the table. Once it has been read, the answer is yes. A program that waits for a table in this way may wait for ever.
# Needs Python 3.10 or later with venv, and Java 17 or later. Exits 0 if the behaviour is as described, 1 if it is not.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyspark==4.2.0 delta-spark==4.4.0 deltalake==1.6.6 pyarrow==26.0.1
cat > "$work/program.py" <<'PYTHON'
import os
import platform
import sys
from importlib.metadata import version

import pyarrow as pa
from delta import DeltaTable, configure_spark_with_delta_pip
from deltalake import write_deltalake
from pyspark.sql import SparkSession

table = sys.argv[1] + "/table"
builder = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
)
spark = configure_spark_with_delta_pip(builder).getOrCreate()
spark.sparkContext.setLogLevel("OFF")
print("Python", platform.python_version(), "| pyspark", spark.version, "| delta-spark", version("delta-spark"),
      "| deltalake", version("deltalake"))

os.makedirs(table + "/_delta_log")  # as another writer makes it just before its first commit
asked_empty = DeltaTable.isDeltaTable(spark, table)
write_deltalake(table, pa.table({"a": [1, 2, 3]}))
asked_again = [DeltaTable.isDeltaTable(spark, table) for _ in range(3)]
rows = spark.read.format("delta").load(table).count()
asked_after_reading = DeltaTable.isDeltaTable(spark, table)
print("with an empty log:", asked_empty)
print("after another writer has committed:", asked_again)
print("rows that this session reads:", rows)
print("after reading:", asked_after_reading)
spark.stop()
seen = (asked_empty, asked_again, rows, asked_after_reading)
sys.exit(0 if seen == (False, [False] * 3, 3, True) else 1)
PYTHON
"$work/venv/bin/python" "$work/program.py" "$work" 2> "$work/errors" || { cat "$work/errors" >&2; exit 1; }
