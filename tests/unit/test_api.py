"""``from twinrun import verify, compare``: what a notebook gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from twinrun import absolute, compare, verify
from twinrun.errors import ConfigError, InputError, JobError
from twinrun.session.settings import with_settings


def test_frames_are_compared_as_by_the_command(spark_session: SparkSession) -> None:
    batch = spark_session.createDataFrame([("a", 1.0), ("b", 2.0)], "k STRING, v DOUBLE")
    stream = spark_session.createDataFrame([("a", 1.0), ("b", 2.5)], "k STRING, v DOUBLE")
    found = compare(batch, stream, keys=["k"])
    assert (found.verdict, [sample.key for sample in found.samples]) == ("different", ['{"k":"b"}'])
    assert compare(batch, stream, keys=["k"], tolerances={"v": absolute(0.5)}).verdict == "equal"
    assert compare(batch.limit(0), stream.limit(0), keys=["k"]).verdict == "nothing_compared"


def test_references_are_read_as_by_the_command(spark_session: SparkSession, tmp_path: Path) -> None:
    for name, value in (("one", 1), ("other", 2)):
        spark_session.createDataFrame([("a", value)], "k STRING, v INT").write.format("delta").save(
            f"{tmp_path}/{name}"
        )
    refs = (f"{tmp_path}/one", f"{tmp_path}/other")
    assert compare(*refs, keys=["k"], spark=spark_session).verdict == "different"
    assert compare(refs[0], refs[0], keys=["k"], spark=spark_session).verdict == "equal"


def test_what_cannot_be_compared_is_said(spark_session: SparkSession) -> None:
    frame = spark_session.range(1)
    with pytest.raises(InputError, match="one of the two is a frame"):
        compare(frame, "main.a.b", keys=["id"])
    with (
        with_settings(spark_session, {"spark.sql.session.timeZone": "Europe/Berlin"}),
        pytest.raises(ConfigError, match="time zone is Europe/Berlin"),
    ):
        compare(frame, frame, keys=["id"])


def test_a_verify_says_what_it_lacks(project: Path, spark_session: SparkSession) -> None:
    with pytest.raises(ConfigError):
        verify("orders", conf=project / "conf" / "none.yaml")
    conf = project / "conf" / "local.yaml"
    conf.write_text(
        "kafka: {bootstrap_servers: '127.0.0.1:9'}\nwarehouse: ./wh\nreport: {folder: ./r}\nspark: {master: local}\n"
    )
    with pytest.raises(JobError, match="orders"):
        verify("orders", conf=conf, settings={"verify.wait_s": 0}, spark=spark_session)
