"""Read Parquet that has no log, the one way for every caller: all files, all their columns, each value exactly.

Spark takes the schema of one file for that of all, guesses types from folders' names, and trusts a schema that another
writer may have left in a file's metadata. Here the schema is that of all files, from what they really hold; folders
are text; and what Spark cannot read, or would cut, is read from its stored form or refused with the column's name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.errors import TableError
from twinrun.events.exact import quoted, wider
from twinrun.session.plain import plain_errors
from twinrun.tables.folder import LITERAL, NULL_FOLDER, Folder, one_form, survey
from twinrun.tables.stored import Stored, exact_value, merged, stored_columns, sub_microsecond
from twinrun.wording import plural

_STRICT_CONF = {
    # Nothing is passed over in silence.
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    # Columns such as Id and id are two.
    "spark.sql.caseSensitive": "true",
    "spark.sql.session.timeZone": "UTC",
    # The raw number, which is brought to a timestamp, or refused, by what it holds.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.sql.parquet.binaryAsString": "false",
    "spark.sql.parquet.int96TimestampConversion": "false",
    "spark.sql.parquet.int96AsTimestamp": "true",
    # Days and times as they stand: a file of the old calendar says so itself.
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.parquet.fieldId.read.enabled": "false",
}
_MAX_GROUPS = 50
_SHOWN = 3


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet table as it was when it was listed.

    Attributes
    ----------
    rows : DataFrame
        Lazy. Partition columns come last and are text.
    partitions : tuple of str
        Columns whose values are the names of folders.
    left : tuple of str
        Columns that are there and were not read, as asked.
    files : int
        How many files are read.
    facts : tuple of str
        What one should know about how it is read: columns that only some files have, types that differ between files,
        types that Spark does not know, files that a log leaves out.
    """

    rows: DataFrame
    partitions: tuple[str, ...]
    left: tuple[str, ...]
    files: int
    facts: tuple[str, ...]


def read_parquet(
    spark: SparkSession, path: str, *, leave: Collection[str] = (), as_numbers: Collection[str] = ()
) -> ParquetTable:
    """Read a Parquet file, or a folder of Parquet files, as one table.

    Parameters
    ----------
    path : str
        A path is a path: ``[`` and ``*`` in it are letters like any other.
    leave : collection of str
        Columns that are not read. A column that cannot be read exactly does no harm among them.
    as_numbers : collection of str
        Columns of INT64 nanoseconds that are read as bigint (nanoseconds since 1970) and not as timestamps.

    Returns
    -------
    ParquetTable
        Its rows give the same files each time; a file that is gone meanwhile is an error. Footers are read on the
        driver, eight at a time. One Spark job where columns hold nanoseconds or INT96 that Spark did not write, which
        reads those columns.

    Raises
    ------
    TableError
        See `twinrun.tables.folder.survey`; or a file is not Parquet, a column cannot be read exactly, is stored in
        ways that have no common type, or is named by a folder and a file at once.
    QueryError
        Spark cannot read the files.
    """
    with plain_errors(f"reading {path}"):
        folder = survey(spark, path)
        own = strict_session(spark)
        columns, left = columns_of(own, folder, leave)
        frames = [_read_group(own, folder, columns, group, leave, as_numbers) for group in _groups(columns, folder)]
        rows = reduce(lambda left, right: left.unionByName(right), frames)
        found = {one_form(uri) for frame in frames for uri in frame.inputFiles()}
        # Spark lists summaries, and reads no rows from them.
        listed = {uri for uri in found if not uri.endswith(("/_metadata", "/_common_metadata"))}
        if listed != set(folder.uris):
            raise TableError(f"the files of {path} changed while they were listed.", fix="run it again")
        rows = _in_session(rows, spark, path)
    partitions = tuple(each.name for each in folder.partitions if each.name not in leave)
    return ParquetTable(rows, partitions, left, len(folder.uris), (*folder.facts, *_facts(columns, folder, as_numbers)))


@dataclass
class Held:
    """A column, and how each kind of file holds it: by Stored, the indices of the files."""

    name: str
    by_kind: dict[Stored, list[int]] = field(default_factory=lambda: defaultdict(list))
    has_void: bool = False

    @property
    def indices(self) -> list[int]:
        """The files that have it."""
        return sorted(index for indices in self.by_kind.values() for index in indices)

    @property
    def files(self) -> int:
        """How many files have it."""
        return len(self.indices)

    @property
    def dtype(self) -> T.DataType | None:
        """The type of the values as they are handed on; None where the files' types have none in common."""
        return _common((kind.value_type for kind in self.by_kind), lambda one, two: merged(one, two) or wider(one, two))

    def is_numbers(self, as_numbers: Collection[str]) -> bool:
        """Whether it is read as the nanoseconds that it holds."""
        return self.name in as_numbers and all(kind.is_nanoseconds for kind in self.by_kind)

    @property
    def uniform(self) -> bool:
        """Whether all files can be read with one type, without a conversion."""
        kinds = list(self.by_kind)
        if self.has_void or any(kind.special != kinds[0].special for kind in kinds):
            return False
        return _common((kind.read_type for kind in kinds), merged) is not None


def _common(
    types: Iterable[T.DataType], of_two: Callable[[T.DataType, T.DataType], T.DataType | None]
) -> T.DataType | None:
    found: T.DataType | None = None
    for place, dtype in enumerate(types):
        found = dtype if place == 0 else found and of_two(found, dtype)
        if found is None:
            return None
    return found


def strict_session(spark: SparkSession) -> SparkSession:
    """A session on the same context for reading tables exactly: its settings are its own, and leak nowhere.

    Names differ by case, times are in UTC, and no file is passed over.
    """
    own = SparkSession(spark.sparkContext, spark._jsparkSession.cloneSession())
    for name, text in _STRICT_CONF.items():
        own.conf.set(name, text)
    return own


def _in_session(rows: DataFrame, spark: SparkSession, path: str) -> DataFrame:
    """The same plan in the caller's session; only its reading keeps the other session's settings."""
    folded = Counter(name.casefold() for name in rows.columns)
    if spark.conf.get("spark.sql.caseSensitive") != "true" and max(folded.values(), default=0) > 1:
        twins = sorted(name for name in rows.columns if folded[name.casefold()] > 1)
        raise TableError(
            f"the columns {' and '.join(twins)} of {path} differ in upper and lower case alone.",
            expected="names that differ otherwise",
            fix="rename one, or leave it out",
        )
    jvm = spark._jvm
    assert jvm is not None
    plan = rows._jdf.queryExecution().analyzed()
    return DataFrame(jvm.org.apache.spark.sql.classic.Dataset.ofRows(spark._jsparkSession, plan), spark)


def columns_of(own: SparkSession, folder: Folder, leave: Collection[str]) -> tuple[dict[str, Held], tuple[str, ...]]:
    """Every column of any file in the order of first sight, or a sentence on the first that cannot be read."""
    left = {each.name for each in folder.partitions if each.name in leave}
    columns: dict[str, Held] = {}
    for names, indices in stored_columns(own, folder).items():
        for name, stored in names:
            if name in leave:
                left.add(name)
            else:
                columns.setdefault(name, Held(name)).by_kind[stored] += indices
    both = [each.name for each in folder.partitions if each.name in columns]
    if both:
        raise TableError(
            f"{folder.path} has the column {both[0]!r} twice: as folders ({both[0]}=..) and inside its files. Spark "
            "reads the folders' values in place of the files'.",
            fix=f"rename the folders, or leave the column out (--ignore {both[0]})",
        )
    for held in columns.values():
        _forget_void(held)
        _need_readable(held, folder)
    if not columns:
        raise TableError(f"the files of {folder.path} have no column to read.")
    return columns, tuple(sorted(left))


def _forget_void(held: Held) -> None:
    """A file that says of a column that it holds nothing but nulls lacks it, where others know its type."""
    void = [kind for kind in held.by_kind if kind.special == "void"]
    if len(void) < len(held.by_kind):
        for kind in void:
            del held.by_kind[kind]
        held.has_void = bool(void)


def _need_readable(held: Held, folder: Folder) -> None:
    for kind in held.by_kind:
        if kind.problem:
            raise TableError(
                f"the column {held.name!r} of {folder.path} is stored as {kind.text}, {kind.problem}.",
                fix=f"write it as another type, or leave it out (--ignore {held.name})",
            )
    if held.dtype is None:
        raise TableError(
            f"the files of {folder.path} hold the column {held.name!r} in types that have none in common: "
            f"{_kinds_text(held, folder)}.",
            expected="one type, or types of which one holds every value of the others",
            fix=f"write the files anew with one type, or leave the column out (--ignore {held.name})",
        )


def _groups(columns: Mapping[str, Held], folder: Folder) -> list[list[int]]:
    """The files in groups that can be read with one schema each; most tables are one group."""
    mixed = [held for held in columns.values() if not held.uniform]
    marks: list[list[int]] = [[] for _ in folder.uris]
    for held in mixed:
        for number, indices in enumerate(held.by_kind.values(), start=1):
            for index in indices:
                marks[index] += [number]
        absent = set(range(len(marks))) - {index for indices in held.by_kind.values() for index in indices}
        for index in absent:
            marks[index] += [0]
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, mark in enumerate(marks):
        groups[tuple(mark)].append(index)
    if len(groups) > _MAX_GROUPS:
        raise TableError(
            f"the files of {folder.path} hold their columns in {len(groups)} combinations of types.",
            expected=f"at most {_MAX_GROUPS}",
            fix="write them anew with one type per column",
        )
    return list(groups.values())


def _read_group(
    own: SparkSession,
    folder: Folder,
    columns: Mapping[str, Held],
    group: Sequence[int],
    leave: Collection[str],
    as_numbers: Collection[str],
) -> DataFrame:
    """The rows of files that one schema reads, each column as its common type."""
    members = set(group)
    kinds: dict[str, Stored] = {}
    for name, held in columns.items():
        present = [kind for kind, at in held.by_kind.items() if held.uniform or members.intersection(at)]
        if present:
            kinds[name] = reduce(_one_kind, present)
    raw = [name for name, kind in kinds.items() if kind.special]
    if any(kinds[name].needs_rows for name in raw):
        # Only the reader by rows hands such values out as they are stored.
        own = _rowwise(own)
    whole = len(group) == len(folder.uris) and not folder.listed
    paths = [folder.path] if whole else [str(folder.files[index].getPath().toString()) for index in group]
    schema = T.StructType([T.StructField(name, kind.read_type) for name, kind in kinds.items()])
    need_whole_microseconds(own, paths, folder, kinds, as_numbers)
    rows = own.read.schema(schema).options(**LITERAL).parquet(*paths)
    values = [_value(name, kinds.get(name), held, as_numbers).alias(name) for name, held in columns.items()]
    return rows.select(*values, *_partition_values(rows, folder, leave))


def _rowwise(own: SparkSession) -> SparkSession:
    other = SparkSession(own.sparkContext, own._jsparkSession.cloneSession())
    other.conf.set("spark.sql.parquet.enableVectorizedReader", "false")
    return other


def _one_kind(left: Stored, right: Stored) -> Stored:
    read_type = merged(left.read_type, right.read_type)
    value_type = merged(left.value_type, right.value_type)
    assert read_type is not None
    assert value_type is not None
    return replace(left, read_type=read_type, value_type=value_type)


def _value(name: str, kind: Stored | None, held: Held, as_numbers: Collection[str]) -> Column:
    """A column's values as they are handed on: exact, in the type that all files share, null where a file lacks it."""
    number = held.is_numbers(as_numbers)
    dtype = T.LongType() if number else held.dtype
    assert dtype is not None
    if kind is None:
        return F.lit(None).cast(dtype)
    stored = F.col(quoted(name))
    value = stored if number else exact_value(stored, kind)
    return value if kind.value_type == dtype else value.cast(dtype)


def need_whole_microseconds(
    own: SparkSession, paths: Sequence[str], folder: Folder, kinds: Mapping[str, Stored], as_numbers: Collection[str]
) -> None:
    """Refuse times with a part below a microsecond, which Spark would cut. One Spark job where there may be any."""
    cut = {name: kind for name, kind in kinds.items() if kind.may_be_cut and name not in as_numbers}
    if not cut:
        return
    schema = T.StructType([T.StructField(name, kind.raw_type) for name, kind in cut.items()])
    rows = _rowwise(own).read.schema(schema).options(**LITERAL).parquet(*paths)
    counted = [F.count_if(sub_microsecond(F.col(quoted(name)), kind)) for name, kind in cut.items()]
    counts = rows.select(*counted).collect()[0]
    for count, (name, kind) in zip(counts, cut.items(), strict=True):
        if count:
            raise TableError(
                f"the column {name!r} of {folder.path}, {kind.text}, holds {plural(count, 'value')} with a part below "
                "a microsecond, the finest that Spark holds.",
                expected="whole microseconds",
                fix=f"compare them as numbers (--as {name}=bigint) where both tables hold nanoseconds"
                if kind.is_nanoseconds
                else f"write it as INT64 nanoseconds in both tables, or leave it out (--ignore {name})",
            )


def _partition_values(rows: DataFrame, folder: Folder, leave: Collection[str]) -> list[Column]:
    """The folders' values as text, from each row's own file: nothing is inferred from all of them together."""
    wanted = [each for each in folder.partitions if each.name not in leave]
    if not wanted:
        return []
    parts = F.split(rows.metadataColumn("_metadata").getField("file_path"), "/")
    values = []
    for each in wanted:
        segment = F.element_at(parts, -each.above - 1)
        # The path is a URI, and the folder's name inside it has escapes of its own.
        name = _unescaped(F.substr(segment, F.instr(segment, "=") + 1))
        values.append(F.when(name != NULL_FOLDER, _unescaped(name)).alias(each.name))
    return values


def _unescaped(text: Column) -> Column:
    # url_decode reads a plus as a space, as forms have it; paths do not.
    return F.url_decode(F.replace(text, F.lit("+"), F.lit("%2B")))


def _facts(columns: Mapping[str, Held], folder: Folder, as_numbers: Collection[str]) -> tuple[str, ...]:
    """A sentence per column that not all files have, hold in one type, or hold as what it is read."""
    facts = []
    for name, held in columns.items():
        if held.files < len(folder.uris):
            facts.append(
                f"column {name} is in {held.files} of {len(folder.uris)} files ({file_names(held.indices, folder)}), "
                "and null elsewhere"
            )
        types = {kind.value_type.simpleString() for kind in held.by_kind}
        if len(types) > 1 or any(kind.special for kind in held.by_kind):
            read_as = "" if held.dtype is None else held.dtype.simpleString()
            read_as = "bigint, the nanoseconds" if held.is_numbers(as_numbers) else read_as
            facts.append(f"column {name} is {_kinds_text(held, folder)}: read as {read_as}")
    return tuple(facts)


def _kinds_text(held: Held, folder: Folder) -> str:
    texts: dict[str, list[int]] = defaultdict(list)
    for kind, indices in held.by_kind.items():
        texts[kind.text if kind.special or kind.problem else kind.value_type.simpleString()] += indices
    if len(texts) == 1:
        return next(iter(texts))
    return ", ".join(
        f"{text} in {plural(len(indices), 'file')} ({file_names(indices, folder)})" for text, indices in texts.items()
    )


def file_names(indices: Sequence[int], folder: Folder) -> str:
    """A few files by name, and how many more there are."""
    names = [str(folder.files[index].getPath().getName()) for index in sorted(indices)[:_SHOWN]]
    return ", ".join(names) + (f" and {len(indices) - _SHOWN} more" if len(indices) > _SHOWN else "")
