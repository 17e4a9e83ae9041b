"""Read a table or view that Spark's catalog names, by the catalog's schema, held against what the files really hold.

Spark reads files by what the catalog says of them: a column of another spelling is null, a number of a narrower type is
another number, a file that the catalog does not know is not there. Whatever would be lost in that way is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from twinrun.errors import TableError
from twinrun.events.exact import wider
from twinrun.session.plain import plain_errors
from twinrun.tables.files import at
from twinrun.tables.folder import LITERAL, Folder, one_form, survey
from twinrun.tables.parquet import Held, columns_of, file_names, need_whole_microseconds, strict_session
from twinrun.tables.stored import Stored, bare, merged
from twinrun.wording import plural

_LOSSY = ("csv", "json", "xml")
_CASE = "spark.sql.caseSensitive"


def read_named(spark: SparkSession, name: str) -> tuple[DataFrame, tuple[str, ...]]:
    """A table of the catalog that is not Delta, or a view, and what one should know about how it is read.

    Every folder of files that it reads, a view's too, is held against what the catalog knows. No Spark job, save for
    INT96 times that Spark did not write: one that reads them.

    Raises
    ------
    TableError
        Files of Parquet or ORC would not be read, hold a column that the catalog does not know, or one that would
        become other values in the catalog's type; or the format makes null of a value that does not fit (CSV, JSON,
        XML).
    QueryError
        Spark cannot read the table.
    """
    with plain_errors(f"reading {name}"):
        rows = spark.read.table(name)
        facts: list[str] = []
        for relation, table in _folders_read(rows):
            facts += _need_sound(spark, name, relation, table)
    return rows, tuple(dict.fromkeys(facts))


def _folders_read(rows: DataFrame) -> Iterator[tuple[Any, str]]:
    """Each relation over files that a plan reads without a log, with the catalog's name of it, if it has one."""
    plan = rows._jdf.queryExecution().analyzed()
    below = plan.subqueriesAll()
    for part in (plan, *(below.apply(number) for number in range(below.size()))):
        leaves = part.collectLeaves()
        for leaf in (leaves.apply(number) for number in range(leaves.size())):
            if str(leaf.getClass().getSimpleName()) != "LogicalRelation":
                continue
            relation = leaf.relation()
            # Delta's files are those of its log.
            if str(relation.getClass().getSimpleName()) != "HadoopFsRelation" or ".delta." in str(
                relation.location().getClass().getName()
            ):
                continue
            table = leaf.catalogTable()
            yield relation, str(table.get().identifier().unquotedString()) if table.isDefined() else ""


def _need_sound(spark: SparkSession, name: str, relation: Any, table: str) -> tuple[str, ...]:
    """Refuse what Spark would read as other rows than the files hold."""
    kind = str(relation.toString())
    table = table or name
    if kind.lower() in _LOSSY:
        raise TableError(
            f"{table} is a table of {kind.upper()} files, whose reader makes null of a value that does not fit its "
            "column, or rounds it, without a word.",
            expected="a Delta or Parquet table",
            fix="write its rows to one, with every column as a string, and declare the types (--as COL=TYPE)",
        )
    known = T.StructType.fromJson(json.loads(relation.dataSchema().json()))
    if kind.lower() == "orc":
        _need_orc(spark, table, relation, known)
    if kind.lower() != "parquet":
        return ()
    folder = _files_of(spark, table, relation)
    columns, _ = columns_of(strict_session(spark), folder, ())
    return (*_need_same_columns(spark, table, folder, columns, known), *folder.facts)


def _files_of(spark: SparkSession, table: str, relation: Any) -> Folder:
    """Every file that a relation reads; refuses files below its folders that it does not."""
    read = {one_form(str(uri)) for uri in relation.location().inputFiles()}
    roots = relation.location().rootPaths()
    first: Folder | None = None
    for place in (roots.apply(number) for number in range(roots.size())):
        folder = survey(spark, str(place.toString()))
        unread = sorted(set(folder.uris) - read)
        if unread:
            raise TableError(
                f"{plural(len(unread), 'file')} below the folder of {table} would not be read, such as {unread[0]}.",
                expected="a catalog that knows every partition",
                fix=f"MSCK REPAIR TABLE {table}, or REFRESH TABLE {table}",
            )
        first = folder if first is None else _both(first, folder.files, folder.uris)
    jvm: Any = spark._jvm
    # Partitions may lie elsewhere.
    uris = sorted(read - set(first.uris if first else ()))
    paths = [jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri)) for uri in uris]
    statuses = tuple(at(spark, str(path.toString()))[1].getFileStatus(path) for path in paths)
    facts = tuple(fact for fact in (first.facts if first else ()) if not fact.startswith("partition values"))
    found = Folder(table, (), (), (), facts, True) if first is None else replace(first, facts=facts)
    return replace(_both(found, statuses, tuple(uris)), partitions=(), listed=True)


def _both(folder: Folder, files: tuple[Any, ...], uris: tuple[str, ...]) -> Folder:
    return replace(folder, files=(*folder.files, *files), uris=(*folder.uris, *uris))


def _need_same_columns(
    spark: SparkSession, table: str, folder: Folder, columns: Mapping[str, Held], known: T.StructType
) -> tuple[str, ...]:
    """Refuse columns of the files that the catalog's schema leaves out or changes; tells those that no file has."""
    exact = spark.conf.get(_CASE) == "true"
    names = {field.name if exact else field.name.casefold(): field for field in known}
    fix = f"name its folder, which is read by what the files hold: {folder.path}"
    for name, held in columns.items():
        field = names.get(name if exact else name.casefold())
        if field is None:
            twin = next((each.name for each in known if each.name.casefold() == name.casefold()), None)
            says = "the catalog does not know it" if twin is None else f"the catalog calls it {twin!r}: all null"
            raise TableError(
                f"the column {name!r} is in {plural(held.files, 'file')} of {table} "
                f"({file_names(held.indices, folder)}), and {says}.",
                fix=f"ALTER TABLE {table} ADD COLUMNS, or {fix}" if twin is None else fix,
            )
        cut: dict[Stored, list[int]] = {}
        for kind, indices in held.by_kind.items():
            if not _kept(kind, bare(field.dataType)):
                raise TableError(
                    f"the column {name!r} is {kind.text if kind.special else kind.value_type.simpleString()} in "
                    f"{plural(len(indices), 'file')} of {table} ({file_names(indices, folder)}), and "
                    f"{field.dataType.simpleString()} in the catalog: values would be cut or become others.",
                    fix=fix,
                )
            if kind.may_be_cut:
                cut[kind] = indices
        for kind, indices in cut.items():
            paths = [str(folder.files[index].getPath().toString()) for index in indices]
            need_whole_microseconds(strict_session(spark), paths, folder, {name: kind}, ())
    held_names = {name if exact else name.casefold() for name in columns}
    return tuple(
        f"column {field.name} is in no file, and null" for key, field in names.items() if key not in held_names
    )


def _kept(kind: Stored, known: T.DataType) -> bool:
    """Whether every value of a stored form is the same value in the catalog's type."""
    if kind.special not in ("", "int96", "void"):
        return False
    held = kind.value_type
    return kind.special == "void" or known in (held, wider(held, known), merged(held, known))


def _need_orc(spark: SparkSession, table: str, relation: Any, known: T.StructType) -> None:
    """Refuse ORC files with other columns than the catalog: their reader makes null of what it cannot convert."""
    uris = [str(uri) for uri in relation.location().inputFiles()]
    if not uris:
        return
    jvm: Any = spark._jvm
    paths = [str(jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri)).toString()) for uri in uris]
    options = {**LITERAL, "mergeSchema": "true"}
    held = strict_session(spark).read.options(**options).orc(paths).schema
    in_files = {field.name: bare(field.dataType) for field in held}
    in_catalog = {field.name: bare(field.dataType) for field in known}
    wrong = sorted(name for name, dtype in in_files.items() if in_catalog.get(name) != dtype)
    if wrong:
        says = in_catalog.get(wrong[0])
        raise TableError(
            f"the column {wrong[0]!r} of {table} is {in_files[wrong[0]].simpleString()} in its ORC files, and "
            f"{'unknown to the catalog' if says is None else says.simpleString() + ' in the catalog'}.",
            expected="files with the columns and types of the catalog",
            fix="write its rows to a Delta or Parquet table",
        )
