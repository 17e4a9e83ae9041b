"""Read a table of a database through Spark's JDBC source, so that no value becomes another one on the way.

Spark's own mapping rounds a numeric of more digits than its decimal, makes the year 1 of an infinite time, moves days
before 1582, makes a boolean of a small number and text of bits. So whatever has a type that Spark does not hold value
for value comes as the text that the server makes of it, and is read here strictly, or refused with the column's name.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F

from twinrun.config.problems import listed
from twinrun.errors import InputError, MachineError, TableError
from twinrun.events.exact import quoted
from twinrun.session.plain import plain_errors
from twinrun.wording import plural

USER, PASSWORD = "TWINRUN_JDBC_USER", "TWINRUN_JDBC_PASSWORD"
_FORM = re.compile(
    r"jdbc:(?P<kind>[a-z]+)://(?P<address>[^/?#]+)/(?P<database>[^/?#;]+)(?P<more>\?[^#]*)?#(?P<table>.+)"
)
_SECRET = re.compile(r"(^|[?&;])(user|password|pwd)=|//[^/]*@", re.IGNORECASE)
_KINDS = {"postgresql": "postgresql", "redshift": "redshift", "mariadb": "mariadb", "mysql": "mariadb"}
_WAIT_S = 5.0
_FETCH_ROWS = 10_000
_MOST_DIGITS = 38
_DAY, _HOUR = r"^\d{4}-\d\d-\d\d", r" \d\d:\d\d:\d\d(\.\d{1,6})?$"
_TIMES = {"date": f"{_DAY}$", "timestamp": _DAY + _HOUR, "timestamp_ntz": _DAY + _HOUR}


@dataclass(frozen=True)
class Database:
    """A table of a database, as a reference names it: ``jdbc:postgresql://HOST[:PORT]/DATABASE#[SCHEMA.]TABLE``."""

    kind: str
    host: str
    port: int
    database: str
    schema: str
    table: str
    options: str

    @property
    def spoken(self) -> str:
        """Whose driver reads it."""
        return _DIALECTS[self.kind].spoken

    @property
    def url(self) -> str:
        """What the driver is given; it holds no user and no password."""
        return f"jdbc:{self.spoken}://{self.host}:{self.port}/{self.database}{self.options}"


def is_database(ref: str) -> bool:
    """Whether a reference names a table of a database."""
    return ref.startswith("jdbc:")


def database_of(ref: str) -> Database:
    """The parts of a reference. Nothing is opened.

    Raises
    ------
    InputError
        It is none, names a kind of database that is not read, or holds a user or a password, which are not shown.
    """
    expected = (
        "jdbc:postgresql://HOST:PORT/DATABASE#SCHEMA.TABLE (or redshift), or jdbc:mariadb://HOST:PORT/DATABASE#TABLE"
    )
    refuse_secrets(ref, "database", expected, (USER, PASSWORD))
    match = _FORM.fullmatch(ref)
    if match is None:
        raise InputError(f"{ref} names no table of a database.", expected=expected)
    kind = _KINDS.get(match["kind"])
    if kind is None:
        fix = "write its rows to a Delta or Parquet table, and compare that"
        raise InputError(f"tables of {match['kind']} are not read.", expected=listed(_KINDS), fix=fix)
    host, _, port = match["address"].partition(":")
    if port and not port.isdecimal():
        raise InputError(f"{ref} has the port {port!r}, which is none.", expected=expected)
    schema, _, table = match["table"].rpartition(".")
    usual = match["database"] if kind == "mariadb" else "public"
    return Database(
        kind, host, int(port or _DIALECTS[kind].port), match["database"], schema or usual, table, match["more"] or ""
    )


def refuse_secrets(ref: str, what: str, expected: str, variables: tuple[str, str]) -> None:
    """Refuse a reference that holds a user or a password, which are not shown; the variables are where they belong."""
    if _SECRET.search(ref):
        raise InputError(
            f"the reference of a {what} table holds a user or a password.",
            expected=expected,
            fix=f"leave them out, and set the environment variables {' and '.join(variables)}",
        )


def need_database(ref: str) -> Database:
    """The parts of a reference whose server answers; before Spark starts. Waits for at most five seconds.

    Raises
    ------
    InputError, MachineError
        The reference is none, or nobody answers there.
    """
    found = database_of(ref)
    need_answer(found.host, found.port, found.kind)
    return found


def need_answer(host: str, port: int, kind: str) -> None:
    """Refuse a server of this kind that does not answer. Waits for at most five seconds."""
    try:
        socket.create_connection((host, port), _WAIT_S).close()
    except OSError as error:
        raise MachineError(
            f"no database answers at {host}:{port} ({error.strerror or error}).",
            expected=f"a {kind} server",
            fix="start it, or correct host and port",
        ) from None


def read_database(
    spark: SparkSession, ref: str, *, as_text: Collection[str] = (), leave: Collection[str] = ()
) -> tuple[DataFrame, str, tuple[str, ...]]:
    """Read a whole table once, in one statement, and keep what was read. Four Spark jobs.

    Parameters
    ----------
    as_text : collection of str
        Columns that stay the text that the server makes of them.
    leave : collection of str
        Columns that are not looked at.

    Returns
    -------
    DataFrame
        Its columns in their order, materialised: whatever the server does meanwhile, every look sees the same rows.
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
    found = database_of(ref)
    with plain_errors(f"reading {ref}"):
        columns = _columns(spark, found, as_text, leave)
        if not columns:
            raise TableError(
                f"there is no table {found.schema}.{found.table} in {found.database} at {found.host}:{found.port}.",
                expected="a table or view that the user may read, its name as the database holds it",
                fix="correct the part behind #, upper and lower case too",
            )
        dialect = _DIALECTS[found.kind]
        asked = ", ".join(f"{each.how.asked} AS {dialect.quoted(each.name)}" for each in columns)
        table = f"{dialect.quoted(found.schema)}.{dialect.quoted(found.table)}"
        # What the user may not read is not among the columns: so refused are whoever may not read all of them.
        whole = f"SELECT COUNT(*) AS n FROM (SELECT * FROM {table} LIMIT 0) AS whole_row"
        _reader(spark, found).option("query", whole).load().collect()
        raw = _reader(spark, found).option("query", f"SELECT {asked} FROM {table}").load().localCheckpoint()
        count = sound_rows(raw, [each for each in columns if each.name not in leave], ref)
    rows = raw.select(*[each.read(F.col(quoted(each.name))).alias(each.name) for each in columns])
    return rows, f"{found.kind}, {plural(count, 'row')} in one statement", read_as_text(columns)


def read_as_text(columns: Sequence[Checked]) -> tuple[str, ...]:
    """What a reader should know: which columns are text here, and are none in the database."""
    texts = [f"{each.name} ({each.stored})" for each in columns if each.told]
    return (f"read as text: {', '.join(texts)}",) if texts else ()


class Checked(Protocol):
    """A column that comes as text, and what is read of it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def stored(self) -> str:
        """Its type in the database."""

    @property
    def told(self) -> bool:
        """Whether it is text here and none there, which is told."""

    @property
    def cast(self) -> str | None:
        """The type of its text; None where it is not read from text."""

    def read(self, text: Column) -> Column:
        """The column in its type; null where the type does not hold the text."""


@dataclass(frozen=True)
class _Read:
    """How a kind of column is read: what the server is asked for, ``{}`` being the column, and the type of its text."""

    asked: str = "{}"
    cast: str | None = None
    zone: str = ""


@dataclass(frozen=True)
class _Dialect:
    """What is particular to a database.

    Attributes
    ----------
    settings : dict
        Options of Spark's reader by which the server writes times in UTC.
    quote : str
        What stands around a name.
    text : str
        A column as text.
    whole : str
        The column of ``information_schema.columns`` that says most of a type.
    decimal : str
        Its kind for decimals; how many digits they have decides how they are read.
    kinds : dict
        How each kind is read; all others come as text, and that is told.
    as_text : dict
        Kinds of which ``text`` would cut off, round or lose something: how they are asked for as text.
    others : bool
        Whether all others come as text, or are refused since the text that the server makes may be cut off.
    spoken : str
        Whose protocol and driver it has.
    """

    port: int
    driver: str
    settings: dict[str, str]
    quote: str
    text: str
    whole: str
    decimal: str
    kinds: dict[str, _Read]
    spoken: str
    as_text: dict[str, str] = field(default_factory=dict)
    others: bool = True

    def quoted(self, name: str) -> str:
        """A name in the quotes of the database."""
        return self.quote + name.replace(self.quote, 2 * self.quote) + self.quote


_PG_TEXT, _MARIA_TEXT, _MARIA_BITS = "{}::text", "CAST({} AS CHAR)", "CAST({} + 0 AS CHAR)"
# There TEXT is VARCHAR(256), to which a longer text is cut off; of numbers and times there is no longer one.
_REDSHIFT_TEXT = "{}::varchar(256)"
_MARIA_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_MARIA_STRINGS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json")
_POSTGRESQL = _Dialect(
    port=5432,
    driver="org.postgresql.Driver",
    settings={"sessionInitStatement": "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'"},
    quote='"',
    text=_PG_TEXT,
    whole="udt_name",
    decimal="numeric",
    kinds={
        **dict.fromkeys(("smallint", "integer", "bigint", "boolean", "real", "double precision", "bytea"), _Read()),
        **dict.fromkeys(("text", "character varying", "character", "name"), _Read(_PG_TEXT)),
        "date": _Read(_PG_TEXT, "date"),
        "timestamp without time zone": _Read(_PG_TEXT, "timestamp_ntz"),
        "timestamp with time zone": _Read("({} AT TIME ZONE 'UTC')::text", "timestamp", "Z"),
    },
    spoken="postgresql",
)
_DIALECTS = {
    "postgresql": _POSTGRESQL,
    "redshift": replace(
        _POSTGRESQL,
        port=5439,
        text=_REDSHIFT_TEXT,
        kinds={
            **dict.fromkeys(("smallint", "integer", "bigint", "boolean", "real", "double precision"), _Read()),
            **dict.fromkeys(("text", "character varying"), _Read()),
            "character": _Read("rtrim({})"),
            "date": _Read(_REDSHIFT_TEXT, "date"),
            "timestamp without time zone": _Read(_REDSHIFT_TEXT, "timestamp_ntz"),
            "timestamp with time zone": _Read("({} AT TIME ZONE 'UTC')::varchar(256)", "timestamp", "Z"),
        },
        # A text is that already, and may be longer than what a cast makes.
        as_text={"text": "{}", "character varying": "{}", "character": "rtrim({})"},
        others=False,
    ),
    "mariadb": _Dialect(
        port=3306,
        driver="org.mariadb.jdbc.Driver",
        # Of every connection: Spark puts names in the quotes that are a text's without ANSI_QUOTES.
        settings={"sessionVariables": "time_zone='+00:00',sql_mode=CONCAT(@@sql_mode,',ANSI_QUOTES')"},
        quote="`",
        text=_MARIA_TEXT,
        whole="column_type",
        decimal="decimal",
        kinds={
            **dict.fromkeys(
                ("tinyint", "smallint", "mediumint", "int", "bigint", "year"), _Read(_MARIA_TEXT, "bigint")
            ),
            "bigint unsigned": _Read(_MARIA_TEXT, "decimal(20,0)"),
            "bit": _Read(_MARIA_BITS, "decimal(20,0)"),
            **dict.fromkeys(("double", *_MARIA_BYTES), _Read()),
            # As text the server rounds it to six digits.
            "float": _Read("CAST({} AS DOUBLE)", "float"),
            # Not cast: of a text beyond max_allowed_packet a cast makes null, where the column itself is an error.
            **dict.fromkeys(_MARIA_STRINGS, _Read()),
            "date": _Read(_MARIA_TEXT, "date"),
            "datetime": _Read(_MARIA_TEXT, "timestamp_ntz"),
            "timestamp": _Read(_MARIA_TEXT, "timestamp", "Z"),
        },
        spoken="mariadb",
        as_text={
            **dict.fromkeys(_MARIA_STRINGS, "{}"),
            **dict.fromkeys(_MARIA_BYTES, "HEX({})"),
            "bit": _MARIA_BITS,
            "float": "CAST(CAST({} AS DOUBLE) AS CHAR)",
        },
    ),
}


@dataclass(frozen=True)
class _Stored:
    """One column, with its name in ``how``, and whether a reader has to be told that it is text here."""

    name: str
    stored: str
    how: _Read
    told: bool = False

    @property
    def cast(self) -> str | None:
        """The type of its text; None where it is not read from text."""
        return self.how.cast

    def read(self, text: Column) -> Column:
        """The column in its type, from what the server gave."""
        cast = self.cast
        if cast is None:
            return text
        whole = F.concat(text, F.lit(self.how.zone)) if self.how.zone else text
        if cast in _TIMES:
            # Spark takes what stands behind a date for nothing: 0044-03-15 BC would be one of our era.
            whole = F.when(text.rlike(_TIMES[cast]), whole)
        return whole.try_cast(cast)


def _reader(spark: SparkSession, found: Database) -> DataFrameReader:
    dialect = _DIALECTS[found.kind]
    reader = spark.read.format("jdbc").option("url", found.url).option("driver", dialect.driver)
    reader = reader.options(fetchsize=_FETCH_ROWS, **dialect.settings)
    for name, variable in (("user", USER), ("password", PASSWORD)):
        if variable in os.environ:
            reader = reader.option(name, os.environ[variable])
    return reader


def _columns(spark: SparkSession, found: Database, as_text: Collection[str], leave: Collection[str]) -> list[_Stored]:
    """What the database says of a table's columns, in their order; one row each is collected."""
    details = "numeric_precision AS digits, numeric_scale AS scale, ordinal_position AS place"
    dialect = _DIALECTS[found.kind]
    where = f"table_schema = {_text(found, found.schema)} AND table_name = {_text(found, found.table)}"
    query = (
        f"SELECT column_name AS name, data_type AS kind, {dialect.whole} AS whole, {details} "
        f"FROM information_schema.columns WHERE {where}"
    )
    rows = _reader(spark, found).option("query", query).load().orderBy("place").collect()
    made = []
    for row in rows:
        name, kind, whole = str(row["name"]), str(row["kind"]).lower(), str(row["whole"]).lower()
        digits, scale = (None if row[size] is None else int(row[size]) for size in ("digits", "scale"))
        known = dialect.others or kind in dialect.kinds or kind == dialect.decimal
        if not known and name in leave:
            made.append(_Stored(name, kind, _Read("NULL")))
        elif not known:
            raise TableError(
                f"{name} in {found.schema}.{found.table} is stored as {kind}, which is not read from {found.kind}.",
                expected=f"one of {', '.join([*dialect.kinds, dialect.decimal])}",
                fix=f"leave it out, --ignore {name}, or compare a view that writes it as one of these",
            )
        elif name in as_text:
            asked = dialect.as_text.get(kind, dialect.text)
            made.append(_Stored(name, whole, _Read(asked.format(dialect.quoted(name))), told=True))
        else:
            made.append(_stored(dialect, name, kind, whole, _decimal(digits, scale)))
    return made


def _stored(dialect: _Dialect, name: str, kind: str, whole: str, number: str | None) -> _Stored:
    """A column by its kind; ``number``: the decimal that holds its digits."""
    stored = whole
    if dialect.whole == "udt_name" and kind not in ("user-defined", "array"):
        stored = kind  # its standard name, where udt_name is the internal one
    read = dialect.kinds.get("bigint unsigned" if kind == "bigint" and "unsigned" in whole else kind)
    if kind == dialect.decimal and number is not None:
        read, stored = _Read(dialect.text, number), number.replace("decimal", kind)
    told = read is None
    read = read or _Read(dialect.text)
    return _Stored(name, stored, replace(read, asked=read.asked.format(dialect.quoted(name))), told)


def _text(found: Database, value: str) -> str:
    """A text in the database's own quotes; only MariaDB takes a backslash for more than itself."""
    known = value.replace("\\", "\\\\") if found.kind == "mariadb" else value
    return "'" + known.replace("'", "''") + "'"


def _decimal(digits: int | None, scale: int | None) -> str | None:
    """The decimal that holds every number of so many digits; None where none does, or nobody says how many."""
    if digits is None or scale is None or digits > _MOST_DIGITS or not 0 <= scale <= digits:
        return None
    return f"decimal({digits},{scale})"


def sound_rows(raw: DataFrame, columns: Sequence[Checked], ref: str) -> int:
    """How many rows there are; refuses columns with values that their type here does not hold. One Spark job."""
    cast = [each for each in columns if each.cast is not None]
    asked = [F.count(F.lit(1)).alias("rows")]
    for number, each in enumerate(cast):
        value = F.col(quoted(each.name))
        lost = value.isNotNull() & each.read(value).isNull()
        asked.append(F.count_if(lost).alias(f"n{number}"))
        asked.append(F.min(F.when(lost, value.cast("string"))).alias(f"v{number}"))
    told = raw.agg(*asked).collect()[0]
    for number, each in enumerate(cast):
        if told[f"n{number}"]:
            raise TableError(
                f"{plural(told[f'n{number}'], 'value')} of {each.name} in {ref}, stored as {each.stored}, "
                f"cannot be read as {each.cast}, such as {told[f'v{number}'][:60]}.",
                expected=f"values that {each.cast} holds",
                fix=f"compare it as text on both sides, --as {each.name}=string, or leave it out, --ignore {each.name}",
            )
    return int(told["rows"])
