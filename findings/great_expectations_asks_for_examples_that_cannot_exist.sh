#!/usr/bin/env bash
# On Spark, Great Expectations collects examples of rows that break an expectation also where none does: a query over
# the whole table for each expectation of rows that holds, in every result format but BOOLEAN_ONLY. A suite of ten
# expectations that all hold makes a query for each of them, and a few when it is only asked yes or no.
# Prints the number of Spark jobs by result format. Exits non-zero when the behaviour changes. Needs Java 17 or 21 and
# python3.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyspark==4.2.0 great-expectations==1.24.1
cat >"$work/program.py" <<'PY'
import logging
import os
import sys
import warnings

os.environ["GX_ANALYTICS_ENABLED"] = "false"
warnings.simplefilter("ignore")
# The library looks for Spark Connect, which is not installed here.
sys.modules["pyspark.sql.connect"] = None
import great_expectations as gx
import pyspark
from pyspark.sql import SparkSession

logging.getLogger("great_expectations").setLevel(logging.ERROR)
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
columns = list("abcdefghij")
frame = spark.range(100).selectExpr(*[f"id AS {name}" for name in columns]).localCheckpoint()


def jobs_of(result_format):
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_spark(result_format).add_dataframe_asset("table")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    wanted = [gx.expectations.ExpectColumnValuesToBeBetween(column=name, min_value=0) for name in columns]
    spark.sparkContext.setJobGroup(result_format, result_format)
    found = batch.validate(gx.ExpectationSuite(name=result_format, expectations=wanted), result_format=result_format)
    assert found.success
    return len(spark.sparkContext.statusTracker().getJobIdsForGroup(result_format))


print(f"pyspark {pyspark.__version__}, great_expectations {gx.__version__}")
counts = {name: jobs_of(name) for name in ("BOOLEAN_ONLY", "BASIC", "SUMMARY")}
for name, count in counts.items():
    print(f"{name:14}{count} Spark jobs for {len(columns)} expectations that hold")
spark.stop()
same = counts["BOOLEAN_ONLY"] < len(columns) <= counts["BASIC"] <= counts["SUMMARY"]
print("as described" if same else "the behaviour has changed")
sys.exit(0 if same else 1)
PY
"$work/venv/bin/python" "$work/program.py"
