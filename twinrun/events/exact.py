"""Values at any depth of a field: text that shows what it was, and the declared type, without a silent change."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    IntegralType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from twinrun.events.times import (
    finer_than_microseconds,
    in_calendar,
    iso8601_day,
    iso8601_instant,
    iso8601_local,
    local_of_millis,
    near_by_another_unit,
    of_millis,
)

# Values at any depth of a field: what a record is read as, and the declared type, without a silent change.
#
# A type is read wider where the reader itself would round or wrap (`wire_type`), and narrowed afterwards: whatever does
# not fit is named. Times are read as text or as a number of milliseconds and become times here.


SHOWN_CHARACTERS = 80
DECLARED = "twinrun.declared"
"""Metadata of a wire field: the declared type, for messages."""

EXACT_TIMES = {
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
    "ignoreNullFields": "false",
}
"""Options of ``to_json`` that keep nulls and microseconds; by default it cuts times to milliseconds."""
TIMES = (TimestampType, TimestampNTZType, DateType)
_DIGITS = r"^-?\d+\z"
Leaf = Callable[[Column, DataType, DataType], Column | None]
"""From a value, the type it was read as and the declared type to a text; None where such a value is never wrong."""


@dataclass(frozen=True)
class TimeForm:
    """How times are written: numbers of milliseconds, ISO 8601 texts, or either."""

    numbers: bool
    texts: bool
    cut: bool = True
    """Whether digits beyond microseconds are cut off; otherwise such a text is no time of the type."""


EITHER = TimeForm(numbers=True, texts=True)


def wire_type(declared: DataType, times: TimeForm = EITHER) -> DataType:
    """The type to ask of a decoder; it keeps times as they are unless only numbers are written."""
    if isinstance(declared, ByteType):
        return ShortType()  # Spark 4.2 reads 128 to 255 as negative numbers
    if isinstance(declared, DecimalType):
        return DecimalType(38, 38 - (declared.precision - declared.scale))
    if isinstance(declared, TimestampType | TimestampNTZType) and not times.texts:
        return LongType()
    if isinstance(declared, ArrayType):
        return ArrayType(wire_type(declared.elementType, times))
    if isinstance(declared, MapType):
        return MapType(declared.keyType, wire_type(declared.valueType, times))
    if isinstance(declared, StructType):
        return StructType([StructField(f.name, wire_type(f.dataType, times)) for f in declared])
    return declared


def wire_field(field: StructField, dtype: DataType) -> StructField:
    """A field of the wire schema that remembers the declared type for messages."""
    return StructField(field.name, dtype, metadata={DECLARED: field.dataType.simpleString()})


def declared_name(field: StructField) -> str:
    """The declared type of a wire field in words."""
    return str((field.metadata or {}).get(DECLARED, field.dataType.simpleString()))


def holds(dtype: DataType, *kinds: type[DataType]) -> bool:
    """Whether a type is, or has inside, one of some kinds."""
    if isinstance(dtype, kinds):
        return True
    if isinstance(dtype, ArrayType):
        return holds(dtype.elementType, *kinds)
    if isinstance(dtype, MapType):
        return holds(dtype.valueType, *kinds)
    return isinstance(dtype, StructType) and any(holds(f.dataType, *kinds) for f in dtype)


def first_text(value: Column, read: DataType, declared: DataType, leaf: Leaf) -> Column | None:
    """The first text that ``leaf`` gives inside a value, null where it gives none; None if it never would."""
    if isinstance(declared, StructType) and isinstance(read, StructType):
        own = leaf(value, read, declared)
        found = [own] if own is not None else []
        for inner, outer in zip(read, declared, strict=True):
            text = first_text(value[inner.name], inner.dataType, outer.dataType, leaf)
            found += [text] if text is not None else []
        return F.coalesce(*found) if found else None
    if isinstance(declared, ArrayType) and isinstance(read, ArrayType):
        return _first_of(value, read.elementType, declared.elementType, leaf)
    if isinstance(declared, MapType) and isinstance(read, MapType):
        return _first_of(F.map_values(value), read.valueType, declared.valueType, leaf)
    return leaf(value, read, declared)


def _first_of(values: Column, read: DataType, declared: DataType, leaf: Leaf) -> Column | None:
    if first_text(F.lit(None), read, declared, leaf) is None:
        return None
    texts = F.transform(values, lambda each: _known(first_text(each, read, declared, leaf)))
    return F.try_element_at(F.filter(texts, lambda text: text.isNotNull()), F.lit(1))


def _known(column: Column | None) -> Column:
    return F.lit(None) if column is None else column


def as_declared(value: Column, read: DataType, declared: DataType, times: TimeForm = EITHER) -> Column:
    """The value in its declared type; null, at its place, where it does not fit."""
    if isinstance(declared, StructType) and isinstance(read, StructType):
        if all(_same(inner.dataType, outer.dataType) for inner, outer in zip(read, declared, strict=True)):
            return value
        parts = [
            as_declared(value[inner.name], inner.dataType, outer.dataType, times).alias(outer.name)
            for inner, outer in zip(read, declared, strict=True)
        ]
        return F.when(value.isNotNull(), F.struct(*parts))
    if isinstance(declared, ArrayType) and isinstance(read, ArrayType):
        inner, outer = read.elementType, declared.elementType
        return value if _same(inner, outer) else F.transform(value, lambda x: as_declared(x, inner, outer, times))
    if isinstance(declared, MapType) and isinstance(read, MapType):
        inner, outer = read.valueType, declared.valueType
        if _same(inner, outer):
            return value
        return F.transform_values(value, lambda _, x: as_declared(x, inner, outer, times))
    if _same(read, declared):
        return value
    return _time(value, read, declared, times) if isinstance(declared, TIMES) else value.try_cast(declared)


def _same(read: DataType, declared: DataType) -> bool:
    """Whether a value stays as it was read; whether nulls are allowed does not count."""
    return read.simpleString() == declared.simpleString()


def _time(value: Column, read: DataType, declared: DataType, times: TimeForm) -> Column:
    local = isinstance(declared, TimestampNTZType)
    if isinstance(read, LongType):
        return local_of_millis(value) if local else of_millis(value)
    if not isinstance(read, StringType):
        return value.try_cast(declared)
    if isinstance(declared, DateType):
        return iso8601_day(value)
    text = iso8601_local(value) if local else iso8601_instant(value)
    if not times.cut:
        text = F.when(~finer_than_microseconds(value), text)
    if local or not times.numbers:
        return text
    return F.when(_is_digits(value), of_millis(value.try_cast("bigint"))).otherwise(text)


def unfit_number(value: Column, read: DataType, declared: DataType) -> Column | None:
    """A `Leaf`: the number that its declared type does not hold exactly."""
    if isinstance(declared, ByteType) and not isinstance(read, ByteType):
        return F.when(~value.between(-128, 127), value.cast("string"))
    if isinstance(declared, DecimalType) and read != declared:
        kept = value.try_cast(declared)
        shown = F.regexp_replace(F.regexp_replace(value.cast("string"), r"(\.\d*?)0+$", "$1"), r"\.$", "")
        return F.when(value.isNotNull() & (kept.isNull() | (kept != value)), shown)
    return None


def no_time(times: TimeForm) -> Leaf:
    """A `Leaf`, to be read by `kind_and_value`: a value that is no time of its type, or one outside the years."""

    def leaf(value: Column, read: DataType, declared: DataType) -> Column | None:
        if not isinstance(declared, TIMES) or not isinstance(read, StringType | LongType):
            return None
        if isinstance(read, LongType):
            return F.when(~in_calendar(value), F.concat(F.lit("number|"), value.cast("string")))
        return no_time_of(value, _time(value, read, declared, times), declared, times)

    return leaf


def no_time_of(value: Column, typed: Column, declared: DataType, times: TimeForm) -> Column:
    """As `no_time`, where the value has been read as a time already."""
    kind = "either" if isinstance(declared, TimestampType) and times.numbers else declared.simpleString()
    return F.when(value.isNotNull() & typed.isNull(), F.concat(F.lit(f"{kind}|"), value))


def kinds_of(declared: StructType, event_time: str) -> frozenset[str]:
    """The kinds of times that `no_time` can find in a source."""
    kinds = {"number"}
    for kind, name in ((TimestampType, "either"), (TimestampNTZType, "timestamp_ntz"), (DateType, "date")):
        kinds |= {name} if any(holds(f.dataType, kind) for f in declared if f.name != event_time) else set()
    return frozenset(kinds | {"timestamp"})


def kind_and_value(found: Column) -> tuple[Column, Column]:
    """What `no_time` found: the kind of time, for `twinrun.events.times.why_no_time`, and the value."""
    return F.substring_index(found, "|", 1), F.substr(found, F.instr(found, "|") + 1)


def other_unit(kafka_ms: Column, near_ms: int) -> Leaf:
    """A `Leaf`: the digits of a TIMESTAMP whose number fits the record's Kafka timestamp only in another unit."""

    def leaf(value: Column, read: DataType, declared: DataType) -> Column | None:
        if not isinstance(declared, TimestampType) or not isinstance(read, StringType):
            return None
        number = value.try_cast("bigint")
        return F.when(_is_digits(value) & near_by_another_unit(number, kafka_ms, near_ms), value)

    return leaf


def _is_digits(value: Column) -> Column:
    # The fifth character of an ISO 8601 text is a hyphen; that is cheaper to see than a pattern.
    return (F.substring(value, 5, 1) != "-") & value.rlike(_DIGITS)


def missing_inside(value: Column, read: DataType, declared: DataType) -> Column | None:
    """A `Leaf`: the name of a required field that is null inside a STRUCT that is there."""
    if not isinstance(declared, StructType) or not isinstance(read, StructType):
        return None
    absent = [
        F.when(value.isNotNull() & value[inner.name].isNull(), F.lit(outer.name))
        for inner, outer in zip(read, declared, strict=True)
        if not outer.nullable
    ]
    return F.coalesce(*absent) if absent else None


# Tagged text: JSON in which every string and every number is a text that shows which of the two it was.
#
# From it values are judged and texts taken as they stand. That is told by data: a table with one row for each place of
# a value in the declaration, read by one expression for all of them, so that the plan hardly grows with the fields.
# The expressions are SQL text, which is far cheaper to build than columns; patterns are raw literals, which no setting
# of a session reads in another way.


NESTED = (ArrayType, MapType, StructType)
LONG = 1000
"""Fewer characters cannot be beyond the reader's limits: numbers of 1,000 digits, 1,000 levels."""

# A string, and a run of anything but numbers in which strings are whole; possessive, so that no text can exhaust
# the stack or the time.
STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FIRST_NUMBER = rf'\G((?:[^"\d-]++|{STRING})*+)(-?\d[\d.eE+-]*+)'
# What BigDecimal reads of a text in quotes, without the digits of other scripts and the commas that Spark drops.
_DECIMAL_TEXT = r"^[ns][+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?\z"
# Spark writes out all digits of a decimal with a large exponent, for minutes or until memory ends; and Java needs
# minutes for a million digits in quotes.
_NOT_0 = r"[\p{Nd}&&[^0]]"
_HUGE = rf"^[ns](?:(?!{_NOT_0})[^eE])*+{_NOT_0}[^eE]*+[eE][+-]?0*+\p{{Nd}}{{5}}"
TOO_MUCH = f"(length(t) > {LONG + 1} OR t RLIKE r'{_HUGE}')"
"""Whether a decimal must not be parsed; in quotes the reader's limit of 1,000 digits does not hold."""

# Digits before the point less w, and digits behind it less s, without the zeros at both ends.
_HOLDS = r"""get(transform(transform(transform(
    array(named_struct(
        'w', regexp_extract(t, r'^.[+-]?(\d*)', 1),
        'b', regexp_extract(t, r'^.[+-]?\d*\.(\d*)', 1),
        'e', regexp_extract(t, r'[eE]([+-]?\d+)\z', 1))),
    n -> named_struct('d', concat(n.w, n.b), 's', length(n.b) - CASE WHEN n.e = '' THEN 0L
        ELSE try_cast(n.e AS BIGINT) END)),
    n -> named_struct('c', trim(TRAILING '0' FROM n.d), 'z', length(n.d), 's', n.s)),
    n -> length(trim(LEADING '0' FROM n.c)) = 0 OR coalesce(
        n.s - n.z + length(n.c) <= w.s
        AND length(trim(LEADING '0' FROM n.c)) - n.s + n.z - length(n.c) <= w.w, false)), 0)"""
# Whether a number became infinite, or 0 without being 0.
_LOST = r"""(try_cast(substring(t, 2) AS {0}) IN ({0}('Infinity'), {0}('-Infinity'))
    OR (try_cast(substring(t, 2) AS {0}) = 0 AND t RLIKE r'^.[^eE]*[1-9]'))"""
# Of a tag t and its place w, by the kind of the type: r where the value is too large or too fine, t where it is no
# such, null where it fits.
_VERDICTS = {
    "integer": r"""CASE WHEN NOT t RLIKE r'^n-?\d+\z' THEN 't' WHEN NOT coalesce(
        try_cast(substring(t, 2) AS DECIMAL(38,0)) >= w.low AND try_cast(substring(t, 2) AS DECIMAL(38,0)) <= w.high,
        t IS NULL) THEN 'r' END""",
    "decimal": rf"""CASE WHEN NOT t RLIKE r'{_DECIMAL_TEXT}' THEN 't' WHEN {TOO_MUCH} OR NOT {_HOLDS} THEN 'r' END""",
    "double": f"CASE WHEN NOT t LIKE 'n%' THEN 't' WHEN {_LOST.format('DOUBLE')} THEN 'r' END",
    "float": f"CASE WHEN NOT t LIKE 'n%' THEN 't' WHEN {_LOST.format('FLOAT')} THEN 'r' END",
    "boolean": "CASE WHEN t NOT IN ('true', 'false') THEN 't' END",
    # Groups of four: after an incomplete one the reader gives up on the whole record.
    "binary": r"""CASE WHEN NOT t RLIKE r'^s[\x00-\x20A-Za-z0-9+/=]*+\z'
        OR (length(regexp_replace(t, r'[\x00-\x20]', '')) - 1) % 4 <> 0 THEN 't' END""",
}
_BETWEEN = "\x01"
_FIELD = re.compile(r"\w+:(?!struct)\w+")
_PLACE = "array<struct<n:string,d:string,k:string,low:decimal(38,0),high:decimal(38,0),w:int,s:int>>"

_NUMBER_TAG, _TEXT_TAG = r'(?<=[:,\[])"n([^"]*)"', r'(?<=[:,\[{])"s'

AS_IT_STANDS = rf"""CASE WHEN t LIKE 's%' OR t LIKE 'n%' THEN substring(t, 2)
    WHEN t LIKE '{{%' OR t LIKE '[%' THEN regexp_replace(
        regexp_replace(t, r'{_NUMBER_TAG}', '$1'), r'{_TEXT_TAG}', '"') ELSE t END"""
"""A tagged text ``t`` without its tags; objects and arrays lose the white space between their parts."""

SHOWN = AS_IT_STANDS.replace("CASE ", """CASE WHEN t LIKE 's%' THEN concat('"', substring(t, 2), '"') """, 1)
"""A tagged text ``t`` as in the record: texts in quotes."""


def tagged(text: Column) -> Column:
    """JSON in which every string, names too, begins with ``s``, and every number is a string that begins with ``n``."""
    strings = F.regexp_replace(text, rf'"({STRING[1:-1]})"', '"s$1"')
    return F.regexp_replace(strings, _FIRST_NUMBER, '$1"n$2"')


def as_it_stands(tag: Column) -> Column:
    """`AS_IT_STANDS` of a column."""
    nested = F.regexp_replace(F.regexp_replace(tag, _NUMBER_TAG, "$1"), _TEXT_TAG, '"')
    simple = tag.startswith("s") | tag.startswith("n")
    return F.when(simple, F.substring(tag, 2, 2**31 - 1)).when(tag.rlike(r"^[{\[]"), nested).otherwise(tag)


def quoted(name: str) -> str:
    """A column name in backticks, safe for dots, spaces and backticks."""
    return "`" + name.replace("`", "``") + "`"


def places(
    value: str, wire: DataType, kinds: tuple[type[DataType], ...], tag: str = "s", depth: int = 0
) -> list[tuple[str, DataType]]:
    """SQL of an array of the values at each place of some kinds inside a value, and the type that was asked for."""
    if isinstance(wire, StructType):
        inside = [places(f"{value}.{quoted(tag + f.name)}", f.dataType, kinds, tag, depth) for f in wire]
        return [place for found in inside for place in found]
    if not isinstance(wire, ArrayType | MapType):
        return [(f"array({value})", wire)] if isinstance(wire, kinds) else []
    items, each = (value, wire.elementType) if isinstance(wire, ArrayType) else (f"map_values({value})", wire.valueType)
    if not isinstance(each, StructType | ArrayType | MapType):
        return [(items, each)] if isinstance(each, kinds) else []
    found = places(f"v{depth}", each, kinds, tag, depth + 1)
    return [(f"flatten(transform({items}, v{depth} -> coalesce({values}, array())))", kind) for values, kind in found]


def any_place(found: Sequence[tuple[str, DataType]], holds: str) -> str | None:
    """SQL: whether a condition holds for a value ``t`` at any of some places; None where there is none."""
    single = [values[6:-1] for values, _ in found if values.startswith("array(")]
    several = [f"coalesce({values}, array())" for values, _ in found if not values.startswith("array(")]
    if not found:
        return None
    values = [*([f"array({', '.join(single)})"] if single else []), *several]
    joined = f"concat({', '.join(values)})" if len(values) > 1 else values[0]
    return f"coalesce(exists({joined}, t -> {holds}), false)"


def first_wrong(look: str, good: str, wire: StructType) -> str:
    """SQL of the rule, a bar and the sentence of the first value that does not fit its type, else null.

    ``look`` has the tagged texts (``tags``) and, of bad records, nested fields as one tagged text each (``cells``) and
    all as far as they could be read (``typed``). Of a bad record without a wrong value it is that of the first field
    which has a value and could not be read.
    """
    kinds = (IntegralType, DecimalType, DoubleType, FloatType, BooleanType, BinaryType)
    rows: list[dict[str, object]] = []
    arrays: list[str] = []
    for field in wire:
        for values, kind in places(f"{look}.tags.{quoted('s' + field.name)}", field.dataType, kinds):
            arrays.append(values)
            rows.append({"n": field.name, "d": declared_name(field), **_bounds(kind)})
    says = "'n', w.n, 'd', w.d, 't', t)"
    unread = f"""CASE WHEN NOT {good} THEN zip_with({_names(wire)}, array({", ".join(_unread(look, wire))}),
        (w, t) -> CASE WHEN t IS NOT NULL THEN named_struct('r', 't', {says} END) END"""
    found = f"coalesce({unread}, array())"
    if rows:
        used = {row["k"] for row in rows}
        cases = " ".join(f"WHEN '{kind}' THEN {sql}" for kind, sql in _VERDICTS.items() if kind in used)
        unfit = f"""zip_with({table(rows, _PLACE)}, array({", ".join(arrays)}), (w, ts) -> get(filter(
            transform(ts, t -> named_struct('r', CASE w.k {cases} END, {says}), x -> x.r IS NOT NULL), 0))"""
        found = f"concat({unfit}, {found})"
    return f"""get(transform(slice(filter({found}, x -> x IS NOT NULL), 1, 1), x -> concat(
        CASE x.r WHEN 'r' THEN 'out_of_range|field ' ELSE 'wrong_type|field ' END, x.n, ': ',
        get(transform(array(x.t), t -> substring({SHOWN}, 1, {SHOWN_CHARACTERS})), 0),
        CASE x.r WHEN 'r' THEN ' does not fit ' ELSE ' is not ' END, x.d)), 0)"""


def _unread(look: str, wire: StructType) -> list[str]:
    """SQL of each field's tagged text where it has a value and could not be read, else null."""
    lost = f"{look}.typed IS NOT NULL AND {look}.typed"
    texts: list[str] = []
    for field in wire:
        name, tag = quoted(field.name), quoted("s" + field.name)
        if isinstance(field.dataType, NESTED):
            whole = f"{look}.cells.{tag}"
            texts.append(f"CASE WHEN {look}.tags.{tag} IS NULL OR ({lost}.{name} IS NULL) THEN {whole} END")
        elif not isinstance(field.dataType, StringType):
            texts.append(f"CASE WHEN {lost}.{name} IS NULL THEN {look}.tags.{tag} END")
    return texts


def _names(wire: StructType) -> str:
    names: list[dict[str, object]] = [
        {"n": field.name, "d": declared_name(field)} for field in wire if not isinstance(field.dataType, StringType)
    ]
    return table(names, "array<struct<n:string,d:string>>")


def _bounds(kind: DataType) -> dict[str, object]:
    if isinstance(kind, IntegralType):
        bits = 8 * {"tinyint": 1, "smallint": 2, "int": 4, "bigint": 8}[kind.simpleString()] - 1
        return {"k": "integer", "low": -(2**bits), "high": 2**bits - 1}
    if isinstance(kind, DecimalType):
        return {"k": "decimal", "w": kind.precision - kind.scale, "s": kind.scale}
    return {"k": kind.simpleString()}


def table(rows: Sequence[dict[str, object]], kind: str) -> str:
    """SQL of a small table; Spark reads it once when it plans, so that it is one node.

    Column by column in hexadecimal, which no setting of a session reads in another way. To read JSON for it would take
    a tenth of all planning, for every micro-batch.
    """
    if not rows:
        return f"CAST(array() AS {kind})"
    names = [field.split(":", 1)[0] for field in _FIELD.findall(kind)]
    columns = [["" if row.get(name) is None else str(row[name]) for row in rows] for name in names]
    if any(_BETWEEN in cell for cells in columns for cell in cells):
        return f"from_json(r'{json.dumps(rows).replace(chr(39), chr(92) + 'u0027')}', '{kind}')"
    texts = [f"split({_sql_text(_BETWEEN.join(cells))}, {_sql_text(_BETWEEN)})" for cells in columns]
    return f"try_cast(arrays_zip({', '.join(texts)}) AS {kind})"


def _sql_text(text: str) -> str:
    return f"CAST(X'{text.encode().hex()}' AS STRING)"


def tagged_type(read: DataType) -> DataType:
    """The same shape over tagged text: names begin with s, every value is a text."""
    if isinstance(read, ArrayType):
        return ArrayType(tagged_type(read.elementType))
    if isinstance(read, MapType):
        return MapType(StringType(), tagged_type(read.valueType))
    return tagged_struct(read) if isinstance(read, StructType) else StringType()


def tagged_struct(read: StructType) -> StructType:
    """`tagged_type` of a struct."""
    return StructType([StructField("s" + f.name, tagged_type(f.dataType)) for f in read])


# Types of numbers, and the narrowest one that holds every value of two.


INTEGRALS: tuple[type[DataType], ...] = (ByteType, ShortType, IntegerType, LongType)
FLOATS: tuple[type[DataType], ...] = (FloatType, DoubleType)
MAX_PRECISION = 38


def wider(left: DataType, right: DataType) -> DataType | None:
    """The narrower type that holds every value of both numbers; None where there is none."""
    if isinstance(left, DecimalType) and isinstance(right, DecimalType):
        scale = max(left.scale, right.scale)
        precision = max(left.precision - left.scale, right.precision - right.scale) + scale
        return DecimalType(precision, scale) if precision <= MAX_PRECISION else None
    for family in (INTEGRALS, FLOATS):
        if isinstance(left, family) and isinstance(right, family):
            return max(left, right, key=lambda dtype: family.index(type(dtype)))
    return None
