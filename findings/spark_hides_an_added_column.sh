#!/usr/bin/env bash
# A column that pyarrow or pandas adds to a Parquet file of Spark's is invisible to Spark: it takes the list of columns
# from the note org.apache.spark.sql.parquet.row.metadata, which pyarrow copies with the rest of the metadata, and not
# from the file's own schema. Nothing is said; the values are lost to every query. mergeSchema changes nothing.
# Prints what each side sees. Exits non-zero when the behaviour changes. Needs Java 17 or 21 and python3.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyspark==4.2.0 pyarrow==26.0.1
cat >"$work/program.py" <<'PY'
import glob
import os
import sys

import pyarrow
import pyarrow.parquet as pq
import pyspark
from pyspark.sql import SparkSession

work = sys.argv[1]
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
spark.range(2).toDF("id").coalesce(1).write.parquet(f"{work}/orders")
file = glob.glob(f"{work}/orders/*.parquet")[0]

table = pq.read_table(file).append_column("discount", pyarrow.array([5, 500]))
for path in glob.glob(f"{work}/orders/.*.crc"):
    os.remove(path)
pq.write_table(table, file)

seen = {
    "the file": pq.read_schema(file).names,
    "Spark": spark.read.parquet(f"{work}/orders").columns,
    "Spark, mergeSchema": spark.read.option("mergeSchema", True).parquet(f"{work}/orders").columns,
    "Spark, told the schema": spark.read.schema("id BIGINT, discount BIGINT").parquet(f"{work}/orders").columns,
}
print(f"pyspark {pyspark.__version__}, pyarrow {pyarrow.__version__}")
for who, columns in seen.items():
    print(f"{who:24}{columns}")
spark.stop()
hidden = ["id"]
same = seen["the file"] == ["id", "discount"] and seen["Spark"] == hidden and seen["Spark, mergeSchema"] == hidden
print("as described" if same else "the behaviour has changed")
sys.exit(0 if same else 1)
PY
"$work/venv/bin/python" "$work/program.py" "$work"
