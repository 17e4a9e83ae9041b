"""``twinrun compare BATCH STREAM``: any two Delta or Parquet tables, without a job and without Kafka."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.comparison import comparison_lines, comparison_payload
from twinrun.cli.inputs import instant, local_path, need_table
from twinrun.cli.live import step
from twinrun.cli.session import with_spark
from twinrun.compare.result import Comparison
from twinrun.config.model import Config
from twinrun.errors import EXIT_DIFFERENT, EXIT_OK, InputError
from twinrun.results.run import LINEAGE
from twinrun.tolerance import Tolerance, absolute, rel

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

commands = typer.Typer()
SAMPLES = 20


@dataclass(frozen=True)
class Asked:
    """What to compare and how; see `twinrun.compare.tables.compare_frames`."""

    keys: tuple[str, ...]
    window: str | None
    ready_until: datetime | None
    tolerances: dict[str, Tolerance]
    ignore: tuple[str, ...]
    full: bool


@command(
    commands, "compare", "twinrun compare ./batch ./stream --keys origin,hour --window hour --tolerance mean=rel:1e-9"
)
def compare(
    call: Call,
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="A Delta or Parquet table: a path or a catalog name.")],
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The other table.")],
    keys: Annotated[str, typer.Option(metavar="COL,COL", help="Columns that name a row.")],
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
    full: Annotated[bool, typer.Option("--full", help="Look at every row exactly, without digests.")] = False,
) -> int:
    """Compare two tables row by row: exit code 0 when equal, 1 when different or when there is nothing to compare."""
    if ready_until is not None and window is None:
        raise InputError("--ready-until needs the window that it looks at.", fix="name it: --window COL")
    asked = Asked(
        keys=_names([keys]),
        window=window,
        ready_until=None if ready_until is None else instant(ready_until, "--ready-until"),
        tolerances=dict(_tolerance(text) for text in tolerance or ()),
        ignore=(*_names(ignore or ()), *LINEAGE),
        full=full,
    )
    cfg = call.config_if_any()
    refs = (_reference(batch), _reference(stream))
    for ref in refs:
        need_table(cfg, ref, fix="correct the path, or give a catalog name such as main.flights.hourly")

    def work(spark: SparkSession, _: threading.Event) -> tuple[Comparison, tuple[str, ...]]:
        with step(call.out, "comparing"):
            return compare_tables(spark, cfg, refs, asked)

    found, notes = with_spark(cfg, "compare", work)
    call.out.result(comparison_payload(found, refs, notes), comparison_lines(found, refs, notes))
    return EXIT_OK if found.verdict == "equal" else EXIT_DIFFERENT


def compare_tables(
    spark: SparkSession, cfg: Config | None, refs: tuple[str, str], asked: Asked
) -> tuple[Comparison, tuple[str, ...]]:
    """Compare two tables as they are now; a Delta table at its newest version, which is pinned.

    Returns
    -------
    Comparison
        The numbers and a few samples.
    tuple of str
        What was read, one text per table.

    Raises
    ------
    TableError
        A table is missing, or a column cannot be used as asked.
    QueryError
        Spark cannot read a table.
    """
    from twinrun.compare.tables import compare_frames
    from twinrun.session.plain import plain_errors

    with plain_errors("the comparison"):
        (left, left_note), (right, right_note) = (_read(spark, cfg, ref) for ref in refs)
        found, _ = compare_frames(
            left,
            right,
            keys=asked.keys,
            window_column=asked.window,
            tolerances=asked.tolerances,
            ignore=asked.ignore,
            ready_until=asked.ready_until,
            sample_rows=SAMPLES,
            full=asked.full,
        )
    return found, (left_note, right_note)


def _read(spark: SparkSession, cfg: Config | None, ref: str) -> tuple[DataFrame, str]:
    from twinrun.tables.delta import latest_version, read_table, table_exists

    is_path = "/" in ref
    if _is_delta(spark, cfg, ref):
        version = latest_version(spark, ref)
        return read_table(spark, ref, version), f"Delta, version {version}"
    if not is_path and not table_exists(spark, ref):
        # read_table says in one sentence that it is not there.
        return read_table(spark, ref), ""
    return spark.read.parquet(ref) if is_path else spark.read.table(ref), "no versions"


def _is_delta(spark: SparkSession, cfg: Config | None, ref: str) -> bool:
    from delta.tables import DeltaTable
    from pyspark.errors import AnalysisException

    folder = local_path(cfg, ref)
    if folder is not None:
        return (folder / "_delta_log").is_dir()
    if "/" in ref:
        return bool(DeltaTable.isDeltaTable(spark, ref))
    try:
        DeltaTable.forName(spark, ref)
    except AnalysisException:
        return False
    return True


def _reference(text: str) -> str:
    """A path that has no slash is made absolute, since a name without one means a catalog table."""
    return str(Path(text).absolute()) if "/" not in text and Path(text).exists() else text


def _names(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())


def _tolerance(text: str) -> tuple[str, Tolerance]:
    column, sign, written = text.rpartition("=")
    relative = written.startswith("rel:")
    try:
        bound = float(written.removeprefix("rel:"))
    except ValueError:
        sign = ""
        bound = 0.0
    if not sign or not column:
        raise InputError(
            f"--tolerance {text!r} cannot be read.", expected="COL=NUMBER or COL=rel:NUMBER, such as mean_delay=1e-9"
        )
    return column, rel(bound) if relative else absolute(bound)
