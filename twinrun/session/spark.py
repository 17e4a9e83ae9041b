"""Start and stop the Spark session: the one place that knows how Spark is launched."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from twinrun.errors import MachineError, TwinrunError
from twinrun.session.jars import jar_paths
from twinrun.session.java import export_java, find_java, quiet_java
from twinrun.session.settings import LOOPBACK, is_local, session_conf
from twinrun.session.watch import JvmWatch, jvm_died, watch_pid

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STOP_LIMIT_S = 20
_DYING_S = 1.0
_DELTA_CLASS = "io.delta.sql.DeltaSparkSessionExtension"
_KAFKA_CLASS = "org.apache.spark.sql.kafka010.KafkaSourceProvider"
_SUBMITTED = "PYSPARK_GATEWAY_PORT"  # set by spark-submit for the Python that it starts
_watches: dict[int, JvmWatch] = {}


def build_session(
    app_name: str, conf: Mapping[str, str], *, master: str | None = "local[2]", drivers: Sequence[str] = ()
) -> SparkSession:
    """Start a session that has Delta and the Kafka source, or take the one of spark-submit.

    Parameters
    ----------
    app_name : str
        Shown by Spark; also in the history of Delta tables.
    conf : mapping of str to str
        The user's settings; they win over twinrun's defaults. Under spark-submit, what was said on its
        command line wins over both.
    master : str, optional
        A Spark master; ``spark.master`` in ``conf`` wins over it. Not used under spark-submit.

    drivers : sequence of str
        Sets of jars besides Spark's, as `twinrun.session.jars` knows them; not where the user says which jars to take.

    Returns
    -------
    SparkSession
        Classic, with no Spark job run. End it with ``stop_session``.

    Raises
    ------
    MachineError
        Java or the jars are missing, or the JVM could not start.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    _quiet_pyspark()
    if _SUBMITTED in os.environ:
        return _submitted_session(app_name, conf)
    chosen = conf.get("spark.master", master)
    _prepare_environment(chosen, conf)
    export_java(quiet_java(find_java()))
    jars = [] if has_own_jars(conf) else [path for name in ("spark", *drivers) for path in jar_paths(name)]
    settings = session_conf(conf, master=chosen, jars=jars)
    if chosen is not None:
        settings["spark.master"] = chosen
    return _start(app_name, settings)


def has_own_jars(conf: Mapping[str, str]) -> bool:
    """Whether somebody else says which jars a session has: its settings, or spark-submit."""
    return "spark.jars" in conf or "spark.jars.packages" in conf or _SUBMITTED in os.environ


def stop_session(spark: SparkSession) -> None:
    """Stop the session, and the JVM when this process started it; no process of Spark is left behind.

    Under spark-submit the JVM ends with this process. Calling it twice does no harm.
    """
    from pyspark import SparkContext

    if getattr(getattr(spark, "_sc", None), "_jsc", spark) is None:
        return
    gateway = SparkContext._gateway
    process: subprocess.Popen[bytes] | None = getattr(gateway, "proc", None)
    watch = _watches.pop(process.pid if process else os.getppid(), None)
    if watch:
        watch.stop()
    try:
        spark.stop()
    except Exception:  # the JVM may be gone or going, and that is what is wanted here
        if process is None:
            raise
    if process is None or gateway is None:
        return
    gateway.shutdown()
    _forget_jvm()
    _end_process(process)


def watch_jvm(spark: SparkSession, on_death: Callable[[], None] | None = None) -> None:
    """End this process with exit code 2 and one sentence within 10 s when the session's JVM dies.

    The JVM is our child, or under spark-submit our parent. It does nothing on Spark Connect, where a client
    has no JVM. ``stop_session`` ends the watch.

    Parameters
    ----------
    spark : SparkSession
        A session of ``build_session``.
    on_death : callable, optional
        Called once before the process ends, to release what must not stay behind.
    """
    process = jvm_process(spark)
    if process is not None:
        _watch_once(process.pid, lambda: process.poll() is not None, on_death)
    elif _SUBMITTED in os.environ:
        parent = os.getppid()
        _watch_once(parent, lambda: os.getppid() != parent, on_death)


def death_behind(error: BaseException, spark: SparkSession) -> MachineError | None:
    """The death of the session's JVM, where that is why work failed: a call may notice before ``watch_jvm`` does.

    Our own refusals have no cause and nothing to do with Java; for others a JVM that is just ending gets a second.
    """
    if isinstance(error, TwinrunError) and error.__cause__ is None:
        return None
    return _death_of(jvm_process(spark))


def _death_of(process: subprocess.Popen[bytes] | None) -> MachineError | None:
    if process is None:
        return None
    try:
        process.wait(timeout=_DYING_S)
    except subprocess.TimeoutExpired:
        return None
    return jvm_died(process.pid)


def _watch_once(pid: int, ended: Callable[[], bool], on_death: Callable[[], None] | None) -> None:
    if pid not in _watches:
        _watches[pid] = watch_pid(pid, ended, on_death)


def jvm_process(spark: SparkSession) -> subprocess.Popen[bytes] | None:
    """The JVM that this process started for ``spark``; None when it started none."""
    context = getattr(spark, "_sc", None)
    gateway = getattr(context, "_gateway", None)
    process: subprocess.Popen[bytes] | None = getattr(gateway, "proc", None)
    return process


def _quiet_pyspark() -> None:
    """pyspark writes every failed analysis as JSON with a Java trace, also those that become one sentence here."""
    from pyspark.logger import PySparkLogger

    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)
    # It logs a trace for every call that ends with its JVM; what matters comes as an exception, or from watch_jvm.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_not_of_py4j)


def _not_of_py4j(record: logging.LogRecord) -> bool:
    """For the root logger, where py4j logs some of its traces."""
    return record.module != "java_gateway"


def _prepare_environment(master: str | None, conf: Mapping[str, str]) -> None:
    """Workers must run this very Python; on other machines the path may differ, so a user's choice stays."""
    if is_local(master):
        os.environ["PYSPARK_PYTHON"] = sys.executable
        os.environ.setdefault("SPARK_LOCAL_IP", LOOPBACK)
    else:
        os.environ.setdefault("PYSPARK_PYTHON", conf.get("spark.pyspark.python", sys.executable))
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable


def _start(app_name: str, settings: Mapping[str, str]) -> SparkSession:
    from pyspark import SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(app_name)
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
        # Starts the coordinator of state stores, which transformWithState needs in batch too and does not start itself.
        _ = session.streams
        # It prints a trace when its JVM dies; what matters comes as one sentence.
        server = getattr(getattr(session, "_sc", None), "_accumulatorServer", None)
        if server is not None:
            server.handle_error = lambda *_: None
        return session
    except Exception as error:
        if isinstance(error, PySparkRuntimeError) and error.getCondition() == "JAVA_GATEWAY_EXITED":
            raise MachineError(
                "Spark's Java process ended before it was ready; its own words are above.",
                expected=f"{settings.get('spark.driver.memory', '1g')} of free memory and a usable Java",
                fix="run: twinrun doctor",
            ) from None
        death = _death_of(getattr(SparkContext._gateway, "proc", None))
        if death is None:
            raise
        _forget_jvm()
        raise death from error


def _submitted_session(app_name: str, conf: Mapping[str, str]) -> SparkSession:
    """Take over the session of spark-submit; its JVM runs already, so that jars and memory are what they are."""
    from pyspark import SparkConf, SparkContext

    # Private, but the only way to look at the class path before the session that would need it exists.
    SparkContext._ensure_initialized()
    submitted = dict(SparkConf().getAll())
    _need_class(_DELTA_CLASS, "Delta")
    _need_class(_KAFKA_CLASS, "the Kafka connector")
    settings = {**session_conf(conf, master=submitted.get("spark.master")), **submitted}
    name = submitted.get("spark.app.name", app_name)
    return _start(name, {key: value for key, value in settings.items() if key != "spark.master"})


def _need_class(name: str, what: str) -> None:
    from pyspark import SparkContext

    jvm = SparkContext._jvm
    if jvm is not None and not jvm.org.apache.spark.util.Utils.classIsLoadable(name):
        raise MachineError(
            f"spark-submit was started without {what}.",
            expected="--jars with the files that `python -m twinrun.session.jars` prints the folder of",
            fix="add: --jars $(ls FOLDER/*.jar | paste -sd,)",
        )


def _forget_jvm() -> None:
    """Let a later session start a JVM of its own; after a crash pyspark still holds on to the dead one."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    SparkContext._gateway = None
    SparkContext._jvm = None
    SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = None


def _end_process(process: subprocess.Popen[bytes]) -> None:
    """The JVM ends when its standard input closes; one that does not is killed after a while."""
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(timeout=STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
