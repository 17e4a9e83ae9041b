"""Single values that are easily taken for the same, and those that only look different."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from compare_probes import COLUMNS, PROBES, Probe, probe_table
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.comparator.result import Comparison
from twinrun.comparator.tables import compare_frames

Found = tuple[Comparison, dict[int, tuple[str, list[str]]]]


@pytest.fixture(scope="module")
def found(spark_session: SparkSession) -> Iterator[Found]:
    """All probes in one comparison, each a window of its own."""
    batch, stream = probe_table(spark_session, "batch").persist(), probe_table(spark_session, "stream").persist()
    tolerances = {name: tolerance for name, (_, tolerance) in COLUMNS.items() if tolerance is not None}
    comparison, differences = compare_frames(
        batch, stream, keys=["probe"], window_column="probe", tolerances=tolerances, sample_rows=3
    )
    rows = differences.select(F.col("window"), "kind", "columns").collect()
    yield comparison, {row["window"]: (row["kind"], row["columns"]) for row in rows}
    batch.unpersist()
    stream.unpersist()


@pytest.mark.parametrize(("number", "probe"), list(enumerate(PROBES)), ids=[probe.name for probe in PROBES])
def test_values_count_as_the_same_only_if_they_are(found: Found, number: int, probe: Probe) -> None:
    assert found[1].get(number) == (None if probe.same else ("changed", [probe.column]))


def test_the_numbers_agree_with_the_rows(found: Found) -> None:
    comparison, rows = found
    different = sum(not probe.same for probe in PROBES)
    assert comparison.verdict == "different"
    assert comparison.counts["changed"] == comparison.rows_different == len(rows) == different
    assert comparison.windows_different == different
    assert comparison.windows_equal == len(PROBES) - different
    assert {stats.name: stats.different for stats in comparison.columns} == {
        name: sum(probe.column == name and not probe.same for probe in PROBES) for name in COLUMNS
    }
    assert [sample.kind for sample in comparison.samples] == ["changed"] * 3


def test_exact_columns_are_told_apart_by_their_digests_alone(found: Found) -> None:
    # Only numbers next to the edge of a cell may be looked at in vain.
    tolerant = sum(probe.same and COLUMNS[probe.column][1] is not None for probe in PROBES)
    assert found[0].windows_different <= found[0].windows_suspected <= found[0].windows_different + tolerant


def test_distances_are_exact_where_the_numbers_are(found: Found) -> None:
    stats = {column.name: column for column in found[0].columns}
    assert stats["bigint rel"].max_abs == 2.0
    assert stats["decimal abs"].max_abs == 0.02
    assert stats["double rel"].max_rel == 2.0
    assert stats["string"].max_abs is None
