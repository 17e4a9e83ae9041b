"""``twinrun show``: rows of a job's result, as the batch or the stream has them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named, need_table
from twinrun.cli.live import step
from twinrun.cli.output import columns
from twinrun.cli.runs import JobName
from twinrun.cli.session import job_size, with_spark
from twinrun.config.model import Config
from twinrun.config.problems import nearest
from twinrun.errors import EXIT_OK, InputError
from twinrun.job.job import Job
from twinrun.results.records import LINEAGE
from twinrun.wording import plural

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import DataType

commands = typer.Typer()
LIMIT, MOST = 20, 10_000


class Mode(StrEnum):
    """Whose result."""

    batch = "batch"
    stream = "stream"


@dataclass(frozen=True)
class Shown:
    """Rows of one table, in order, and how many there are."""

    table: str
    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    found: int


@command(commands, "show", 'twinrun show departures_per_hour --where "flights > 20" --order-by "mean_delay desc"')
def show(
    call: Call,
    name: JobName,
    mode: Annotated[Mode, typer.Option(help="Whose result.")] = Mode.batch,
    where: Annotated[str | None, typer.Option(metavar="SQL", help="Only rows for which this is true.")] = None,
    order_by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A column, or 'COLUMN desc'. [default: the job's keys]")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="At most so many rows.")] = LIMIT,
) -> int:
    """Show rows of a job's result, as the last run of a mode left them."""
    cfg = call.config()
    job = job_named(cfg, name)
    need_table(cfg, cfg.table("control"), fix=f"there is nothing yet; run: twinrun {mode} {job.job_name}")

    def work(spark: SparkSession, _: threading.Event) -> Shown:
        with step(call.out, f"show {job.job_name}"):
            return shown(spark, cfg, job, mode, where, order_by, limit)

    found = with_spark(cfg, f"show {job.job_name}", work, size=job_size(cfg, job))
    rows = [dict(zip(found.names, row, strict=True)) for row in found.rows]
    payload = {"job": job.job_name, "mode": mode.value, "table": found.table, "rows_found": found.found, "rows": rows}
    cells = [tuple("null" if cell is None else str(cell).replace("\n", "\\n") for cell in row) for row in found.rows]
    of = f"{len(rows):,} of " if len(rows) < found.found else ""
    lines = [f"{job.job_name} in the {mode}: {of}{plural(found.found, 'row')}"]
    lines += [*columns([found.names, *cells]), f"  table  {found.table}"]
    call.out.result(payload, lines)
    return EXIT_OK


def shown(
    spark: SparkSession, cfg: Config, job: Job, mode: Mode, where: str | None, order_by: str | None, limit: int
) -> Shown:
    """At most ``limit`` rows of a result, times in UTC. The table is read once to sort it, and once more to count it.

    Raises
    ------
    InputError
        This mode never ran; the condition or the column is none of the table.
    """
    from twinrun.results.state import states
    from twinrun.session.plain import plain_errors
    from twinrun.session.settings import with_settings
    from twinrun.tables.delta import read_table

    stream, batch = states(spark, cfg, job.job_name)
    state = batch if mode is Mode.batch else stream
    if state is None:
        raise InputError(f"no {mode} of {job.job_name} has run.", fix=f"twinrun {mode} {job.job_name}")
    with with_settings(spark, {"spark.sql.session.timeZone": "UTC"}), plain_errors(f"reading {state.table}"):
        rows = read_table(spark, state.table).drop(*LINEAGE)
        chosen = _chosen(rows, where)
        ordered = chosen.orderBy(*_order(rows, job, order_by)).limit(limit)
        as_told = ordered.select(*[_told(field.name, field.dataType) for field in rows.schema])
        found = tuple(tuple(row) for row in as_told.collect())
        return Shown(state.table, tuple(rows.columns), found, len(found) if len(found) < limit else chosen.count())


def _chosen(rows: DataFrame, where: str | None) -> DataFrame:
    from pyspark.errors import AnalysisException

    from twinrun.job.code import spark_problem
    from twinrun.job.plan import quiet_spark

    if where is None:
        return rows
    try:
        with quiet_spark():  # a condition that is no truth value is refused here as well
            return rows.filter(where)
    except AnalysisException as error:  # what cannot be parsed is one, too
        raise InputError(
            f"{spark_problem(error, f'--where {where!r}').found.rstrip('.')}.",
            expected=f"SQL over {', '.join(rows.columns)}",
            fix="such as --where \"flights > 20 AND origin = 'JFK'\", with the columns of this job",
        ) from None


def _order(rows: DataFrame, job: Job, order_by: str | None) -> list[Column]:
    from pyspark.sql import functions as F

    from twinrun.events.exact import quoted

    if order_by is None:
        return [F.col(quoted(key)) for key in job.keys]
    asked = order_by.strip()
    name, _, way = asked.rpartition(" ")
    name, way = (name.strip(), way.lower()) if name and way.lower() in ("asc", "desc") else (asked, "asc")
    if name not in rows.columns:
        match = nearest(name, rows.columns)
        raise InputError(
            f"--order-by names {name!r}, which is no column of {job.job_name}.",
            expected=f"one of {', '.join(rows.columns)}",
            fix=f"write {match!r}" if match else "name one of them, with ' desc' behind it for the largest first",
        )
    first = F.col(quoted(name))
    return [first.desc() if way == "desc" else first.asc(), *[F.col(quoted(key)) for key in job.keys]]


def _told(name: str, kind: DataType) -> Column:
    """A cell as it can be printed: times in UTC whatever the machine's zone, nested values as JSON."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import ArrayType, BinaryType, BooleanType, DecimalType, MapType, NumericType, StructType

    from twinrun.events.exact import EXACT_TIMES, quoted

    value = F.col(quoted(name))
    if isinstance(kind, ArrayType | MapType | StructType):
        return F.to_json(value, EXACT_TIMES).alias(name)
    if isinstance(kind, BinaryType):
        return F.base64(value).alias(name)
    plain = isinstance(kind, NumericType | BooleanType) and not isinstance(kind, DecimalType)
    return (value if plain else value.cast("string")).alias(name)
