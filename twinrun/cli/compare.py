"""``twinrun compare BATCH STREAM``: any two Delta or Parquet tables, without a job and without Kafka."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.comparison import comparison_lines, comparison_payload
from twinrun.cli.inputs import instant, need_table
from twinrun.cli.live import step
from twinrun.cli.session import with_spark
from twinrun.comparator.result import Comparison
from twinrun.config.model import Config
from twinrun.errors import EXIT_DIFFERENT, EXIT_OK, InputError
from twinrun.results.records import LINEAGE
from twinrun.session.settings import tables_size
from twinrun.tolerance import Tolerance, absolute, rel

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from twinrun.comparator.references import Read

commands = typer.Typer()
_NAME = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^",][^,]*|))\s*(?:,|$)')


@command(
    commands, "compare", "twinrun compare ./batch ./stream --keys origin,hour --window hour --tolerance mean=rel:1e-9"
)
def compare(
    call: Call,
    batch: Annotated[
        str,
        typer.Argument(
            metavar="BATCH",
            help="A table: a path, a catalog name, jdbc:KIND://HOST/DATABASE#TABLE or cassandra://HOST/KEYSPACE#TABLE.",
        ),
    ],
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The other table.")],
    keys: Annotated[
        str,
        typer.Option(metavar="COL,COL", help='Columns that name a row; "a,b" in quotes is one column with a comma.'),
    ],
    window: Annotated[str | None, typer.Option(metavar="COL", help="Column by which rows are grouped.")] = None,
    ready_until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Rows whose window is later are pending (needs --window).")
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COL=NUMBER", help="How far a column may differ; COL=rel:NUMBER as a share. May be repeated."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COL,COL", help=f"Columns to leave out, besides {', '.join(LINEAGE)}.")
    ] = None,
    compared_as: Annotated[
        list[str] | None,
        typer.Option("--as", metavar="COL=TYPE", help="Compare a column as this type (zip=int). May be repeated."),
    ] = None,
    naive_time_zone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Take times without a zone to be of this one: UTC, +01:00."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Look at every row exactly, without digests; count every repeated key.")
    ] = False,
) -> int:
    """Compare two tables row by row: exit code 0 when equal, 1 when different or when there is nothing to compare."""
    if ready_until is not None and window is None:
        raise InputError("--ready-until needs the window that it looks at.", fix="name it: --window COL")
    from twinrun.comparator.references import Asked, compare_tables
    from twinrun.comparator.schema import offset_s, type_named

    types = dict(_pair(text, "--as", "COL=TYPE, such as zip=int") for text in compared_as or ())
    for text in types.values():
        type_named(text)
    if naive_time_zone is not None:
        offset_s(naive_time_zone)
    asked = Asked(
        keys=_names([keys]),
        window=window,
        ready_until=None if ready_until is None else instant(ready_until, "--ready-until"),
        tolerances=dict(_tolerance(text) for text in tolerance or ()),
        ignore=(*_names(ignore or ()), *LINEAGE),
        full=full,
        types=types,
        naive_time_zone=naive_time_zone,
    )
    cfg = call.config_if_any()
    refs = (_reference(batch), _reference(stream))
    drivers = _need(cfg, refs)

    def work(spark: SparkSession, _: threading.Event) -> tuple[Comparison, tuple[Read, Read]]:
        with step(call.out, "comparing"):
            return compare_tables(spark, cfg, refs, asked)

    found, notes = with_spark(cfg, "compare", work, size=tables_size(refs), drivers=drivers)
    call.out.result(comparison_payload(found, refs, notes), comparison_lines(found, refs, notes))
    return EXIT_OK if found.verdict == "equal" else EXIT_DIFFERENT


def _need(cfg: Config | None, refs: tuple[str, str]) -> tuple[str, ...]:
    """Refuse tables that are surely absent; the drivers of those that a database has."""
    from twinrun.tables.cassandra import is_cassandra, need_cassandra
    from twinrun.tables.database import is_database, need_database

    drivers = []
    for ref in refs:
        if is_database(ref):
            drivers.append(need_database(ref).spoken)
        elif is_cassandra(ref):
            need_cassandra(ref)
            drivers.append("cassandra")
        else:
            need_table(cfg, ref, fix="correct the path, or give a catalog name such as main.flights.hourly")
    return tuple(dict.fromkeys(drivers))


def _reference(text: str) -> str:
    """A path that has no slash is made absolute, since a name without one means a catalog table."""
    return str(Path(text).absolute()) if "/" not in text and Path(text).exists() else text


def _names(texts: Sequence[str]) -> tuple[str, ...]:
    """Names by commas, as in CSV: in double quotes, commas, spaces and doubled quotes are part of a name."""
    names = []
    for text in texts:
        at = 0
        while at < len(text):
            match = _NAME.match(text, at)
            if match is None:
                raise InputError(
                    f"{text} cannot be read as names of columns.", expected="such as origin,hour or '\"a,b\",hour'"
                )
            quoted, plain = match.groups()
            names.append(plain.strip() if quoted is None else quoted.replace('""', '"'))
            at = match.end()
    return tuple(name for name in names if name)


def _pair(text: str, option: str, expected: str) -> tuple[str, str]:
    """A column and what is said of it. The column may hold an equals sign."""
    column, sign, said = text.rpartition("=")
    if not sign or not column or not said:
        raise InputError(f"{option} {text!r} cannot be read.", expected=expected)
    return column, said


def _tolerance(text: str) -> tuple[str, Tolerance]:
    expected = "COL=NUMBER or COL=rel:NUMBER, such as mean_delay=1e-9"
    column, written = _pair(text, "--tolerance", expected)
    try:
        bound = float(written.removeprefix("rel:"))
    except ValueError:
        raise InputError(f"--tolerance {text!r} cannot be read.", expected=expected) from None
    return column, rel(bound) if written.startswith("rel:") else absolute(bound)
