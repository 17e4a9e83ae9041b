"""The same from Python, in a notebook or a test: ``from twinrun import verify, compare``.

Both take the session that is there, and start one of twinrun's own where there is none; neither stops it. What they
return is frozen and holds no rows but samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from twinrun.errors import ConfigError, InputError, MachineError
from twinrun.tolerance import Tolerance

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from twinrun.comparator.result import Comparison
    from twinrun.config.model import Config
    from twinrun.results.verdict import Verdict

_CONF = Path("conf/local.yaml")


def verify(
    job: str,
    *,
    conf: str | Path = _CONF,
    settings: Mapping[str, object] | None = None,
    strict: bool = False,
    wait_s: float | None = None,
    full: bool = False,
    spark: SparkSession | None = None,
) -> Verdict:
    """Compare both results of a job at one cut and prove why rows differ: ``twinrun verify`` without a report.

    Parameters
    ----------
    job : str
        A name of the configuration's ``jobs``, or the path of a job file.
    conf : str or Path
        The YAML file; relative paths in it start at the folder above ``conf/``.
    settings : mapping, optional
        Single settings in place of the file's, by dotted name: ``{"warehouse": "/data/wh"}``.
    strict : bool
        Any difference, even a proven and expected one, makes ``exit_code`` 1.
    wait_s : float, optional
        Seconds to wait until the batch covers the cut; by default ``verify.wait_s``.
    full : bool
        Also compare every row exactly, besides the digests.
    spark : SparkSession, optional
        By default the active one, else one of twinrun's own. Its time zone must be UTC.

    Returns
    -------
    Verdict
        Frozen: ``outcome``, ``exit_code`` (0 or 1), ``problems``, counts, causes and samples. The rows are in the
        tables ``differences`` and ``late_events``. Instants are epoch milliseconds (``_ms``), UTC. Some tens of small
        Spark jobs.

    Raises
    ------
    ConfigError, JobError
        The configuration or the job cannot be used.
    TableError, QueryError, CheckpointError
        A mode never ran, a table or the evidence that is needed is gone or cannot be read, or another verify of this
        job is running.
    """
    from twinrun.config.load import load_config
    from twinrun.explain.verify import verify as run
    from twinrun.history.history import with_history
    from twinrun.job.check import check_definition, check_topics
    from twinrun.job.loader import find_job

    cfg = load_config(Path(conf), [f"{name}={value}" for name, value in (settings or {}).items()])
    found = find_job(cfg, job)
    check_definition(found)
    check_topics(cfg, found)
    session = _session(spark, cfg)
    return with_history(session, cfg, run(session, cfg, found, strict=strict, wait_s=wait_s, full=full))


def compare(
    batch: DataFrame | str,
    stream: DataFrame | str,
    *,
    keys: Sequence[str],
    window: str | None = None,
    ready_until: datetime | None = None,
    tolerances: Mapping[str, Tolerance] | None = None,
    ignore: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
    naive_time_zone: str | None = None,
    full: bool = False,
    samples: int = 20,
    spark: SparkSession | None = None,
) -> Comparison:
    """Compare two tables row by row, without a job and without Kafka: ``twinrun compare``.

    Parameters
    ----------
    batch, stream : DataFrame or str
        Rows, or a reference: a path of a Delta table or of a folder of Parquet files, or a catalog name. Two frames or
        two references.
    keys : sequence of str
        The columns that name a row.
    window : str, optional
        The column by which rows are grouped.
    ready_until : datetime, optional
        Rows whose window is later are pending, and not compared. Needs ``window``.
    tolerances : mapping of str to Tolerance, optional
        How far a column may differ: `twinrun.absolute` or `twinrun.rel`.
    ignore : sequence of str
        Columns that are left out.
    types : mapping of str to str, optional
        Columns that are compared as another type: ``{"zip": "int"}``.
    naive_time_zone : str, optional
        Take times without a zone to be of this one, such as ``UTC``.
    full : bool
        Look at every row exactly, without digests, and count every repeated key.
    samples : int
        Differing rows in the result.
    spark : SparkSession, optional
        For references; by default the active one, else one of twinrun's own. Its time zone must be UTC.

    Returns
    -------
    Comparison
        Frozen: ``verdict`` (``equal``, ``different`` or ``nothing_compared``), counts by kind, columns that differ, and
        samples in key order. About five Spark jobs where the tables are equal.

    Raises
    ------
    InputError
        A frame was given beside a reference, or ``ready_until`` without ``window``.
    TableError, QueryError
        A table or a column is missing, cannot be read, or cannot be compared as asked.
    """
    from twinrun.comparator.references import Asked, compare_tables
    from twinrun.comparator.tables import compare_frames
    from twinrun.results.records import LINEAGE
    from twinrun.session.plain import plain_errors

    if ready_until is not None and window is None:
        raise InputError("ready_until needs the window that it looks at.", fix="name it: window=COLUMN")
    if isinstance(batch, str) != isinstance(stream, str):
        raise InputError(
            "one of the two is a frame and the other a reference.",
            expected="two frames, or two references",
            fix="read the table yourself: spark.read.format('delta').load(PATH)",
        )
    left_out = (*ignore, *LINEAGE)
    if isinstance(batch, str) and isinstance(stream, str):
        asked = Asked(
            keys=tuple(keys),
            window=window,
            ready_until=ready_until,
            tolerances=dict(tolerances or {}),
            ignore=left_out,
            full=full,
            types=dict(types or {}),
            naive_time_zone=naive_time_zone,
            samples=samples,
        )
        return compare_tables(_session(spark, None), None, (batch, stream), asked)[0]
    assert not isinstance(batch, str)
    assert not isinstance(stream, str)
    _in_utc(batch.sparkSession)
    with plain_errors("the comparison"):
        return compare_frames(
            batch,
            stream,
            keys=keys,
            window_column=window,
            ready_until=ready_until,
            tolerances=dict(tolerances or {}),
            ignore=left_out,
            types=types,
            naive_time_zone=naive_time_zone,
            sample_rows=samples,
            full=full,
        )[0]


def _session(given: SparkSession | None, cfg: Config | None) -> SparkSession:
    from pyspark.sql import SparkSession

    from twinrun.session.spark import build_session
    from twinrun.session.sparkconf import DEFAULT_MASTER, session_settings

    session = given or SparkSession.getActiveSession()
    if session is None:
        settings = session_settings(cfg)
        session = build_session("twinrun", settings, master=settings.get("spark.master", DEFAULT_MASTER))
    if "io.delta" not in str(session.conf.get("spark.sql.extensions", "")):
        raise MachineError(
            "the Spark session has no Delta.",
            expected="a session with Delta's extension and catalog",
            fix="start none before: twinrun then starts one that has what it needs",
        )
    _in_utc(session)
    return session


def _in_utc(session: SparkSession) -> None:
    zone = session.conf.get("spark.sql.session.timeZone")
    if zone != "UTC":
        raise ConfigError(
            f"the Spark session's time zone is {zone}.",
            expected="UTC: windows and times are compared in it",
            fix="spark.conf.set('spark.sql.session.timeZone', 'UTC')",
        )
