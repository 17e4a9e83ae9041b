"""How Parquet files hold their columns, from their footers, and how each stored form becomes a value exactly."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.ipc
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.errors import TableError
from twinrun.events.exact import quoted
from twinrun.tables.files import hadoop_conf
from twinrun.tables.folder import Folder, one_form

_CHUNK = 500
_BY_SPARK = "org.apache.spark.version"
_SPARK_SCHEMA = "org.apache.spark.sql.parquet.row.metadata"
_CHAR = "__CHAR_VARCHAR_TYPE_STRING"
_NANOS_PER = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_NANOS_OF = {"MILLIS": 1_000_000, "MICROS": 1_000, "NANOS": 1}
_INSIDE = "inside"
_NANOS_INSIDE = re.compile(r"int64 \S+ \((TIMESTAMP\(NANOS,(?:true|false)\))\)")
_ARROW_SCHEMA = "ARROW:schema"
_INT96_INSIDE = re.compile(r"(optional|required|repeated) int96 ")


@dataclass(frozen=True)
class Stored:
    """One form in which files hold a column.

    Attributes
    ----------
    text : str
        Parquet's own words for it, such as ``INT64 (TIMESTAMP(NANOS,true))``.
    read_type : DataType
        What Spark is told to read.
    value_type : DataType
        What is made of it.
    special : str
        Which rule makes the value of what was read; empty: it is the value.
    problem : str
        Why it cannot be read exactly, as the end of a sentence; empty: it can.
    """

    text: str
    read_type: T.DataType
    value_type: T.DataType
    special: str = ""
    problem: str = ""

    @property
    def needs_rows(self) -> bool:
        """Whether only Spark's reader by rows hands the stored form out."""
        return self.special.startswith(("time", "uuid", "float16"))

    @property
    def is_nanoseconds(self) -> bool:
        """Whether it is INT64 nanoseconds since 1970."""
        return self.special.startswith("nanos")

    @property
    def may_be_cut(self) -> bool:
        """Whether a value may have a part below a microsecond, which a timestamp of Spark has no room for."""
        return self.is_nanoseconds or self.special == "int96"

    @property
    def raw_type(self) -> T.DataType:
        """The type in which the reader by rows hands out what is stored."""
        return T.BinaryType() if self.special == "int96" else self.read_type


Columns = tuple[tuple[str, Stored], ...]


def stored_columns(spark: SparkSession, folder: Folder) -> dict[Columns, list[int]]:
    """The columns of all files: each set of columns that occurs, with the indices of the files that have it.

    Every footer is read, on the driver. No Spark job.

    Raises
    ------
    TableError
        A file is not a Parquet file, or has two columns of one name.
    """
    jvm: Any = spark._jvm
    package = jvm.org.apache.spark.sql.execution.datasources.parquet
    reader = getattr(getattr(package, "ParquetFileFormat$"), "MODULE$")
    converter = package.ParquetToSparkSchemaConverter(spark._jsparkSession.sessionState().conf())
    conf = hadoop_conf(spark)
    place = {uri: index for index, uri in enumerate(folder.uris)}
    known: dict[tuple[str, str, bool, str], Columns] = {}
    found: dict[Columns, list[int]] = {}
    for start in range(0, len(folder.files), _CHUNK):
        footers = _footers(jvm, reader, conf, folder, folder.files[start : start + _CHUNK])
        for number in range(footers.size()):
            footer = footers.apply(number)
            meta = footer.getParquetMetadata().getFileMetaData()
            schema, told = meta.getSchema(), meta.getKeyValueMetaData()
            # Another writer may have copied the note that Spark wrote the file, but not the writer's name.
            by_spark = told.get(_BY_SPARK) is not None and str(meta.getCreatedBy()).startswith("parquet-mr")
            key = (str(schema.toString()), told.get(_SPARK_SCHEMA) or "", by_spark, told.get(_ARROW_SCHEMA) or "")
            uri = one_form(str(footer.getFile().toUri().toString()))
            if key not in known:
                known[key] = _columns_of(jvm, converter, schema, key, uri)
            found.setdefault(known[key], []).append(place[uri])
    return {columns: sorted(indices) for columns, indices in sorted(found.items(), key=lambda each: min(each[1]))}


def _footers(jvm: Any, reader: Any, conf: Any, folder: Folder, files: Sequence[Any]) -> Any:
    try:
        return reader.readParquetFootersInParallel(conf, jvm.PythonUtils.toSeq(list(files)), False, False)
    except Exception as error:
        if not _of_java(error):
            raise
        if len(files) == 1:
            uri = str(files[0].getPath().toUri().getPath())
            what = "is empty" if files[0].getLen() == 0 else "is not a Parquet file, or is damaged"
            if "URISyntaxException" in str(error):
                raise TableError(
                    f"{uri} cannot be read: Hadoop takes the colon in its name for the end of a scheme.",
                    fix="rename the file",
                ) from None
            raise TableError(
                f"{uri} {what}.",
                expected=f"nothing but Parquet files in {folder.path}",
                fix="remove the file, or write it again",
            ) from None
        half = len(files) // 2
        _footers(jvm, reader, conf, folder, files[:half])
        _footers(jvm, reader, conf, folder, files[half:])
        raise


def _columns_of(jvm: Any, converter: Any, schema: Any, key: tuple[str, str, bool, str], uri: str) -> Columns:
    fields = list(schema.getFields())
    names = [str(each.getName()) for each in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{uri} has more than one column named {twice[0]!r}.", fix="write it with one name per column")
    told, durations = _told_types(key[1]), _durations(key[3])
    return tuple(
        (name, _duration(each, durations.get(name)) or _stored(jvm, converter, each, told.get(name), by_spark=key[2]))
        for name, each in zip(names, fields, strict=True)
    )


def _told_types(text: str) -> dict[str, T.DataType]:
    """The type per column that Spark noted when it wrote the file.

    Other writers copy the note with the rest of a file's metadata, even when they add, drop or change columns: it is
    never taken for the list of columns, and for a type only where the stored form cannot tell.
    """
    try:
        fields = json.loads(text)["fields"] if text else []
    except (ValueError, KeyError, TypeError):
        return {}
    told = {}
    for each in fields:
        try:
            kept = T.StructField.fromJson(each)
        except Exception:  # a type that this version, or Python, does not know
            continue
        told[kept.name] = kept.dataType
    return told


def _durations(text: str) -> dict[str, str]:
    """The unit per column that Arrow noted as a duration, which Parquet has no type for; `_INSIDE` of a nested type."""
    if not text:
        return {}
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
    except (ValueError, pa.ArrowException):  # another version's, or no schema at all
        return {}
    units = {each.name: each.type.unit for each in schema if pa.types.is_duration(each.type)}
    return units | {each.name: _INSIDE for each in schema if _durations_inside(each.type)}


def _durations_inside(kind: pa.DataType) -> bool:
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return any(pa.types.is_duration(each) or _durations_inside(each) for each in inner)


def _as_numbers(what: str) -> str:
    return f"whose {what} inside Spark reads as numbers: those of another unit or zone would be equal"


def _duration(column: Any, unit: str | None) -> Stored | None:
    """A bare INT64 that is a number of some unit: two tables may hold theirs in different ones."""
    if unit == _INSIDE and not column.isPrimitive():
        return Stored(_words(column), T.NullType(), T.NullType(), problem=_as_numbers("durations by Arrow's note"))
    if unit is None or not column.isPrimitive() or _words(column) != "INT64" or unit not in _NANOS_PER:
        return None
    text = f"INT64, a duration in {unit} by Arrow's note"
    return Stored(text, T.LongType(), T.DecimalType(29, 0), special=f"duration {unit}")


def _stored(jvm: Any, converter: Any, column: Any, told: T.DataType | None, *, by_spark: bool) -> Stored:
    text = _words(column)
    if column.isPrimitive() and not column.isRepetition(_repeated(jvm)):
        special = _special(column, text, by_spark)
        if special is not None:
            return special
    names = jvm.java.util.ArrayList()
    names.add(column)
    try:
        converted = converter.convert(jvm.org.apache.parquet.schema.MessageType("spark_schema", names)).json()
        dtype = bare(T.StructType.fromJson(json.loads(converted)).fields[0].dataType)
    except Exception as error:
        if not _of_java(error):
            raise
        return Stored(text, T.NullType(), T.NullType(), problem="which Spark cannot read")
    if told is not None and _only_told(dtype, told):
        dtype = told
    problem = ""
    if _holds(dtype, T.TimeType):
        problem = "of which Spark cannot read the time of day inside"
    elif not column.isPrimitive() and not by_spark and _INT96_INSIDE.search(str(column.toString())):
        problem = "whose INT96 times inside may have a part below a microsecond, which Spark would cut"
    inside = _NANOS_INSIDE.search(str(column.toString())) if not column.isPrimitive() and not problem else None
    if inside is not None:
        problem = _as_numbers(f"INT64 ({inside[1]})")
    return Stored(text, dtype, dtype, problem=problem)


def _only_told(stored: T.DataType, told: T.DataType) -> bool:
    """Whether Spark's note on a column says what the stored form cannot: intervals are stored as plain numbers."""
    pairs = ((T.DayTimeIntervalType, T.LongType), (T.YearMonthIntervalType, T.IntegerType))
    return isinstance(told, T.VariantType) or any(isinstance(told, a) and isinstance(stored, b) for a, b in pairs)


def _special(column: Any, text: str, by_spark: bool) -> Stored | None:
    annotation = column.getLogicalTypeAnnotation()
    kind = "" if annotation is None else str(annotation.toString())
    primitive = str(column.asPrimitiveType().getPrimitiveTypeName().toString())
    if primitive == "INT96":
        # What Spark wrote holds whole microseconds.
        return Stored(text, T.TimestampType(), T.TimestampType(), special="" if by_spark else "int96")
    if kind.startswith("TIMESTAMP(NANOS"):
        if kind.endswith(",true)"):
            return Stored(text, T.LongType(), T.TimestampType(), special="nanos")
        return Stored(text, T.LongType(), T.TimestampNTZType(), special="nanos_naive")
    if kind.startswith("TIME("):
        unit = kind.removeprefix("TIME(").partition(",")[0]
        return Stored(
            text, T.IntegerType() if unit == "MILLIS" else T.LongType(), T.StringType(), special=f"time {unit}"
        )
    if kind == "UNKNOWN":
        return Stored(text, T.IntegerType(), T.IntegerType(), special="void")
    if kind == "UUID":
        return Stored(text, T.BinaryType(), T.StringType(), special="uuid")
    if kind == "FLOAT16":
        return Stored(text, T.BinaryType(), T.FloatType(), special="float16")
    return None


def exact_value(stored: Column, kind: Stored) -> Column:
    """The value of what was read, exact wherever `sub_microsecond` is false. Lazy; needs a session in UTC."""
    if kind.special == "nanos":
        return F.timestamp_micros(_whole(stored, 1_000))
    if kind.special == "nanos_naive":
        return F.timestamp_micros(_whole(stored, 1_000)).cast("timestamp_ntz")
    if kind.special.startswith("time "):
        return _time_text(stored.cast("bigint") * _NANOS_OF[kind.special.removeprefix("time ")])
    if kind.special.startswith("duration "):
        factor = F.lit(Decimal(_NANOS_PER[kind.special.removeprefix("duration ")]))
        return (stored.cast("decimal(19,0)") * factor).cast(kind.value_type)
    if kind.special == "uuid":
        pattern = "^(.{8})(.{4})(.{4})(.{4})(.{12})$"
        return F.regexp_replace(F.lower(F.hex(stored)), pattern, "$1-$2-$3-$4-$5")
    if kind.special == "float16":
        return _half(stored)
    return stored


def sub_microsecond(stored: Column, kind: Stored) -> Column:
    """Whether a stored time has a part below a microsecond; null for null."""
    if kind.special == "int96":
        return F.conv(_hex_reversed(stored, 1, 8), 16, 10).cast("decimal(20,0)") % 1_000 != 0
    return stored % 1_000 != 0


def _whole(number: Column, by: int) -> Column:
    # Spark's div rounds towards zero; the remainder is none wherever the value is used.
    return F.call_function("div", number, F.lit(by).cast("bigint"))


def _time_text(nanos: Column) -> Column:
    """A time of day as text with nine digits, so that every unit gives the same text for the same time."""
    second = 1_000_000_000
    parts = [_whole(nanos, 3_600 * second), _whole(nanos, 60 * second) % 60, _whole(nanos, second) % 60]
    clock = F.concat_ws(":", *(F.lpad(part.cast("string"), 2, "0") for part in parts))
    text = F.concat(clock, F.lit("."), F.lpad((nanos % second).cast("string"), 9, "0"))
    return F.when(nanos.isNotNull(), text)


def _half(stored: Column) -> Column:
    """IEEE 754 binary16, two bytes, the low one first; every such number is a float."""
    bits = F.conv(_hex_reversed(stored, 1, 2), 16, 10).cast("int")
    sign = F.when(bits >= 0x8000, F.lit(-1.0)).otherwise(F.lit(1.0))
    exponent, fraction = F.shiftright(bits, 10).bitwiseAND(F.lit(31)), bits.bitwiseAND(F.lit(1023))
    size = (
        F.when(exponent == 0, fraction * F.lit(2.0**-24))
        .when(exponent < 31, (fraction + 1024) * F.pow(F.lit(2.0), exponent - 25))
        .when(fraction == 0, F.lit(float("inf")))
        .otherwise(F.lit(float("nan")))
    )
    return (sign * size).cast("float")


def _hex_reversed(stored: Column, first: int, count: int) -> Column:
    """Hexadecimal digits of bytes that are stored the low one first."""
    return F.concat(*(F.hex(F.substring(stored, place, 1)) for place in range(first + count - 1, first - 1, -1)))


def without_padding(rows: DataFrame) -> tuple[DataFrame, tuple[str, ...]]:
    """The rows with columns of type char(n) less the spaces that fill them up, and a sentence per such column. Lazy.

    The spaces are no part of the value: ``ab`` in a char(5) is the text ``ab`` of a string column.
    """
    padded = {}
    for each in rows.schema.fields:
        declared = str((each.metadata or {}).get(_CHAR, ""))
        if isinstance(each.dataType, T.StringType) and declared.startswith("char("):
            padded[each.name] = declared
    if not padded:
        return rows, ()
    columns = [
        F.rtrim(F.col(quoted(name))).alias(name) if name in padded else F.col(quoted(name)) for name in rows.columns
    ]
    facts = tuple(f"column {name} is {declared}: read without its padding" for name, declared in padded.items())
    return rows.select(*columns), facts


def merged(left: T.DataType, right: T.DataType) -> T.DataType | None:
    """The type by which Spark reads files of both types without a conversion; None where there is none.

    Structs have the fields of both, a field that one file lacks being null there.
    """
    if isinstance(left, T.ArrayType) and isinstance(right, T.ArrayType):
        element = merged(left.elementType, right.elementType)
        return None if element is None else T.ArrayType(element)
    if isinstance(left, T.MapType) and isinstance(right, T.MapType):
        key, value = merged(left.keyType, right.keyType), merged(left.valueType, right.valueType)
        return None if key is None or value is None else T.MapType(key, value)
    if isinstance(left, T.StructType) and isinstance(right, T.StructType):
        fields = {each.name: each.dataType for each in left}
        for each in right:
            both = merged(fields[each.name], each.dataType) if each.name in fields else each.dataType
            if both is None:
                return None
            fields[each.name] = both
        return T.StructType([T.StructField(name, dtype) for name, dtype in fields.items()])
    return left if left == right else None


def bare(dtype: T.DataType) -> T.DataType:
    """The type without nullability and metadata, which differ between files that hold the same; text as plain text."""
    if isinstance(dtype, T.StringType):
        return T.StringType()
    if isinstance(dtype, T.ArrayType):
        return T.ArrayType(bare(dtype.elementType))
    if isinstance(dtype, T.MapType):
        return T.MapType(bare(dtype.keyType), bare(dtype.valueType))
    if isinstance(dtype, T.StructType):
        return T.StructType([T.StructField(each.name, bare(each.dataType)) for each in dtype.fields])
    return dtype


def _holds(dtype: T.DataType, kind: type[T.DataType]) -> bool:
    if isinstance(dtype, T.ArrayType):
        return _holds(dtype.elementType, kind)
    if isinstance(dtype, T.MapType):
        return _holds(dtype.keyType, kind) or _holds(dtype.valueType, kind)
    if isinstance(dtype, T.StructType):
        return any(_holds(each.dataType, kind) for each in dtype.fields)
    return isinstance(dtype, kind)


def _of_java(error: Exception) -> bool:
    return isinstance(error, PySparkException) or type(error).__module__.startswith("py4j")


def _repeated(jvm: Any) -> Any:
    return jvm.org.apache.parquet.schema.Type.Repetition.REPEATED


def _words(column: Any) -> str:
    """Parquet's words for a column: ``INT64 (TIMESTAMP(NANOS,true))``; of a group the kind alone."""
    annotation = column.getLogicalTypeAnnotation()
    kind = "" if annotation is None else f" ({annotation.toString()})"
    if not column.isPrimitive():
        return f"a group{kind}"
    return f"{column.asPrimitiveType().getPrimitiveTypeName().toString()}{kind}"
