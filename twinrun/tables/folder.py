"""What lies in a folder of Parquet files that has no log: every file is read, or named as one that is not.

Spark's own reading of a folder leaves files out without a word: hidden names, folders below that are no partitions,
what another table format has removed. It also takes ``[``, ``*`` and ``?`` for a pattern. Here a path is a path.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from pyspark.sql import SparkSession

from twinrun.errors import TableError
from twinrun.tables.files import at, hadoop_conf
from twinrun.wording import plural

LITERAL = {
    "__globPaths__": "false",
    "recursiveFileLookup": "true",
    "ignoreCorruptFiles": "false",
    "ignoreMissingFiles": "false",
    "mergeSchema": "false",
}
"""Options of a reader that takes paths as they are, infers no partitions, and fails where a file cannot be read."""

_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi", "_spark_metadata": "stream"}
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
_SHOWN = 3
_MARKER = re.compile(r"_SUCCESS|_(common_)?metadata|_(committed|started)_\d+|\..*\.crc")
# What Flink has not committed yet, and what hadoop fs -put has not copied to its end.
_UNCOMMITTED = re.compile(r"\..*\.inprogress(\..*)?|.*\._COPYING_")
_MAGIC = (b"PAR1", b"PARE")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LOCAL_URI = re.compile(r"^file:/+")
_ICEBERG = re.compile(r".*\.metadata\.json|version-hint\.text")


@dataclass(frozen=True)
class Partition:
    """A partition column: its name, and how many folders above a file its folder lies (1: the file's own)."""

    name: str
    above: int


@dataclass(frozen=True)
class Folder:
    """A folder of Parquet files, or one file.

    Attributes
    ----------
    path : str
        As it was given.
    files : tuple
        Hadoop's file statuses of all files to read, by path.
    uris : tuple of str
        Their paths as Spark writes them, in one form (`one_form`), in the same order.
    partitions : tuple of Partition
        From the outermost folder in.
    facts : tuple of str
        What one should know about how it is read, each a sentence.
    listed : bool
        The files are those of a list (a stream's log): the folder holds others.
    """

    path: str
    files: tuple[Any, ...]
    uris: tuple[str, ...]
    partitions: tuple[Partition, ...]
    facts: tuple[str, ...]
    listed: bool


@dataclass(frozen=True)
class _Found:
    status: Any
    uri: str
    folders: tuple[str, ...]
    name: str

    @property
    def relative(self) -> str:
        return "/".join((*self.folders, self.name))


def survey(spark: SparkSession, path: str) -> Folder:
    """List a folder of Parquet files with everything below it. No Spark job; some requests per folder.

    Raises
    ------
    TableError
        There is nothing to read; the path is, lies inside, or holds a table of a format with a log, itself or by a
        link; a file would not be read (a hidden one that holds rows, a dangling link); or the folders do not say which
        files make up the table.
    """
    where, files = at(spark, path)
    if not files.exists(where):
        raise TableError(f"there is no table at {path}.", expected="a Delta or Parquet table", fix="correct the path")
    where = files.makeQualified(where)
    root = files.getFileStatus(where)
    _need_no_log(spark, path)
    if root.isFile():
        name = str(where.getName())
        if name.startswith(("_", ".")):
            raise TableError(
                f"{path} has a hidden name (it begins with {name[0]}), and Spark reads no file of such a name.",
                fix="rename the file",
            )
        return Folder(path, (root,), (_uri(where),), (), (), False)
    visible: list[_Found] = []
    hidden: list[_Found] = []
    _walk(spark, files, where, (), False, (visible, hidden), set())
    facts = _hidden_facts(files, hidden, path)
    logged = _logged(spark, where, path)
    if logged is not None:
        unlisted = [each.relative for each in visible if each.uri not in logged]
        facts += _sentence(unlisted, "not read, as the log of the stream that wrote the folder does not list it")
        visible = [each for each in visible if each.uri in logged]
        if len(visible) < len(logged):
            raise TableError(
                f"{path} lacks {len(logged) - len(visible)} of {plural(len(logged), 'file')} that the log of the "
                "stream lists (_spark_metadata).",
                fix="bring them back",
            )
    if not visible:
        raise TableError(f"there is no Parquet file in {path}.", expected="a Delta or Parquet table")
    visible.sort(key=lambda each: each.uri)
    partitions, more = _partitions(visible, path)
    statuses, uris = tuple(each.status for each in visible), tuple(each.uri for each in visible)
    return Folder(path, statuses, uris, partitions, (*facts, *more), logged is not None)


def need_root(spark: SparkSession, path: str) -> None:
    """Refuse a path inside a table of a format with a log, such as a partition of a Delta table.

    No Spark job; a few requests per folder above.

    Raises
    ------
    TableError
        It lies inside one, and has no log of its own.
    """
    for folder, kind in _logs_above(spark, path):
        if kind and folder.is_path:
            return
        if kind:
            raise _of_format(kind, path, folder.text)


def _need_no_log(spark: SparkSession, path: str) -> None:
    for folder, kind in _logs_above(spark, path):
        if kind and not (kind == "stream" and folder.is_path):
            raise _of_format(kind, path, "" if folder.is_path else folder.text)


@dataclass(frozen=True)
class _Above:
    """A folder: the path itself, or one above it."""

    text: str
    is_path: bool


def _logs_above(spark: SparkSession, path: str) -> Iterator[tuple[_Above, str]]:
    """The path and every folder above it, each with the kind of log that lies in it, or nothing; then where it leads.

    A link, or a path by way of one, is looked at twice: where it stands, and where the files are.
    """
    where, files = at(spark, path)
    current = files.makeQualified(where)
    is_file = files.exists(current) and files.getFileStatus(current).isFile()
    yield from _chain(spark, current, is_file)
    local = _local(current)
    if local is not None and os.path.realpath(local) != local:
        yield from _chain(spark, at(spark, os.path.realpath(local))[0], is_file)


def _chain(spark: SparkSession, start: Any, is_file: bool) -> Iterator[tuple[_Above, str]]:
    """A path, unless it is a file, and every folder above it."""
    files = start.getFileSystem(hadoop_conf(spark))
    current, is_path = (start.getParent(), False) if is_file else (start, True)
    while current is not None:
        yield _Above(str(current.toUri().getPath()), is_path), _kind_of(spark, files, current)
        current, is_path = current.getParent(), False


def _kind_of(spark: SparkSession, files: Any, folder: Any, names: Collection[str] | None = None) -> str:
    """The kind of log that lies in a folder, whose ``names`` may be known already; empty: none."""
    jvm: Any = spark._jvm

    def there(name: str) -> bool:
        return bool(files.exists(jvm.org.apache.hadoop.fs.Path(folder, name))) if names is None else name in names

    for name, kind in _LOGS.items():
        if there(name):
            return kind
    metadata = jvm.org.apache.hadoop.fs.Path(folder, "metadata")
    if there("metadata") and files.getFileStatus(metadata).isDirectory():
        held = [str(each.getPath().getName()) for each in files.listStatus(metadata)]
        return "Iceberg" if any(_ICEBERG.fullmatch(name) for name in held) else ""
    return ""


def _of_format(kind: str, path: str, around: str) -> TableError:
    """Why the path cannot be read as plain Parquet; ``around`` is the table that it lies inside."""
    if kind == "stream":
        return TableError(
            f"{path} lies inside {around}, where the log of the stream that wrote the files says which of them count "
            "(_spark_metadata).",
            fix=f"name {around}",
        )
    article = "an" if kind == "Iceberg" else "a"
    what = f"lies inside the {kind} table {around}" if around else f"is {article} {kind} table"
    fix = f"give its name in a catalog that reads {kind}, or write its rows to a folder of Parquet files"
    if kind == "Delta":
        fix = f"name the table: {around}" if around else "read it as Delta (format: delta)"
    return TableError(
        f"{path} {what}: the files hold rows that the table no longer has, and only its log says which.",
        expected="a whole Delta table, or a folder of Parquet files that is no part of another table",
        fix=fix,
    )


def _holds_table(kind: str, path: str, inside: str) -> TableError:
    """Why a folder cannot be read as plain Parquet that holds a table with a log."""
    what = "what a stream wrote, with its log (_spark_metadata)" if kind == "stream" else f"a table of {kind}"
    named = {"Delta": f"name the table: {inside}", "stream": f"name {inside}"}
    return TableError(
        f"{path} holds {what}: {inside}. Only the log says which of the files there count.",
        expected="a folder of Parquet files without tables below it",
        fix=named.get(kind, f"give its name in a catalog that reads {kind}, or move it elsewhere"),
    )


def _need_no_link_into_a_table(spark: SparkSession, local: str) -> None:
    """Refuse a link to what lies inside a table with a log: its files may be ones that the table no longer has."""
    real = os.path.realpath(local)
    for folder, kind in _chain(spark, at(spark, real)[0], os.path.isfile(real)):
        if kind:
            raise _of_format(kind, f"{local}, a link to {real},", folder.text)


def _walk(
    spark: SparkSession,
    files: Any,
    folder: Any,
    above: tuple[str, ...],
    is_hidden: bool,
    into: tuple[list[_Found], list[_Found]],
    seen: set[str],
) -> None:
    """Sort every file below a folder into visible and hidden ones, by the names that Spark passes over."""
    local = _local(folder)
    if local is not None:
        real = os.path.realpath(local)
        if real in seen:
            raise TableError(f"the folder {local} is a link to a folder that is read already.", fix="remove the link")
        seen.add(real)
    statuses = list(files.listStatus(folder))
    names = {str(each.getPath().getName()) for each in statuses}
    kind = _kind_of(spark, files, folder, names) if above and not is_hidden else ""
    if kind:
        root = folder
        for _ in above:
            root = root.getParent()
        raise _holds_table(kind, str(root.toUri().getPath()), str(folder.toUri().getPath()))
    if local is not None:
        lost = [name for name in sorted(os.listdir(local)) if name not in names and not name.endswith(".crc")]
        if lost:
            raise TableError(
                f"{os.path.join(local, lost[0])} cannot be read: it is a link to a file that is not there.",
                fix="remove the link, or bring the file back",
            )
    for each in statuses:
        path = each.getPath()
        name = str(path.getName())
        out_of_sight = is_hidden or name.startswith(".") or (name.startswith("_") and "=" not in name)
        out_of_sight = out_of_sight or name.endswith("._COPYING_")
        if local is not None and os.path.islink(os.path.join(local, name)):
            _need_no_link_into_a_table(spark, os.path.join(local, name))
        if each.isDirectory():
            _walk(spark, files, path, (*above, name), out_of_sight, into, seen)
        else:
            into[out_of_sight].append(_Found(each, _uri(path), above, name))


def _hidden_facts(files: Any, hidden: Sequence[_Found], path: str) -> tuple[str, ...]:
    """Refuse hidden files that hold rows; name all others but markers and checksums."""
    rows: list[str] = []
    uncommitted: list[str] = []
    others: list[str] = []
    for each in sorted(hidden, key=lambda found: found.relative):
        if _MARKER.fullmatch(each.name) or "_spark_metadata" in each.folders or not each.status.getLen():
            continue
        if _UNCOMMITTED.fullmatch(each.name):
            uncommitted.append(each.relative)
        elif _starts_as_parquet(files, each.status.getPath()):
            rows.append(each.relative)
        else:
            others.append(each.relative)
    if rows:
        some = "a hidden Parquet file" if len(rows) == 1 else f"{len(rows)} hidden Parquet files"
        raise TableError(
            f"{path} holds {some}, which Spark does not read: {_some(rows)}.",
            expected="files whose names, and whose folders' names, do not begin with _ or .",
            fix="rename what belongs to the table, and remove the rest (an unfinished write leaves _temporary behind)",
        )
    return (
        *_sentence(uncommitted, "not read, as the write that it belongs to has not committed it"),
        *_sentence(others, "not read: hidden, and not Parquet"),
    )


def _starts_as_parquet(files: Any, path: Any) -> bool:
    stream = files.open(path)
    try:
        return bytes(stream.readNBytes(4)) in _MAGIC
    finally:
        stream.close()


def _logged(spark: SparkSession, where: Any, path: str) -> frozenset[str] | None:
    """The files that the log of a stream's file sink lists; None where there is no such log."""
    jvm: Any = spark._jvm
    _, files = at(spark, path)
    if not files.exists(jvm.org.apache.hadoop.fs.Path(where, "_spark_metadata")):
        return None
    reader = spark.read.format("parquet").schema("_ int").options(**LITERAL)
    listed = frozenset(map(one_form, reader.load(path).inputFiles()))
    below = _uri(where).rstrip("/") + "/"
    elsewhere = sorted(uri for uri in listed if not uri.startswith(below))
    if elsewhere:
        raise TableError(
            f"{path} was copied or moved: the log of the stream that wrote it (_spark_metadata) lists files elsewhere, "
            f"such as {elsewhere[0]}, and Spark would read those.",
            fix="name the folder that the stream wrote, or remove _spark_metadata from the copy if all its files count",
        )
    return listed


def _partitions(found: Sequence[_Found], path: str) -> tuple[tuple[Partition, ...], tuple[str, ...]]:
    """The partition columns that the folders name, the same for each file."""
    shapes: dict[tuple[str | None, ...], _Found] = {}
    for each in found:
        shape = tuple(_partition_name(folder) for folder in each.folders)
        shapes.setdefault(shape, each)
    named = {shape for shape in shapes if any(name is not None for name in shape)}
    plain = set(shapes) - named
    if len(named) > 1 or (named and plain) or (() in plain and len(plain) > 1):
        raise TableError(
            f"the files of {path} lie in folders of different kinds: "
            f"{_some([each.relative for each in shapes.values()])}. Engines do not agree which of them are the table.",
            expected="all files in one folder, or all in partition folders (NAME=VALUE) of the same names",
            fix="name the folder that is meant, or move the files that do not belong to it",
        )
    plain_folders = dict.fromkeys(tuple(name for name in each.folders if not _partition_name(name)) for each in found)
    some = _some([f"{'/'.join(each)}/" for each in plain_folders])
    count = plural(len(plain_folders), "folder")
    as_one = () if () in plain_folders else (f"the files of {count} below it are read as one table: {some}",)
    if not named:
        return (), as_one
    shape = next(iter(named))
    for each in found:
        for folder in each.folders:
            _need_clear(folder, path)
    names = [(unquote(name), len(shape) - place) for place, name in enumerate(shape) if name is not None]
    twice = [name for name, times in Counter(name for name, _ in names).items() if times > 1]
    if twice:
        raise TableError(f"two levels of folders of {path} name one partition column, {twice[0]!r}.")
    texts = ", ".join(name for name, _ in names)
    return tuple(Partition(*each) for each in names), (f"partition values are text: {texts}", *as_one)


def _partition_name(folder: str) -> str | None:
    name, sign, _ = folder.partition("=")
    return name if sign and name else None


def _need_clear(folder: str, path: str) -> None:
    """Refuse a folder's name whose escapes have no one meaning."""
    try:
        unquote_to_bytes(folder).decode("utf-8")
        sound = not _BAD_ESCAPE.search(folder)
    except UnicodeDecodeError:
        sound = False
    if not sound:
        raise TableError(
            f"the folder {folder} of {path} has an escape that cannot be read.",
            expected="UTF-8 text in which % is written %25",
            fix="rename the folder",
        )


def _local(folder: Any) -> str | None:
    uri = folder.toUri()
    return str(uri.getPath()) if str(uri.getScheme()) == "file" else None


def one_form(uri: str) -> str:
    """The URI of a file in one form: Java writes those of this machine as ``file:/a`` or ``file:///a``."""
    return _LOCAL_URI.sub("file:///", uri)


def _uri(path: Any) -> str:
    return one_form(str(path.toUri().toString()))


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{', '.join(texts[:_SHOWN])}{more}"


def _sentence(names: Sequence[str], what: str) -> tuple[str, ...]:
    return (f"{_some(names)}: {what}",) if names else ()
