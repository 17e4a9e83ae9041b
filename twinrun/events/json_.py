"""Decoders by name, and the one for JSON: bytes to the fields of a source, without a silent change."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DecimalType,
    DoubleType,
    FloatType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from twinrun.errors import JobError
from twinrun.events.exact import (
    AS_IT_STANDS,
    LONG,
    NESTED,
    SHOWN_CHARACTERS,
    STRING,
    TIMES,
    TOO_MUCH,
    any_place,
    as_it_stands,
    first_wrong,
    holds,
    places,
    quoted,
    tagged,
    tagged_struct,
    tagged_type,
)

# Decoders by name: a decoder turns the value of a record into the fields of a source.


Decoder = Callable[[DataFrame, StructType], DataFrame]
"""From rows with a BINARY ``value`` and the wire schema, to the same rows with three columns more.

``_fields``: struct of the wire schema, null where the record cannot be read. Times (TIMESTAMP, TIMESTAMP_NTZ, DATE) may
stand in it as STRING: ISO 8601, or the digits of a number of milliseconds; digits that the record has as a text keep
their quotes. TINYINT and DECIMAL are asked for wider than declared, so that what does not fit can be told.
``_format_rule``: null for a readable record, else the id of the quarantine rule. ``_format_reason``: one sentence,
null where the rule is. A decoder is lazy, keeps every row exactly once, changes no value in silence and never fails on
a record.
"""

_DECODERS: dict[str, Decoder] = {}


def register_decoder(name: str, decoder: Decoder) -> None:
    """Make a format known by name; a second registration replaces the first."""
    _DECODERS[name] = decoder


def find_decoder(name: str) -> Decoder:
    """Return the decoder of a format.

    Raises
    ------
    JobError
        No decoder has this name; the message lists those that exist.
    """
    if name not in _DECODERS:
        raise JobError(
            f"no decoder is registered for format {name!r}",
            expected="one of " + ", ".join(sorted(_DECODERS)),
            fix="change Source(format=...), or call twinrun.events.json_.register_decoder in the job file",
        )
    return _DECODERS[name]


# The JSON decoder: strict where Spark's from_json is lenient, exact where it is not, and never fatal.
#
# from_json alone accepts ``{"id": 1} trailing`` and single quotes, and mixes malformed text up with a wrong type.
# Here the text is parsed once inside ``{"v":[`` ... ``]}``: anything after the first object then either breaks the
# JSON or makes a second element. Only text that contains ``}`` followed by ``]`` could close the array early, and
# only such records are parsed a second time inside ``{"v":`` ... ``}``.
#
# from_json also rounds decimals, makes Infinity of large numbers and writes numbers anew that stand in a STRING field.
# Records in which that could have happened are told by cheap signs and read once more from a tagged text
# (`tagged`), in which every string and every number is a text that shows which of the two it is. Why a record is bad
# is worked out from the same text, for bad records only.


_CORRUPT = "_twinrun_corrupt"
_OPTIONS = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": _CORRUPT,
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}
# Numbers of which a DECIMAL may become another one without a word, each told from its rarest character, since all of a
# pattern is tried wherever its first one stands: digits in quotes that have a comma, an escape or another script's
# digits among them, and an exponent that is negative or has four digits, which stands behind
# a number, or behind twelve of its characters, or behind those that follow another script (of whose digits some are two
# characters to Java).
_IN_QUOTES = (
    r'(?=[-+.,]*(?:\d|\\u|[\p{Nd}&&[^0-9]]))(?:[-+.\deE]*+(?:,|\\u[0-9a-fA-F]{4}|[\p{Nd}&&[^0-9]]))++[-+.\deE]*+"'
)
_EXPONENT = r'(?=-|\+?\p{Nd}{4})(?<=(?:[\s:,\["[^\x00-\x7f]][-+.,0-9]{0,12}|[-+.,0-9]{13})[eE])'
# Of those, and of texts as long, the ones that Spark might write out for minutes: read on, and decided by `TOO_MUCH`.
_MAY_BE_HUGE = r"""(_odd AND (contains(_text, r'\u') OR _text RLIKE r'[eE][-+]?\p{Nd}{5}'))
    OR (octet_length(_text) > 999 AND _text RLIKE r'"[-+.,\p{Nd}eE]{999}')"""
# A number that Java wrote, as Spark does where a STRING field holds one; or the 0 of a -0.
_REWRITTEN = r"^-?\d+\.\d+(?:E-?\d+)?\z"
_REWRITTEN_INSIDE = r"\d\.\d|\"-?Infinity\"|[:,\[]0[,\]}]"
# What a value t is that may not be what the record says. Comparisons of bytes first: most texts begin with a letter.
_DOUBTFUL_NESTED = rf"(startswith(t, '{{') OR startswith(t, '[')) AND t RLIKE r'{_REWRITTEN_INSIDE}'"
_DOUBTFUL_TEXT = rf"""(t >= '-' AND t < ':' AND (t RLIKE r'{_REWRITTEN}' OR (t = '0' AND contains(_text, '-0'))))
    OR ({_DOUBTFUL_NESTED}) OR t IN ('"Infinity"', '"-Infinity"')"""
_DOUBTFUL_TIME = r"""t >= '-' AND t < ':' AND t RLIKE r'^-?\d+\z'
    AND (contains(_text, concat('"', t, '"')) OR contains(_text, r'\u00'))"""
_MAY_BE_LOST = f"(contains(_text, 'e-') OR contains(_text, 'E-') OR contains(_text, '{'0' * 30}'))"
_DOUBTFUL_NUMBER = f"t IN (DOUBLE('Infinity'), DOUBLE('-Infinity')) OR (t = 0 AND {_MAY_BE_LOST})"
# The same of all plain fields at once, without a function of a value: Spark 4.2 runs those by hand, and looks its
# settings up for each value that they read. Between two of the texts stands X'01'.
_ANY_REWRITTEN = r'(?:^|\x01)(?:-?\d+\.\d+(?:E-?\d+)?|"-?Infinity")(?=\x01|\z)'
_ANY_ZERO, _ANY_DIGITS = r"(?:^|\x01)0(?=\x01|\z)", r"(?:^|\x01)-?\d+(?=\x01|\z)"
# An escape from uD800 to uDFFF that is not one of a pair: Spark would make a question mark of it.
_HALF = r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
# A name of 50,000 characters is the longest that Spark reads; tagged, it is longer.
_LONG_NAME = r'"[^"\\]{50000}"\s*:'
LEVELS = 998
"""How deep a record may be: Spark reads 1,000 levels, and it is parsed inside two."""
# Brackets alone, without those inside strings; only of records that are bad and long.
_TOO_DEEP = rf"""(length(_text) > {LEVELS} AND aggregate(
    split(regexp_replace(_text, r'{STRING}|[^\[\]{{}}]', ''), ''), named_struct('now', 0, 'most', 0),
    (a, c) -> named_struct('now', a.now + CASE WHEN c IN ('[', '{{') THEN 1 WHEN c = '' THEN 0 ELSE -1 END,
        'most', greatest(a.most, a.now + CASE WHEN c IN ('[', '{{') THEN 1 ELSE 0 END)),
    a -> a.most) > {LEVELS})"""
_EARLY = rf"""CASE WHEN value IS NULL OR trim(_text) = '' THEN 'empty_value|the record has no value'
    WHEN NOT is_valid_utf8(_text) THEN 'not_utf8|the value is not valid UTF-8 text'
    WHEN (contains(_text, r'\ud') OR contains(_text, r'\uD'))
        AND replace(_text, r'\\', '-') RLIKE r'{_HALF}'
    THEN 'not_utf8|an escape in the value is half of a surrogate pair, which UTF-8 does not hold'
    WHEN octet_length(_text) > 50000 AND _text RLIKE r'{_LONG_NAME}'
    THEN 'not_json|a name of 50,000 characters or more, which is not read' END"""


def decode_json(rows: DataFrame, wire: StructType) -> DataFrame:
    """Read one JSON object per record; see `twinrun.events.json_.Decoder` for the columns.

    A STRING field takes the text of any JSON value as it stands; unknown fields are ignored; of a repeated name the
    last wins, in objects and in maps. Times come out as text: a number as its digits, and a text that is nothing
    but digits in quotes.
    """
    text = F.col("_text")
    read = StructType([StructField(f.name, _as_read(f.dataType), metadata=f.metadata) for f in wire])
    safe = F.from_json(F.concat(F.lit('{"v":['), text, F.lit("]}")), _wrapped(read, in_array=True), _OPTIONS)
    given = rows.select("*", F.col("value").cast("string").alias("_text"))
    huge = any_place(places("_tags", wire, (DecimalType,)), TOO_MUCH)
    if huge is not None:
        # A DECIMAL that would take Spark minutes, or all memory, to read: `_array` stays null.
        odd = computed_once(given, {"_odd": F.expr(_odd_numbers(wire))})
        tags = F.when(F.expr(_MAY_BE_HUGE), F.from_json(tagged(text), tagged_struct(read), _OPTIONS))
        given, safe = odd.select("*", tags.alias("_tags")), F.when(~F.expr(huge), safe)
    parsed = computed_once(given, {"_array": safe, "_early": F.expr(_EARLY)}, without=("_tags",))
    row = F.try_element_at(F.col("_array.v"), F.lit(1))
    huge_now = F.expr("_array IS NULL").alias("_huge")
    good = F.when(F.col("_early").isNull(), _intact(read)).otherwise(F.lit(False))
    checked = computed_once(parsed, {"_good": good, "_row": row, "_huge": huge_now}, without=("_array",))
    looked = computed_once(checked, {"_look": _second_look(wire, read)})
    names = [F.col(name) for name in rows.columns]
    said = looked.select(*names, "_row", "_look", F.expr(_said(wire)).alias("_said"), *_texts_of(wire))
    return said.select(
        *names,
        F.when(F.col("_said").isNull(), _fields(wire)).alias("_fields"),
        F.expr("substring_index(_said, '|', 1)").alias("_format_rule"),
        F.expr("substr(_said, instr(_said, '|') + 1)").alias("_format_reason"),
    )


def _second_look(wire: StructType, read: StructType) -> Column:
    """A record that is bad or doubtful, parsed in four more ways; null for any other.

    In a function over an array: its code, which runs for few records, stays out of the code that Spark generates
    for every record, which Java would otherwise find too long to compile.
    """
    text, bad = F.col("_text"), ~F.col("_good")
    deep = any(isinstance(f.dataType, NESTED) for f in wire)

    def again(_once: Column) -> Column:
        from_tags = tagged(text)
        cells = F.from_json(from_tags, tagged_struct(_texts(wire)), _OPTIONS)
        return F.struct(
            F.from_json(from_tags, tagged_struct(read), _OPTIONS).alias("tags"),
            F.when(bad, F.from_json(text, _with_corrupt(_texts(wire)), _OPTIONS)).alias("raw"),
            *([F.when(bad, cells).alias("cells")] if deep else []),
            F.when(bad & ~F.col("_huge"), F.from_json(text, _with_corrupt(read), _OPTIONS)).alias("typed"),
        )

    needed = F.col("_early").isNull() & (bad | F.expr(_doubtful(wire)))
    return F.when(needed, F.get(F.transform(F.array(F.lit(1)), again), F.lit(0)))


def _said(wire: StructType) -> str:
    """SQL of what is wrong with a record: rule, a bar and the reason; null where nothing is."""
    shown = f"substring(_text, 1, {SHOWN_CHARACTERS})"
    return f"""CASE WHEN _early IS NOT NULL THEN _early WHEN _look IS NULL THEN NULL
        WHEN NOT _good AND (_look.raw.{_CORRUPT} IS NOT NULL OR _look.raw IS NULL OR {_TOO_DEEP}) THEN concat(
            'not_json|not a JSON object', CASE WHEN length(_text) > {LONG} THEN ', or one of over {LEVELS} levels,'
            ' with a number of over 1,000 digits or a name of 50,000 characters: ' ELSE ': ' END, {shown})
        ELSE coalesce({first_wrong("_look", "_good", wire)},
            CASE WHEN NOT _good THEN concat(CASE WHEN _look.typed.{_CORRUPT} IS NOT NULL
            THEN 'wrong_type|a nested or repeated value has another type: '
            ELSE 'trailing_bytes|bytes after the JSON object: ' END, {shown}) END) END"""


def computed_once(rows: DataFrame, added: dict[str, Column], without: tuple[str, ...] = ()) -> DataFrame:
    """Add columns that are computed once per row, where the first of them is used.

    With a plain projection Spark 4.2 may evaluate from_json again for each use of its result, and does in a filter that
    it pushes down. A projection of which one column is not deterministic is neither merged into the next one that uses
    it nor passed by a filter. The number of a partition is that by its class alone: it is never below 0, and no result
    depends on it.
    """
    (name, first), *others = added.items()
    kept = [F.col(name) for name in rows.columns if name not in without]
    once = F.when(F.spark_partition_id() >= 0, first).alias(name)
    return rows.select(*kept, once, *[column.alias(other) for other, column in others])


def _intact(read: StructType) -> Column:
    in_object = F.from_json(
        F.concat(F.lit('{"v":'), F.col("_text"), F.lit("}")), _wrapped(read, in_array=False), _OPTIONS
    )
    elements = F.col("_array.v")
    one_object = F.col(f"_array.{_CORRUPT}").isNull() & (F.size(elements) == 1)
    closed_early = (
        F.col("_text").contains("]")
        & F.col("_text").rlike(r"\}\s*\]")
        & (in_object[_CORRUPT].isNotNull() | in_object["v"].isNull())
    )
    return F.coalesce(one_object & F.try_element_at(elements, F.lit(1)).isNotNull() & ~closed_early, F.lit(False))


def _wrapped(read: StructType, *, in_array: bool) -> StructType:
    inner = StructType([StructField(f.name, f.dataType) for f in read])
    value = ArrayType(inner) if in_array else inner
    return StructType([StructField("v", value), StructField(_CORRUPT, StringType())])


def _with_corrupt(schema: StructType) -> StructType:
    return StructType([*schema.fields, StructField(_CORRUPT, StringType())])


def _as_read(wire: DataType) -> DataType:
    """The schema for from_json: times as text, since Spark guesses at them and looks at the clock."""
    if isinstance(wire, (*TIMES, StringType)):
        return StringType()
    if isinstance(wire, ArrayType):
        return ArrayType(_as_read(wire.elementType))
    if isinstance(wire, MapType):
        return MapType(StringType(), _as_read(wire.valueType))
    if isinstance(wire, StructType):
        return StructType([StructField(f.name, _as_read(f.dataType)) for f in wire])
    return wire


def _texts(wire: StructType) -> StructType:
    return StructType([StructField(f.name, StringType()) for f in wire])


def _smallest_scale(dtype: DataType) -> int:
    if isinstance(dtype, ArrayType):
        return _smallest_scale(dtype.elementType)
    if isinstance(dtype, MapType):
        return _smallest_scale(dtype.valueType)
    if isinstance(dtype, StructType):
        return min((_smallest_scale(f.dataType) for f in dtype), default=38)
    return dtype.scale if isinstance(dtype, DecimalType) else 38


def _doubtful(wire: StructType) -> str:
    """SQL of whether from_json may have changed a value; false for nearly every record, and cheap to tell."""
    texts, in_texts = _plain_and_inside(wire, (StringType,))
    times, in_times = _plain_and_inside(wire, (TimestampType,))
    numbers, in_numbers = _plain_and_inside(wire, (DoubleType, FloatType))
    signs = ["_odd"] if holds(wire, DecimalType) else []
    signs += [_doubtful_texts(texts)] if texts else []
    if times:
        joined = f"concat_ws(CAST(X'01' AS STRING), {', '.join(times)})"
        exact = f"exists(array({', '.join(times)}), t -> {_DOUBTFUL_TIME})"
        signs.append(f"({joined} RLIKE r'{_ANY_DIGITS}' AND coalesce({exact}, false))")
    if numbers:
        values = f"array({', '.join(numbers)})"
        signs.append(f"""coalesce(array_max({values}) = DOUBLE('Infinity'), false)
            OR coalesce(array_min({values}) = DOUBLE('-Infinity'), false)
            OR ({_MAY_BE_LOST} AND coalesce(array_contains({values}, DOUBLE(0)), false))""")
    inside = [(in_texts, _DOUBTFUL_TEXT), (in_times, _DOUBTFUL_TIME), (in_numbers, _DOUBTFUL_NUMBER)]
    signs += [sign for places_, holds_ in inside if (sign := any_place(places_, holds_)) is not None]
    return " OR ".join(signs) or "false"


Places = list[tuple[str, DataType]]


def _plain_and_inside(wire: StructType, kinds: tuple[type[DataType], ...]) -> tuple[list[str], Places]:
    """SQL of the values of some kinds that are fields, also of a STRUCT; and the places of those in arrays and maps."""
    found = places("_row", wire, kinds, tag="")
    plain = [values[6:-1] for values, _ in found if values.startswith("array(")]
    return plain, [place for place in found if not place[0].startswith("array(")]


def _doubtful_texts(texts: list[str]) -> str:
    """SQL of whether one of these values of STRING fields is no text in the record, and may have been written anew."""
    joined, values = f"concat_ws(CAST(X'01' AS STRING), {', '.join(texts)})", f"array({', '.join(texts)})"
    nested = "locate('{', _text, 3) > 0 OR contains(_text, '[')"
    return f"""(coalesce(array_min({values}) < ':', false) AND ({joined} RLIKE r'{_ANY_REWRITTEN}'
            OR (contains(_text, '-0') AND {joined} RLIKE r'{_ANY_ZERO}')))
        OR (({nested}) AND coalesce(exists({values}, t -> {_DOUBTFUL_NESTED}), false))"""


def _odd_numbers(wire: StructType) -> str:
    """SQL of whether a record has a number, anywhere, that a DECIMAL of the source may not hold as it is written."""
    more = _smallest_scale(wire) + 1
    pattern = rf'[".eE](?:(?<="){_IN_QUOTES}|(?<=\.)\d{{{more}}}|(?<=[eE]){_EXPONENT})'
    return f"_text RLIKE r'{pattern}'"


def _simple(wire: StructType) -> list[StructField]:
    return [f for f in wire if isinstance(f.dataType, StringType | TimestampType)]


def _texts_of(wire: StructType) -> list[Column]:
    """The texts of a record that was looked at again, as they stand; digits in quotes keep these as a time."""
    simple = _simple(wire)
    if not simple:
        return []
    tags = ", ".join(f"_look.tags.{quoted('s' + f.name)}" for f in simple)
    times = ", ".join(str(n) for n, f in enumerate(simple) if isinstance(f.dataType, TimestampType)) or "-1"
    of_time = f"i IN ({times}) AND t RLIKE r'^s-?\\d+\\z'"
    each = f"""CASE WHEN {of_time} THEN concat('"', substring(t, 2), '"') ELSE {AS_IT_STANDS} END"""
    return [F.expr(f"CASE WHEN _look IS NOT NULL THEN transform(array({tags}), (t, i) -> {each}) END").alias("_texts")]


def _fields(wire: StructType) -> Column:
    """The row that was read; its texts as they stand where it was looked at again."""
    row, simple = F.col("_row"), [f.name for f in _simple(wire)]
    usual = F.col("_look").isNull()
    parts: list[Column] = []
    for field in wire:
        read = _as_read(field.dataType)
        value = _last_of_each_name(row[field.name], read)
        if field.name in simple:
            value = F.when(usual, value).otherwise(F.get("_texts", F.lit(simple.index(field.name))))
        elif holds(field.dataType, StringType, TimestampType):
            tag = _last_of_each_name(F.col("_look")["tags"]["s" + field.name], tagged_type(read))
            value = F.when(usual, value).otherwise(_merged(value, tag, field.dataType))
        parts.append(value.alias(field.name))
    return F.struct(*parts)


def _merged(value: Column, tag: Column, wire: DataType) -> Column:
    """A value with its texts as they stand in the record."""
    if isinstance(wire, StringType):
        return as_it_stands(tag)
    if isinstance(wire, TimestampType):
        in_quotes = F.concat(F.lit('"'), F.substring(tag, 2, 2**31 - 1), F.lit('"'))
        return F.when(tag.rlike(r"^s-?\d+\z"), in_quotes).otherwise(as_it_stands(tag))
    if not holds(wire, StringType, TimestampType):
        return value
    if isinstance(wire, StructType):
        parts = [_merged(value[f.name], tag["s" + f.name], f.dataType).alias(f.name) for f in wire]
        return F.when(value.isNotNull(), F.struct(*parts))
    if isinstance(wire, MapType):
        inner = wire.valueType
        values = F.zip_with(F.map_values(value), F.map_values(tag), lambda v, t: _merged(v, t, inner))
        return F.map_from_arrays(F.map_keys(value), values)
    assert isinstance(wire, ArrayType)
    element = wire.elementType
    return F.zip_with(value, tag, lambda v, t: _merged(v, t, element))


def _last_of_each_name(value: Column, read: DataType) -> Column:
    """The value with each name once per map, at any depth: Spark keeps them all and finds the first."""
    if not holds(read, MapType):
        return value
    if isinstance(read, StructType):
        parts = [_last_of_each_name(value[f.name], f.dataType).alias(f.name) for f in read]
        return F.when(value.isNotNull(), F.struct(*parts))
    if isinstance(read, ArrayType):
        element = read.elementType
        return F.transform(value, lambda each: _last_of_each_name(each, element))
    assert isinstance(read, MapType)
    inner = read.valueType
    if holds(inner, MapType):
        value = F.transform_values(value, lambda _, each: _last_of_each_name(each, inner))
    keys = F.map_keys(value)
    later = F.filter(
        F.map_entries(value),
        lambda entry, n: ~F.array_contains(F.slice(keys, n + 2, F.size(keys)), entry["key"]),
    )
    return F.when(F.size(F.array_distinct(keys)) == F.size(keys), value).otherwise(F.map_from_entries(later))


register_decoder("json", decode_json)
