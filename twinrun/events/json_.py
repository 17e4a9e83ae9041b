"""The JSON decoder: strict where Spark's from_json is lenient, and never fatal.

from_json alone accepts ``{"id": 1} trailing`` and single quotes, and mixes malformed text up with a wrong type.
Here the text is parsed once inside ``{"v":[`` ... ``]}``: anything after the first object then either breaks the
JSON or makes a second element. Only text that contains ``}`` followed by ``]`` could close the array early, and
only such records are parsed a second time inside ``{"v":`` ... ``}``. Why a record is bad is worked out by two more
parses that run for bad records only.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import IntegralType, StringType, StructField, StructType

from twinrun.events.registry import register_decoder

_CORRUPT = "_twinrun_corrupt"
_SHOWN_CHARACTERS = 80
_OPTIONS = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": _CORRUPT,
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}


def decode_json(rows: DataFrame, wire: StructType) -> DataFrame:
    """Read one JSON object per record; see `twinrun.events.registry.Decoder` for the columns.

    A STRING field takes the text of any JSON value; unknown fields are ignored; of a repeated field the last wins
    (all three as in from_json).
    """
    text = F.col("value").cast("string")
    in_array = F.from_json(F.concat(F.lit('{"v":['), text, F.lit("]}")), _wrapped(wire, in_array=True), _OPTIONS)
    parsed = _barrier(rows, {"_text": text, "_array": in_array})
    empty = F.col("value").isNull() | (F.trim("_text") == "")
    not_utf8 = ~F.is_valid_utf8("_text")
    checked = _barrier(parsed, {"_good": F.when(empty | not_utf8, F.lit(False)).otherwise(_intact(wire))})
    malformed = ~F.col("_good") & ~empty & ~not_utf8
    text_only = StructType([StructField(f.name, StringType()) for f in wire])
    diagnosed = _barrier(
        checked,
        {
            "_raw": F.when(malformed, F.from_json("_text", _with_corrupt(text_only), _OPTIONS)),
            "_typed": F.when(malformed, F.from_json("_text", _with_corrupt(wire), _OPTIONS)),
        },
    )
    rule, reason = _diagnosis(wire)
    empty_reason, utf8_reason = F.lit("the record has no value"), F.lit("the value is not valid UTF-8 text")
    return diagnosed.select(
        *[F.col(name) for name in rows.columns],
        F.when(F.col("_good"), F.try_element_at(F.col("_array.v"), F.lit(1))).alias("_fields"),
        F.when(empty, F.lit("empty_value"))
        .when(not_utf8, F.lit("not_utf8"))
        .when(~F.col("_good"), rule)
        .alias("_format_rule"),
        F.when(empty, empty_reason).when(not_utf8, utf8_reason).when(~F.col("_good"), reason).alias("_format_reason"),
    )


def _barrier(rows: DataFrame, added: dict[str, Column]) -> DataFrame:
    """Add columns that are computed exactly once per row.

    A generator stops the optimizer from pulling expressions up or pushing filters down through it. With a plain
    projection, Spark 4.2 evaluates from_json again for each use of its result.
    """
    columns = [*[F.col(name) for name in rows.columns], *[c.alias(name) for name, c in added.items()]]
    return rows.select(F.explode(F.array(F.struct(*columns))).alias("_r")).select("_r.*")


def _intact(wire: StructType) -> Column:
    in_object = F.from_json(
        F.concat(F.lit('{"v":'), F.col("_text"), F.lit("}")), _wrapped(wire, in_array=False), _OPTIONS
    )
    elements = F.col("_array.v")
    one_object = F.col(f"_array.{_CORRUPT}").isNull() & (F.size(elements) == 1)
    closed_early = (
        F.col("_text").contains("]")
        & F.col("_text").rlike(r"\}\s*\]")
        & (in_object[_CORRUPT].isNotNull() | in_object["v"].isNull())
    )
    return F.coalesce(one_object & F.try_element_at(elements, F.lit(1)).isNotNull() & ~closed_early, F.lit(False))


def _wrapped(wire: StructType, *, in_array: bool) -> str:
    fields = ", ".join(f"{quoted(f.name)}: {f.dataType.simpleString()}" for f in wire)
    inner = f"struct<{fields}>"
    return f"struct<v: {f'array<{inner}>' if in_array else inner}, {_CORRUPT}: string>"


def quoted(name: str) -> str:
    """A column name in backticks, safe for dots, spaces and backticks."""
    return "`" + name.replace("`", "``") + "`"


def _with_corrupt(schema: StructType) -> StructType:
    return StructType([*schema.fields, StructField(_CORRUPT, StringType())])


def _diagnosis(wire: StructType) -> tuple[Column, Column]:
    """Rule and reason of a record that is known to be bad."""
    raw, typed, text = F.col("_raw"), F.col("_typed"), F.col("_text")
    shown = F.substring(text, 1, _SHOWN_CHARACTERS)
    not_json = raw[_CORRUPT].isNotNull() | raw.isNull()
    rule = F.when(not_json, F.lit("not_json"))
    reason = F.when(not_json, F.concat(F.lit("not a JSON object: "), shown))
    for field in wire:
        cell = raw[field.name]
        mismatch = cell.isNotNull() & typed[field.name].isNull()
        seen = F.substring(cell, 1, _SHOWN_CHARACTERS)
        says = F.concat(F.lit(f"field {field.name}: "), seen, F.lit(f" is not {field.dataType.simpleString()}"))
        if isinstance(field.dataType, IntegralType):
            # A whole JSON number that the type cannot hold; the same digits in quotes are of a wrong type.
            in_quotes = text.rlike('"' + _regex(field.name) + r'"\s*:\s*"')
            rule = rule.when(mismatch & cell.rlike(r"^-?\d+$") & ~in_quotes, F.lit("out_of_range"))
            reason = reason.when(mismatch & cell.rlike(r"^-?\d+$") & ~in_quotes, says)
        rule = rule.when(mismatch, F.lit("wrong_type"))
        reason = reason.when(mismatch, says)
    nested = typed[_CORRUPT].isNotNull()
    return (
        rule.when(nested, F.lit("wrong_type")).otherwise(F.lit("trailing_bytes")),
        reason.when(nested, F.concat(F.lit("a nested value has another type: "), shown)).otherwise(
            F.concat(F.lit("bytes after the JSON object: "), shown)
        ),
    )


def _regex(name: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else "\\" + c for c in name)


register_decoder("json", decode_json)
