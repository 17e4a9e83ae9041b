"""Files of a job's storage through Hadoop's file system: the same code for a local folder, HDFS and object stores.

Needs a classic session: Spark Connect has no file system to offer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from twinrun.config.model import Config
from twinrun.session.settings import is_local

# As Hadoop reads it: what looks like an escape, a query or a fragment belongs to the name.
_LOCAL = re.compile(r"file:(?://)?(/[^/].*|/)", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")


def make_folder(spark: SparkSession, path: str) -> None:
    """Make a folder and the folders above it."""
    where, files = at(spark, path)
    files.mkdirs(where)


def copy(spark: SparkSession, path: str, to: str) -> None:
    """Copy a file within one file system."""
    jvm: Any = spark._jvm
    source, files = at(spark, path)
    target, _ = at(spark, to)
    jvm.org.apache.hadoop.fs.FileUtil.copy(files, source, files, target, False, True, hadoop_conf(spark))


def data_files(spark: SparkSession, folder: str) -> list[str]:
    """Data files directly in a folder, by name; markers and checksums left out."""
    where, files = at(spark, folder)
    if not files.exists(where):
        return []
    names = [str(each.getPath().getName()) for each in files.listStatus(where) if each.isFile()]
    return [f"{folder}/{name}" for name in sorted(names) if not name.startswith(("_", "."))]


def newest_number(spark: SparkSession, folder: str, ending: str = "") -> int | None:
    """The highest number that, with the ending, names a file of a folder: a micro-batch, or a version of a Delta log.

    None where none does, or there is no folder.
    """
    names = (
        file.rpartition("/")[2].removesuffix(ending) for file in data_files(spark, folder) if file.endswith(ending)
    )
    return max((int(name) for name in names if name.isdecimal()), default=None)


def read_text(spark: SparkSession, path: str) -> str:
    """The text of one small file."""
    jvm: Any = spark._jvm
    where, files = at(spark, path)
    stream = files.open(where)
    try:
        return str(jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
    finally:
        stream.close()


def write_text(spark: SparkSession, path: str, text: str) -> None:
    """Write one small file, in the place of what was there."""
    where, files = at(spark, path)
    stream = files.create(where, True)
    try:
        stream.write(bytearray(text.encode()))
    finally:
        stream.close()


def remove(spark: SparkSession, path: str) -> None:
    """Remove a file or a folder with all that is in it; nothing happens where there is none."""
    where, files = at(spark, path)
    files.delete(where, True)


def at(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """The path, taken literally, and its file system: Hadoop's objects."""
    jvm: Any = spark._jvm
    where = jvm.org.apache.hadoop.fs.Path(path)
    return where, where.getFileSystem(hadoop_conf(spark))


def hadoop_conf(spark: SparkSession) -> Any:
    """Hadoop's settings as the session has them."""
    return spark._jsparkSession.sessionState().newHadoopConf()


def local_path(cfg: Config | None, ref: str) -> Path | None:
    """The folder on this machine that a table reference means; None for a catalog name or another file system."""
    if "/" not in ref:
        return None
    local = _LOCAL.fullmatch(ref)
    if local:
        return Path(local[1])
    if _SCHEME.match(ref):
        return None
    # Spark reads a bare path from its default file system, which is this machine's unless somebody says otherwise.
    if cfg is not None and (not is_local(cfg.spark.master) or "spark.hadoop.fs.defaultFS" in cfg.spark.conf):
        return None
    return Path(ref)
