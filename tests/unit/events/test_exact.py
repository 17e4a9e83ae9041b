"""Nothing is changed in silence: random values against an oracle in Python, hostile records, any session's settings."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun.errors import JobError
from twinrun.events.decode import declared_fields, decode
from twinrun.events.json_ import _MAY_BE_HUGE, _odd_numbers
from twinrun.events.source import Source
from twinrun.events.times import utc_day
from twinrun.session.settings import with_settings

T = 1_357_466_400_000
RAW = "value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP"
TYPES = {
    "s": "STRING",
    "d": "DECIMAL(10,2)",
    "e": "DECIMAL(38,18)",
    "f": "DOUBLE",
    "g": "FLOAT",
    "n": "TINYINT",
    "i": "BIGINT",
    "l": "ARRAY<DECIMAL(5,1)>",
    "m": "MAP<STRING, STRUCT<x: DECIMAL(20,10), y: STRING>>",
}
SOURCE = Source("x", schema="ts BIGINT NOT NULL, " + ", ".join(f"{k} {v}" for k, v in TYPES.items()), event_time="ts")
DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
EXACT = Context(prec=3000)
LIMITS = {"FLOAT": (2.0**-150, 2.0**128 * (1 - 2.0**-25)), "DOUBLE": (0.0, float("inf"))}


def raw(spark: SparkSession, values: list[str]) -> DataFrame:
    instant = datetime.fromtimestamp(T / 1000, UTC)
    return spark.createDataFrame([(bytearray(v.encode()), "t", 0, n, instant) for n, v in enumerate(values)], RAW)


def number(draw: random.Random) -> str:
    """A JSON number, often at an edge of a type."""
    kind = draw.randrange(6)
    if kind == 0:
        edge = draw.choice([0, 1, 127, 128, 255, 256, 2**24, 2**53, 2**63, 10**8, 10**20, 10**38])
        return str(draw.choice([1, -1]) * edge + draw.randint(-1, 1))
    if kind == 1:
        return draw.choice(["-0", "0.0", "-0.0", "0e5", "0e99999", "1.10", "1E2", "1e400", "-1e400", "1e-400", "1e-46"])
    digits = "".join(draw.choice("0123456789") for _ in range(draw.choice([1, 2, 5, 18, 19, 31, 45])))
    whole = "".join(draw.choice("123456789") for _ in range(draw.choice([1, 2, 8, 20, 38])))
    text = f"{draw.choice(['', '-'])}{draw.choice(['0', whole])}.{digits}{'0' * draw.choice([0, 0, 3, 30])}"
    power = draw.choice([-400, -45, -19, -2, 0, 2, 18, 37, 400, 10_000, 2_000_000_000])
    return text if kind < 4 else f"{text}{draw.choice('eE')}{draw.choice(['', '+']) if power > 0 else ''}{power}"


def scalar(draw: random.Random) -> str:
    kind = draw.randrange(8)
    if kind < 4:
        return number(draw)
    if kind == 4:
        return json.dumps(number(draw))
    if kind == 5:
        return draw.choice(["true", "false", "null"])
    words = [
        "n1.5",
        "s",
        '","',
        "1,000",
        "1,5",
        "\\",
        '\\"',
        "{1.5}",
        "[1.50]",
        "e-5",
        "7e-12345",
        "1 1.1",
        "é",
        "\u0661",
    ]
    return json.dumps(
        draw.choice([*words, "", "Infinity", '"Infinity"', "true", "a"]), ensure_ascii=draw.random() < 0.5
    )


def in_object(draw: random.Random) -> tuple[str, str]:
    """An object or array as a record may write it, and as its text is kept."""
    parts = [(json.dumps(draw.choice(["a", "b:", "n1.2"])), scalar(draw)) for _ in range(draw.randint(0, 3))]
    loose = ", ".join(f"{name} :  {value}" for name, value in parts)
    tight = ",".join(f"{name}:{kept(value)}" for name, value in parts)
    if draw.random() < 0.5:
        return "{ " + loose + "}", "{" + tight + "}"
    values = [value for _, value in parts]
    return "[" + " ,".join(values) + " ]", "[" + ",".join(map(kept, values)) + "]"


def kept(value: str) -> str:
    return json.dumps(json.loads(value), ensure_ascii=False) if value.startswith('"') else value


def as_decimal(token: str, precision: int, scale: int) -> tuple[str | None, Any]:
    text = json.loads(token) if token.startswith('"') else token
    if not DECIMAL.fullmatch(text) or not text.isascii():
        return "wrong_type", None
    mantissa, _, power = text.lower().partition("e")
    if not Decimal(mantissa):
        return None, Decimal(0)
    if abs(int(power or 0)) >= 10_000:
        return "out_of_range", None
    value = Decimal(text)
    fits = value == EXACT.quantize(value, Decimal(1).scaleb(-scale)) and abs(value) < Decimal(10) ** (precision - scale)
    return (None, value) if fits else ("out_of_range", None)


def expected(kind: str, token: str) -> tuple[str | None, Any]:
    """Rule, and value of a token in a type."""
    is_number = bool(re.fullmatch(r"-?\d.*", token))
    if token == "null":
        return None, None
    if kind == "STRING":
        return None, json.loads(token) if token.startswith('"') else token
    if kind.startswith("DECIMAL"):
        precision, scale = map(int, re.findall(r"\d+", kind))
        return as_decimal(token, precision, scale) if is_number or token.startswith('"') else ("wrong_type", None)
    if kind in LIMITS:
        if not is_number:
            return "wrong_type", None
        value = float(token)
        nonzero = bool(re.match(r"^[^eE]*[1-9]", token))
        low, high = LIMITS[kind]
        lost = abs(value) >= high or (nonzero and abs(value) <= low)
        return ("out_of_range", None) if lost else (None, value)
    bits = {"TINYINT": 7, "BIGINT": 63}[kind]
    if not re.fullmatch(r"-?\d+", token):
        return "wrong_type", None
    return (None, int(token)) if -(2**bits) <= int(token) < 2**bits else ("out_of_range", None)


def cases(count: int) -> Iterator[tuple[str, str, str | None, Any]]:
    """Field, JSON text, rule, value."""
    draw = random.Random(20240331)
    for _ in range(count):
        field = draw.choice(list(TYPES))
        if field == "s" and draw.random() < 0.3:
            text, tight = in_object(draw)
            yield field, text, None, tight
        elif field == "l":
            tokens = [draw.choice([number(draw), "null", "1.5", "2"]) for _ in range(draw.randint(0, 3))]
            found = [expected("DECIMAL(5,1)", token) for token in tokens]
            rule = next((rule for rule, _ in found if rule), None)
            yield field, "[" + ", ".join(tokens) + "]", rule, None if rule else [value for _, value in found]
        elif field == "m":
            rows = [(draw.choice("ab"), number(draw), scalar(draw)) for _ in range(draw.randint(0, 3))]
            if any(expected("DECIMAL(20,10)", x)[0] for _, x, _ in rows):
                rows = [(str(n), x, y) for n, (_, x, y) in enumerate(rows)]  # a name twice: only where all fit
            body = ", ".join(f'"{name}": {{"y":{y}, "x" : {x}}}' for name, x, y in rows)
            fits = [expected("DECIMAL(20,10)", x) for _, x, _ in rows]
            rule = next((rule for rule, _ in fits if rule), None)
            last = {name: (fit[1], expected("STRING", y)[1]) for (name, _, y), fit in zip(rows, fits, strict=True)}
            yield field, "{" + body + "}", rule, None if rule else last
        else:
            token = scalar(draw)
            yield field, token, *expected(TYPES[field], token)


@pytest.mark.parametrize("count", [400, pytest.param(3000, marks=pytest.mark.slow)])
def test_random_values_come_out_exactly_or_are_refused_by_the_rule_that_they_break(
    spark_session: SparkSession, count: int
) -> None:
    drawn = list(cases(count))
    values = [f'{{"ts": {T}, "{field}" :{token}}}' for field, token, _, _ in drawn]
    rows = decode(raw(spark_session, values), SOURCE).orderBy("_offset").collect()
    wrong = []
    for row, value, (field, _, rule, known) in zip(rows, values, drawn, strict=True):
        found = row[field]
        if field == "m" and found is not None:
            found = {name: (pair["x"], pair["y"]) for name, pair in found.items()}
        same = (
            abs(found - known) <= max(abs(known) * 2**-24, 2.0**-150)
            if field == "g" and known and found
            else found == known
        )
        if row["_rule"] != rule or (rule is None and not same):
            wrong.append((value, row["_rule"], found, rule, known))
    assert wrong[:3] == []
    assert {rule for _, _, rule, _ in drawn} == {None, "wrong_type", "out_of_range"}


def test_the_cheap_sign_of_numbers_misses_none_that_a_pattern_over_the_whole_text_finds(
    spark_session: SparkSession,
) -> None:
    """The patterns follow the text and are ten times as dear; the sign begins at the rarest character."""
    draw = random.Random(7)
    digits = ["0", "1", "5", "12345", "0" * 31, "\u0661", "\u0662" * 5, "\U0001d7ce" * 13, ".", ",", "e", "E", "-", "+"]
    pieces = [*digits, *digits, '"', '"', ":", " ", "[", "\\u0031", "\\u0065", "a", "f", "1" * 14, "7" * 999]
    texts = ["".join(draw.choice(pieces) for _ in range(draw.randint(2, 14))) for _ in range(20_000)]
    nd = r"\p{Nd}"
    token = r"[-+]?\d*+(?:\.\d{31}|(?:\.\d*+)?[eE](?:-|\+?\d{4}))"
    odd = r'(?<=")(?=[-+.,]*(?:\d|\\u|[\p{Nd}&&[^0-9]]))(?:[-+.\deE]*+(?:,|\\u[0-9a-fA-F]{4}|[\p{Nd}&&[^0-9]]))++'
    huge = (
        r"[\s:,\[]-?\d[\d.]*+[eE][-+]?\d{5}"
        rf'|"[-+]?[{nd}.,]++[eE][-+]?{nd}{{5}}|"[-+.,{nd}eE]{{999}}'
        rf'|"(?=[-+.,]*(?:{nd}|\\u))(?:[-+.,{nd}eE]*+\\u[0-9a-fA-F]{{4}})++[-+.,{nd}eE]*+"'
    )
    pattern = rf'[\s:,\["](?:{token}|{odd}[-+.\deE]*+")'
    wire = StructType.fromDDL("d DECIMAL(38,30)")
    found = spark_session.createDataFrame([(text,) for text in texts], "_text STRING").select(
        "_text",
        F.expr(_odd_numbers(wire)).alias("_odd"),
        F.col("_text").rlike(pattern).alias("odd"),
        F.col("_text").rlike(huge).alias("huge"),
    )
    looked = found.withColumn("_huge", F.expr(_MAY_BE_HUGE))
    missed = looked.filter((F.col("odd") & ~F.col("_odd")) | (F.col("huge") & ~F.col("_huge")))
    assert [row["_text"][:200] for row in missed.limit(3).collect()] == []
    counts = looked.agg(*[F.count_if(name) for name in ("odd", "_odd", "huge", "_huge")]).collect()[0]
    assert all(100 < count < 19_000 for count in counts), counts


def test_a_record_of_a_billion_digits_or_of_a_million_tokens_stops_nothing(spark_session: SparkSession) -> None:
    nested = ",".join(['"x",1.5,true'] * 50_000)
    values = [
        f'{{"ts":{T},"d":1e1000000000}}',
        f'{{"ts":{T},"d":"1e1000000000"}}',
        f'{{"ts":{T},"d":-1.5e-2000000000}}',
        f'{{"ts":{T},"d":"1\\u00659999999999"}}',
        f'{{"ts":{T},"d":1e1000000000}} trailing',
        f'{{"ts":{T},"other":1e1000000000,"d":1.5}}',
        f'{{"ts":{T},"s":1.10,"d":"1.5","q":"{"a" * 300_000}{chr(92)}"{"b" * 300_000}","r":[{nested}]}}',
        f'{{"ts":{T},"q":{"[" * 2000}{"]" * 2000}}}',
        f'{{"ts":{T},"d":1.5,"q":[{"1," * 300_000}1]}}',
        f'{{"ts":{T},"d":"{"0" * 300_000}1.50x"}}',
        f'{{"ts":{T},"d":"{"1" * 300_000}e5"}}',
        f'{{"ts":{T},"d":"{"0" * 300_000}1.5{"0" * 300_000}"}}',
    ]
    began = time.monotonic()
    rows = decode(raw(spark_session, values), SOURCE).orderBy("_offset").collect()
    assert time.monotonic() - began < 60
    out = "out_of_range"
    assert [row["_rule"] for row in rows] == [
        *[out, out, out, out, out, None, None, "not_json"],
        *[None, "wrong_type", out, out],
    ]
    assert (rows[6]["s"], rows[6]["d"]) == ("1.10", Decimal("1.50"))
    assert rows[0]["_reason"] == "field d: 1e1000000000 does not fit decimal(10,2)"
    assert "over 998 levels" in rows[7]["_reason"]


def test_a_record_at_the_readers_limits_is_read_or_refused_for_what_it_is(spark_session: SparkSession) -> None:
    def deep(levels: int) -> str:
        return "[" * (levels - 1) + "]" * (levels - 1)

    values = [
        f'{{"ts":{T},"s":1.10,"q":{deep(998)}}}',
        f'{{"ts":{T},"s":1.10,"q":{deep(999)}}}',
        f'{{"ts":{T},"q":["{"[" * 2000}",{"[1]," * 2000}[]]}} trailing',
        f'{{"ts":{T},"s":1.10,"{"n" * 49_999}":1}}',
        f'{{"ts":{T},"s":1.10,"{"n" * 50_000}" :1}}',
        f'{{"ts":{T},"s":1.10,"q":"{"n" * 60_000}"}}',
    ]
    rows = decode(raw(spark_session, values), SOURCE).orderBy("_offset").collect()
    expected = [(None, "1.10"), ("not_json", None), ("trailing_bytes", None), (None, "1.10"), ("not_json", None)]
    assert [(row["_rule"], row["s"]) for row in rows] == [*expected, (None, "1.10")]
    assert "or one of over 998 levels" in rows[1]["_reason"]
    assert "a name of 50,000 characters or more" in rows[4]["_reason"]


def test_limits_are_compared_in_the_fields_own_type(spark_session: SparkSession) -> None:
    """As doubles, 0.1 of a FLOAT is above 0.1, and the last digits of a DECIMAL or BIGINT do not count."""
    fields = {
        "g": ("FLOAT", (0.7, 1), ["0.7", "1"], ["0.69", "1.0000001"]),
        "f": ("DOUBLE", (0, 0.1), ["0.1"], ["0.10000000000000002"]),
        "e": ("DECIMAL(38,18)", (0.1, 1.5), ["0.1", "1.5"], ["0.099999999999999999", "1.500000000000000001"]),
        "i": ("BIGINT", (0.5, 2.0**53), ["1", str(2**53)], ["0", str(2**53 + 1)]),
        "n": ("INT", (-(10**30), 10**30), ["7"], []),
    }
    source = Source(
        "x",
        schema="ts BIGINT NOT NULL, " + ", ".join(f"{name} {kind}" for name, (kind, *_) in fields.items()),
        event_time="ts",
        ranges={name: limits for name, (_, limits, *_) in fields.items()},
    )
    cells = [
        (name, text, rule)
        for name, (_, _, *sides) in fields.items()
        for texts, rule in zip(sides, (None, "out_of_range"), strict=True)
        for text in texts
    ]
    values = [f'{{"ts":{T},"{name}":{text}}}' for name, text, _ in cells]
    rows = decode(raw(spark_session, values), source).orderBy("_offset").collect()
    assert [(name, text, row["_rule"]) for (name, text, _), row in zip(cells, rows, strict=True)] == cells
    assert rows[-3]["_reason"] == "field i = 0 is outside [0.5, 9007199254740992.0]"
    small = Source("x", schema="ts BIGINT NOT NULL, d DECIMAL(10,2)", event_time="ts", ranges={"d": (0.1, None)})
    told = decode(raw(spark_session, [f'{{"ts":{T},"d":0.09}}']), small).collect()[0]["_reason"]
    assert told == "field d = 0.09 is outside [0.1, ]"


@pytest.mark.parametrize("field", ["s", "undeclared"])
def test_half_a_surrogate_pair_is_refused_and_never_becomes_a_question_mark(
    spark_session: SparkSession, field: str
) -> None:
    good = [
        r"\ud83d\ude00",
        r"\\ud800",
        r"\\ud83d\\ude00",
        r"\u00e9 \uD7FF\uE000",
        "\U0001f600",
        r"\u00e9" * 100_000 + r"\uD83D\uDE00",
    ]
    bad = [r"\ud83d", r"\ude00\ud83d", r"\uDBFF\\\uDC00", r"\\ud83d\udc00", r"\ud83d\ud83d\ude00", r"\\\ud800 a"]
    values = [f'{{"ts":{T},"{field}":"{text}"}}' for text in [*good, *bad]]
    rows = decode(raw(spark_session, values), SOURCE).orderBy("_offset").collect()
    assert [row["_rule"] for row in rows] == [None] * len(good) + ["not_utf8"] * len(bad)
    assert "half of a surrogate pair" in rows[-1]["_reason"]
    if field == "s":
        assert [row["s"] for row in rows[: len(good)]] == [json.loads(f'"{text}"') for text in good]


def in_any_session(spark: SparkSession) -> list[tuple[Any, ...]]:
    source = Source(
        "x",
        schema="at STRING, t TIMESTAMP, l TIMESTAMP_NTZ, d DATE, m MAP<STRING, TIMESTAMP>",
        event_time="at",
        event_time_format="iso8601",
        max_ahead=None,
    )
    values = [
        '{"at":"2013-01-06T08:00","t":"2013-01-06T08:00:00","l":"2013-01-06T08:00:00","d":"2013-01-06","m":{"a":1}}',
        '{"at":"2013-01-06T23:30:00-05","t":1357466400000,"l":"2013-03-10T02:30:00"}',
        '{"at":"2013-03-10T02:30:00","t":"12:30"}',
    ]
    frame = decode(raw(spark, values), source)
    micros = [F.unix_micros(name) for name in ("at", "t")]
    inside, local = F.unix_micros(F.col("m")["a"]), F.col("l").cast("string")
    plain = ["d", "_rule", "_reason"]
    rows = frame.orderBy("_offset").select(*micros, inside, local, utc_day(F.col("at")), *plain).collect()
    return [tuple(row) for row in rows]


def test_no_setting_of_the_session_changes_what_is_decoded(spark_session: SparkSession) -> None:
    usual = in_any_session(spark_session)
    assert usual[0][0] == 1_357_459_200_000_000
    assert [str(row[4]) for row in usual] == ["2013-01-06", "2013-01-07", "2013-03-10"]
    for settings in (
        {"spark.sql.session.timeZone": "America/New_York", "spark.sql.ansi.enabled": "false"},
        {"spark.sql.session.timeZone": "Asia/Kathmandu", "spark.sql.legacy.timeParserPolicy": "LEGACY"},
    ):
        with with_settings(spark_session, settings):
            assert in_any_session(spark_session) == usual


def test_a_session_in_which_timestamp_has_another_meaning_is_refused(spark_session: SparkSession) -> None:
    source = Source("x", schema="ts BIGINT, t TIMESTAMP", event_time="ts")
    with (
        with_settings(spark_session, {"spark.sql.timestampType": "TIMESTAMP_NTZ"}),
        pytest.raises(JobError, match=r"spark\.sql\.timestampType"),
    ):
        declared_fields(source)


def test_the_reason_names_what_was_read_and_where(spark_session: SparkSession) -> None:
    source = Source(
        "x",
        schema="ts BIGINT, t TIMESTAMP, a ARRAY<DATE>, s STRUCT<n: DECIMAL(3,1), m: INT NOT NULL>, b BINARY",
        event_time="ts",
    )
    values = [
        f'{{"ts":{T},"t":"12:30"}}',
        f'{{"ts":{T},"t":{T // 1000}}}',
        f'{{"ts":{T},"t":"{T}"}}',
        f'{{"ts":{T},"a":["2024-02-29","today"]}}',
        f'{{"ts":{T},"s":{{"n":1.25,"m":1}}}}',
        f'{{"ts":{T},"s":{{"n":1.2}}}}',
        f'{{"ts":{T},"s":{{"n":1.2,"m":"3"}}}}',
        f'{{"ts":{T},"s":7}}',
        f'{{"ts":{T},"a":"2024-02-29"}}',
        *[f'{{"ts":{T},"b":"{text}"}}' for text in ("Q", "QQ=", "QUJDR", "QU I=", "-_-_")],
    ]
    rows = decode(raw(spark_session, values), source).orderBy("_offset").collect()
    assert [(row["_rule"], row["_reason"]) for row in rows] == [
        ("wrong_type", "field t: 12:30 is not read as a time (a time of day without a day)"),
        ("wrong_time_unit", f"field t = {T // 1000} is not in milliseconds since 1970"),
        ("wrong_type", f'field t: "{T}" is not read as a time (digits in quotes)'),
        ("wrong_type", "field a: today is not read as a time (expected yyyy-MM-dd)"),
        ("out_of_range", "field s = 1.25 does not fit struct<n:decimal(3,1),m:int> exactly"),
        ("missing_field", "required field m is missing or null inside s"),
        ("wrong_type", 'field s: "3" is not struct<n:decimal(3,1),m:int>'),
        ("wrong_type", "field s: 7 is not struct<n:decimal(3,1),m:int>"),
        ("wrong_type", 'field a: "2024-02-29" is not array<date>'),
        *[("wrong_type", f'field b: "{text}" is not binary') for text in ("Q", "QQ=", "QUJDR", "QU I=", "-_-_")],
    ]
