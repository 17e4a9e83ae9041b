"""Read a table of Cassandra through Spark's connector, so that no value becomes another one on the way.

The connector's own data frames round a decimal to 18 digits behind the point, move times before 1582 and make an empty
list of a missing one. So its scan of token ranges, which runs in parallel, asks the server for each row as one JSON
list of texts (a function call is selected, which the data frames cannot), and the texts are read here strictly, or
refused with the column's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.errors import InputError, TableError
from twinrun.events.exact import quoted
from twinrun.session.plain import plain_errors
from twinrun.tables.database import need_answer, read_as_text, refuse_secrets, sound_rows
from twinrun.wording import plural

USER, PASSWORD = "TWINRUN_CASSANDRA_USER", "TWINRUN_CASSANDRA_PASSWORD"
_SCHEME, _PORT = "cassandra:", 9042
_FORM = re.compile(r"cassandra://(?P<host>[^/?#:]+)(?::(?P<port>[^/?#]*))?/(?P<keyspace>[^/?#]+)#(?P<table>.+)")
_EXPECTED = "cassandra://HOST[:PORT]/KEYSPACE#TABLE"
_SETTINGS = "spark.cassandra."
# Its default, one replica, would take a replica that lags behind for a table that lacks rows.
_DEFAULTS = {"input.consistency.level": "LOCAL_QUORUM"}
_OTHER_NAMES = {"varchar": "text", "DurationType": "duration"}
_MOST_DIGITS = 38
_DAY_MS = 86_400_000
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999
_WHOLE, _POINT, _EXPONENT = r"^-?(\d+)", r"\.(\d+)", r"E([+-]\d+)$"
_NULL_INSIDE = r"[\[:,] ?null\b"


@dataclass(frozen=True)
class CassandraTable:
    """A table or view of Cassandra, as a reference names it."""

    host: str
    port: int
    keyspace: str
    table: str


def is_cassandra(ref: str) -> bool:
    """Whether a reference names a table of Cassandra."""
    return ref.startswith(_SCHEME)


def cassandra_of(ref: str) -> CassandraTable:
    """The parts of a reference. Nothing is opened.

    Raises
    ------
    InputError
        It is none, or holds a user or a password, which are not shown.
    """
    refuse_secrets(ref, "Cassandra", _EXPECTED, (USER, PASSWORD))
    match = _FORM.fullmatch(ref)
    if match is None:
        raise InputError(f"{ref} names no table of Cassandra.", expected=_EXPECTED)
    port = match["port"]
    if port is not None and not port.isdecimal():
        raise InputError(f"{ref} has the port {port!r}, which is none.", expected=_EXPECTED)
    return CassandraTable(match["host"], int(port or _PORT), match["keyspace"], match["table"])


def need_cassandra(ref: str) -> CassandraTable:
    """The parts of a reference whose server answers; before Spark starts. Waits for at most five seconds.

    Raises
    ------
    InputError, MachineError
        The reference is none, or nobody answers there.
    """
    found = cassandra_of(ref)
    need_answer(found.host, found.port, "cassandra")
    return found


def read_cassandra(
    spark: SparkSession, ref: str, *, as_text: Collection[str] = (), leave: Collection[str] = ()
) -> tuple[DataFrame, str, tuple[str, ...]]:
    """Read a whole table once, by its token ranges, and keep what was read. Three Spark jobs.

    Parameters
    ----------
    as_text : collection of str
        Columns that stay the text that the server makes of them.
    leave : collection of str
        Columns that are not looked at.

    Returns
    -------
    DataFrame
        Its columns, those of the key first, materialised: every look sees the same rows.
    str
        What was read.
    tuple of str
        What one should know about it: columns that are text here, and are none there.

    Raises
    ------
    TableError
        There is no such table, or a column holds a value that its type here cannot hold.
    QueryError
        The server refuses, or the table cannot be read.
    """
    found = cassandra_of(ref)
    with plain_errors(f"reading {ref}"):
        scan = _Scan(spark, found)
        columns = _columns(scan, found, as_text)
        fields = scan.rows(found, [each.asked for each in columns])
        raw = fields.select(*[F.col("fields")[n].alias(each.name) for n, each in enumerate(columns)]).localCheckpoint()
        looked = [each for each in columns if each.name not in leave]
        fitted = _fitted(raw, looked, ref)
        count = sound_rows(raw, fitted, ref)
    known = {each.name: each for each in fitted}
    final = [known.get(each.name, each) for each in columns]
    rows = raw.select(*[each.read(F.col(quoted(each.name))).alias(each.name) for each in final])
    return rows, f"cassandra, {plural(count, 'row')} by token ranges, no versions", read_as_text(columns)


@dataclass(frozen=True)
class _Kind:
    """How a kind of column is read: what the server is asked for, ``{}`` being the column, and the type of its text.

    Attributes
    ----------
    asked : str
        Text, or what has JSON's quotes, since JSON has no NaN and its readers round numbers.
    text : str
        The same where the column stays text.
    """

    asked: str = "{}"
    cast: str | None = None
    told: bool = False
    text: str = "{}"


_TEXT = "CAST({} AS text)"
# The numbers behind times: their text has more than one form. Both functions have other names since 5.0, and these too.
_MILLIS = "CAST(toUnixTimestamp({}) AS text)"
_NESTED = _Kind("toJson({})", told=True, text="toJson({})")
_KINDS: Mapping[str, _Kind] = {
    **dict.fromkeys(("ascii", "text"), _Kind()),
    **{kind: _Kind(_TEXT, kind, text=_TEXT) for kind in ("tinyint", "smallint", "int", "bigint", "boolean")},
    **{kind: _Kind(_TEXT, kind, text=_TEXT) for kind in ("float", "double")},
    "counter": _Kind(_TEXT, "bigint", text=_TEXT),
    "varint": _Kind(_TEXT, f"decimal({_MOST_DIGITS},0)", text=_TEXT),
    "decimal": _Kind(_TEXT, "decimal", text=_TEXT),
    "date": _Kind(_MILLIS, "date", text=_TEXT),
    "timestamp": _Kind(_MILLIS, "timestamp", text=_TEXT),
    "blob": _Kind("{}", "binary"),
    **dict.fromkeys(("time", "uuid", "timeuuid", "inet", "duration"), _Kind(told=True)),
}


@dataclass(frozen=True)
class _Held:
    """One column: its name, its type there, how it is read, and whether NaN may lie in it, which JSON lacks."""

    name: str
    stored: str
    kind: _Kind
    told: bool = False
    may_hide_floats: bool = False

    @property
    def cast(self) -> str | None:
        """The type of its text; None for text."""
        return self.kind.cast

    @property
    def asked(self) -> str:
        """What the server is asked for."""
        return self.kind.asked.format(_quoted(self.name))

    @property
    def nested(self) -> bool:
        """Whether its text is JSON, in which null is a word."""
        return self.kind.asked == _NESTED.asked

    def read(self, text: Column) -> Column:
        """The column in its type, from what the server gave; null where the type does not hold it."""
        if self.nested:
            return F.nullif(text, F.lit("null"))
        if self.cast is None:
            return text
        if self.cast == "binary":
            return F.unhex(F.substring(text, 3, 2**31 - 1))
        if self.cast in ("date", "timestamp"):
            millis = text.cast("bigint")
            millis = F.when(millis.between(_FIRST_MS, _LAST_MS), millis)
            days = F.floor(millis / F.lit(_DAY_MS)).cast("int")
            return F.date_from_unix_date(days) if self.cast == "date" else F.timestamp_millis(millis)
        return text.try_cast(self.cast)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class _Scan:
    """The connector's scan of token ranges, with the login, which is in no setting of Spark's."""

    def __init__(self, spark: SparkSession, found: CassandraTable) -> None:
        self._spark, self._jvm = spark, cast("Any", spark._jvm)
        settings: Any = spark.sparkContext._jsc.sc().getConf().clone()
        for name, value in _DEFAULTS.items():
            settings.setIfMissing(_SETTINGS + name, value)
        settings.set(f"{_SETTINGS}connection.host", found.host)
        settings.set(f"{_SETTINGS}connection.port", str(found.port))
        for name, variable in (("username", USER), ("password", PASSWORD)):
            if variable in os.environ:
                settings.set(f"{_SETTINGS}auth.{name}", os.environ[variable])
        connector = self._jvm.com.datastax.spark.connector
        self._connector = connector.cql.CassandraConnector.apply(settings)
        self._reading = connector.rdd.ReadConf.fromSparkConf(settings)

    def columns(self, found: CassandraTable) -> list[tuple[str, str, str]]:
        """Each column's name, its type, and that with all that it is made of; those of the key first."""
        option, session = self._jvm.scala.Option, self._connector.openSession()
        try:
            schema = self._jvm.com.datastax.spark.connector.cql.Schema
            tables = schema.fromCassandra(session, option.apply(found.keyspace), option.apply(found.table)).tables()
        finally:
            session.close()
        if tables.isEmpty():
            return []
        columns = tables.head().columns()
        each = [columns.apply(place) for place in range(columns.size())]
        return [
            (
                str(column.columnName()),
                re.sub(r"\w+", lambda word: _OTHER_NAMES.get(word[0], word[0]), str(column.columnType().cqlTypeName())),
                str(column.columnType().toString()),
            )
            for column in each
        ]

    def rows(self, found: CassandraTable, asked: Sequence[str]) -> DataFrame:
        """Each row as a list of the texts that were asked for, in the column ``fields``. Nothing is read yet."""
        jvm, context = self._jvm, self._spark.sparkContext
        connector, gateway = jvm.com.datastax.spark.connector, cast("Any", context._gateway)
        arguments = jvm.java.util.ArrayList()
        # Of one text alone the server takes the type for unknown.
        arguments.add(jvm.scala.util.Right(f"({', '.join([*asked, asked[0]])})"))
        listed = jvm.scala.jdk.javaapi.CollectionConverters.asScala(arguments).toSeq()
        ref = gateway.new_array(connector.ColumnRef, 1)
        ref[0] = connector.FunctionCallRef("toJson", listed, jvm.scala.Option.empty())
        schema = jvm.org.apache.spark.sql.types.StructType.fromDDL("texts STRING")
        # Reads by place, where others look a column of the table up, or need a class that Spark has no more.
        reader = connector.datasource.UnsafeRowReaderFactory(schema)
        scan = connector.japi.CassandraJavaUtil.javaFunctions(context._jsc.sc()).cassandraTable(
            found.keyspace, found.table, reader
        )
        scan = scan.withConnector(self._connector).withReadConf(self._reading).select(ref)
        session: Any = self._spark._jsparkSession
        made = session.internalCreateDataFrame(scan.rdd(), schema, False)
        options = {"mode": "FAILFAST", "maxStringLen": str(2**31 - 1)}
        return DataFrame(made, self._spark).select(F.from_json("texts", "array<string>", options).alias("fields"))


def _columns(scan: _Scan, found: CassandraTable, as_text: Collection[str]) -> list[_Held]:
    """What the database says of a table's columns, those of its key first."""
    columns = scan.columns(found)
    if not columns:
        raise TableError(
            f"there is no table {found.table} in the keyspace {found.keyspace} at {found.host}:{found.port}.",
            expected="a table or view that the user may read, its name as the database holds it",
            fix="correct the part behind #, upper and lower case too",
        )
    made = []
    for name, stored, whole in columns:
        kind = _KINDS.get(stored, _NESTED)
        if name in as_text:
            kind = replace(kind, asked=kind.text, cast=None, told=True)
        hides = kind.asked == _NESTED.asked and re.search(r"FloatType|DoubleType", whole) is not None
        made.append(_Held(name, stored, kind, kind.told, hides))
    return made


def _fitted(raw: DataFrame, columns: list[_Held], ref: str) -> list[_Held]:
    """The columns, those of decimals with the digits that their values need. One Spark job, if there is one to look at.

    A decimal of Cassandra says nothing about its digits. NaN and infinite numbers inside lists, which are null in JSON,
    are refused.
    """
    asked = []
    for number, each in enumerate(columns):
        text = F.col(quoted(each.name))
        if each.cast == "decimal":
            power = F.coalesce(F.regexp_extract(text, _EXPONENT, 1).try_cast("int"), F.lit(0))
            before = F.length(F.regexp_extract(text, _WHOLE, 1)) + power
            behind = F.length(F.regexp_extract(text, _POINT, 1)) - power
            asked.append(F.max(F.greatest(before, F.lit(1))).alias(f"before{number}"))
            asked.append(F.max(F.greatest(behind, F.lit(0))).alias(f"behind{number}"))
        elif each.may_hide_floats:
            asked.append(F.min(F.when(text.rlike(_NULL_INSIDE), text)).alias(f"null{number}"))
    told = raw.agg(*asked).collect()[0].asDict() if asked else {}
    made = []
    for number, each in enumerate(columns):
        null = told.get(f"null{number}")
        if null is not None:
            raise TableError(
                f"a value of {each.name} in {ref}, stored as {each.stored}, has a null inside, which is what the "
                f"server writes for NaN and infinite numbers too: {null[:60]}.",
                fix=f"leave it out, --ignore {each.name}",
            )
        made.append(
            _with_digits(each, told[f"before{number}"], told[f"behind{number}"], ref)
            if each.cast == "decimal"
            else each
        )
    return made


def _with_digits(column: _Held, before: int | None, behind: int | None, ref: str) -> _Held:
    """A column of decimals with room for so many digits before and behind the point."""
    whole, parts = before or 1, behind or 0
    if whole + parts > _MOST_DIGITS:
        raise TableError(
            f"the values of {column.name} in {ref}, stored as decimal, need {whole} digits before the point and "
            f"{parts} behind it.",
            expected=f"at most {_MOST_DIGITS} together",
            fix=f"compare it as text on both sides, --as {column.name}=string, or leave it out, --ignore {column.name}",
        )
    return replace(column, kind=replace(column.kind, cast=f"decimal({whole + parts},{parts})"))
