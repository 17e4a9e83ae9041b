"""Pairs of single values that must, or must not, count as the same; written as SQL, so that every type can be had."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from twinrun.tolerance import Tolerance, absolute, rel

COLUMNS: dict[str, tuple[str, Tolerance | None]] = {
    "double": ("double", None),
    "double abs": ("double", absolute(1e-9)),
    "double rel": ("double", rel(1e-9)),
    "float": ("float", None),
    "bigint": ("bigint", None),
    "bigint abs": ("bigint", absolute(5)),
    "bigint rel": ("bigint", rel(0.01)),
    "decimal": ("decimal(38,2)", None),
    "decimal abs": ("decimal(38,2)", absolute(0.015)),
    "decimal rel": ("decimal(38,2)", rel(1e-3)),
    "boolean": ("boolean", None),
    "string": ("string", None),
    "binary": ("binary", None),
    "date": ("date", None),
    "timestamp": ("timestamp", None),
    "timestamp_ntz": ("timestamp_ntz", None),
    "interval": ("interval day to second", None),
    "ints": ("array<int>", None),
    "doubles": ("array<double>", None),
    "nested": ("array<array<int>>", None),
    "struct": ("struct<a:int,A:string>", None),
    "map": ("map<string,int>", None),
    "maps": ("array<map<string,array<double>>>", None),
    "mapped": ("struct<m:map<int,struct<x:double>>,n:int>", None),
}


@dataclass(frozen=True)
class Probe:
    """Two SQL values of one column, and whether they count as the same."""

    column: str
    batch: str
    stream: str
    same: bool

    @property
    def name(self) -> str:
        return f"{self.column}: {self.batch} ~ {self.stream}"


def _probes(column: str, same: list[tuple[str, str]], different: list[tuple[str, str]]) -> list[Probe]:
    return [Probe(column, a, b, True) for a, b in same] + [Probe(column, a, b, False) for a, b in different]


NAN, INF, NEGATIVE_INF = "double('NaN')", "double('Infinity')", "double('-Infinity')"
ONE_ULP = ("1.0D", "1.0000000000000002D")
SAME_DOUBLES = [(NAN, NAN), (INF, INF), (NEGATIVE_INF, NEGATIVE_INF), ("0.0D", "-0.0D"), ("null", "null")]
OTHER_DOUBLES = [
    (NAN, "1.0D"),
    ("1.0D", NAN),
    ("1.0D", INF),
    (NEGATIVE_INF, INF),
    (INF, NAN),
    ("null", "0.0D"),
    ("null", NAN),
    ("double('1.7976931348623157E308')", INF),
    ("double('1.7976931348623157E308')", "double('-1.7976931348623157E308')"),
]
BIG = ("9007199254740992", "9007199254740993")

PROBES: list[Probe] = [
    *_probes("double", SAME_DOUBLES, [*OTHER_DOUBLES, ONE_ULP]),
    *_probes("double abs", [*SAME_DOUBLES, ONE_ULP, ("12.25D", "12.25D + 5e-10D")], OTHER_DOUBLES),
    *_probes("double abs", [("1e300D", "1e300D")], [("1.0D", "1.0D + 2e-9D"), ("1e300D", "1.0000001e300D")]),
    *_probes("double rel", [*SAME_DOUBLES, ONE_ULP, ("1e300D", "1.0000000001e300D")], OTHER_DOUBLES),
    *_probes("double rel", [("-4e-320D", "-4e-320D")], [("1.0D", "1.0D + 2e-9D"), ("1e-30D", "0D"), ("1D", "-1D")]),
    *_probes("float", [("float('NaN')", "float('NaN')"), ("0f", "-0f")], [("1f", "float('Infinity')"), ("0f", "null")]),
    *_probes("bigint", [BIG[:1] * 2], [BIG, ("0", "null"), ("9223372036854775807", "-9223372036854775808")]),
    *_probes("bigint abs", [BIG, ("1", "6"), ("-2", "3")], [("1", "7"), ("0", "null")]),
    *_probes("bigint abs", [], [("9223372036854775807", "-9223372036854775808")]),
    *_probes("bigint rel", [("100", "99"), ("-100", "-99")], [("100", "98"), ("1", "-1"), ("0", "1")]),
    *_probes("decimal", [("1.1", "1.10")], [("1.1", "1.11"), ("0", "null"), ("1e35BD", "1e35BD + 0.01")]),
    *_probes("decimal abs", [("1.1", "1.11"), ("null", "null")], [("1.1", "1.12"), ("0", "null")]),
    *_probes("decimal abs", [("1e34BD", "1e34BD + 0.01")], [("1e34BD", "1e34BD + 0.02"), ("9e35BD", "9e35BD+0.01")]),
    *_probes("decimal rel", [("1000", "999"), ("0", "0")], [("1000", "998.99"), ("0", "0.01"), ("1", "null")]),
    *_probes("boolean", [("true", "true")], [("true", "false"), ("false", "null")]),
    *_probes("string", [("'a'", "'a'")], [("'a'", "'A'"), ("''", "null"), ("'a'", "'a '"), ("'a  b'", "'a b'")]),
    *_probes("binary", [("X'00ff'", "X'00ff'")], [("X'00'", "X'0000'"), ("X''", "null")]),
    *_probes(
        "date", [("date'2013-01-06'",) * 2], [("date'2013-01-06'", "date'2013-01-07'"), ("date'1970-01-01'", "null")]
    ),
    *_probes(
        "timestamp",
        [("timestamp'2013-01-06T00:00:00Z'", "timestamp'2013-01-06T01:00:00+01:00'")],
        [("timestamp'2013-01-06T00:00:00Z'", "timestamp'2013-01-06T01:00:00Z'")],
    ),
    *_probes(
        "timestamp_ntz",
        [("timestamp_ntz'2013-01-06 00:00:00'",) * 2],
        [("timestamp_ntz'2013-01-06 00:00:00'", "timestamp_ntz'2013-01-06 00:00:00.000001'")],
    ),
    *_probes("interval", [("interval '1' day", "interval '24' hour")], [("interval '1' day", "interval '1' hour")]),
    *_probes(
        "ints",
        [("array(1,null)", "array(1,null)"), ("array()", "array()")],
        [
            ("array(1,null)", "array(null,1)"),
            ("array(1,null)", "array(1)"),
            ("array()", "null"),
            ("array(1,2)", "array(2,1)"),
        ],
    ),
    *_probes(
        "doubles",
        [(f"array({NAN}, -0.0D)", f"array({NAN}, 0.0D)")],
        [("array(1.0D)", "array(1.0000000000000002D)"), (f"array({NAN})", "array(1.0D)")],
    ),
    *_probes(
        "nested",
        [("array(array(1),array(2))",) * 2],
        [
            ("array(array(1),array(2))", "array(array(1,2))"),
            ("array(array())", "array(cast(null as array<int>))"),
            ("array(array(),array(1))", "array(array(1),array())"),
        ],
    ),
    *_probes(
        "struct",
        [("named_struct('a',1,'A','x')",) * 2],
        [
            ("named_struct('a',1,'A',null)", "null"),
            ("named_struct('a',null,'A',null)", "null"),
            ("named_struct('a',1,'A','x')", "named_struct('a',1,'A','y')"),
        ],
    ),
    *_probes(
        "map",
        [("map('a',1,'b',2)", "map('b',2,'a',1)"), ("map()", "map()")],
        [("map('a',1)", "map('a',2)"), ("map('a',null)", "map()"), ("map()", "null"), ("map('a',1)", "map('b',1)")],
    ),
    *_probes(
        "maps",
        [(f"array(map('a',array({NAN}),'b',array(0D)))", f"array(map('b',array(-0D),'a',array({NAN})))")],
        [("array(map('a',array(1D)))", "array(map('a',array(1D,null)))"), ("array(map('a',array(1D)))", "array(null)")],
    ),
    *_probes(
        "mapped",
        [
            (
                "named_struct('m', map(1, named_struct('x', 1D), 2, null), 'n', 1)",
                "named_struct('m', map(2, null, 1, named_struct('x', 1D)), 'n', 1)",
            )
        ],
        [
            ("named_struct('m',map(1,null),'n',1)", "named_struct('m',map(1,named_struct('x',null)),'n',1)"),
            ("named_struct('m',null,'n',1)", "named_struct('m',map(),'n',1)"),
        ],
    ),
]


def probe_table(spark: SparkSession, side: str) -> DataFrame:
    """One row per probe, its value in the column of its kind, all other columns null."""
    rows = []
    for number, probe in enumerate(PROBES):
        sql = probe.batch if side == "batch" else probe.stream
        cells = [f"cast({sql if name == probe.column else 'null'} as {kind})" for name, (kind, _) in COLUMNS.items()]
        rows.append(f"({number}, {', '.join(cells)})")
    names = ", ".join(f"`{name}`" for name in COLUMNS)
    return spark.sql(f"select * from values {', '.join(rows)} as t(probe, {names})")
