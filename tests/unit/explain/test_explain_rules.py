"""The rules of lateness against an oracle over a hand-made log; then with deliberate errors, each of which is seen."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
from pyspark.sql import SparkSession

from tests.unit.explain import explain_oracle as oracle
from tests.unit.explain.explain_checks import CHECKS, Bench

# In the order of their imports: a module that changed is taken up by those after it.
MODULES = [
    "twinrun.job.dataflow",
    "twinrun.tables.checkpoint",
    "twinrun.results.cut",
    "twinrun.events.decode",
    "twinrun.explain.used",
    "twinrun.explain.evidence",
    "twinrun.explain.replay",
    "twinrun.explain.differing",
    "twinrun.whatif.whatif",
]
MUTATIONS = {
    "the current micro-batch's watermark": ("explain.used", 'F.lag("watermark_ms")', 'F.lag("watermark_ms", 0)'),
    "the watermark two micro-batches back": ("explain.used", 'F.lag("watermark_ms")', 'F.lag("watermark_ms", 2)'),
    "micro-batches without data do not count": (
        "explain.used",
        "lagged = cut.micro_batches.withColumn",
        'lagged = cut.micro_batches.dropDuplicates(["end_offsets"]).withColumn',
    ),
    "partitions are forgotten": ("explain.used", '(F.col("_partition") == F.col("_p")) & ', ""),
    "the end offset is included": (
        "explain.used",
        '(F.col("_offset") < F.col("_to"))',
        '(F.col("_offset") <= F.col("_to"))',
    ),
    "the first offset is left out": (
        "explain.used",
        '(F.col("_offset") >= F.col("_from"))',
        '(F.col("_offset") > F.col("_from"))',
    ),
    "the start of the stream is taken for 0": (
        "explain.used",
        "for p, offset in start.items()",
        "for p, offset in {}.items()",
    ),
    "late only beyond the watermark": ("explain.used", 'end_us <= F.col("_late_ms")', 'end_us < F.col("_late_ms")'),
    "what is late goes by milliseconds": (
        "explain.used",
        'return end_us <= F.col("_late_ms") * F.lit(1000)',
        'return floor_ms(end_us) <= F.col("_late_ms")',
    ),
    "ids are forgotten by milliseconds": (
        "events.decode",
        '(state["at"] + delay > event["late"])',
        '(F.floor((state["at"] + delay) / 1000) * 1000 > event["late"])',
    ),
    "late by the start of the window": (
        "explain.used",
        'F.col("_start_us") + F.lit(rule.window_us)',
        'F.col("_start_us")',
    ),
    "the end of the window is one ms late": (
        "explain.used",
        "end_ms = start_ms + F.lit(job.window_ms)",
        "end_ms = start_ms + F.lit(job.window_ms) + F.lit(1)",
    ),
    "an event keeps one window of two": ("results.cut", "count = -(-window // slide)", "count = 1"),
    "sliding windows are one phase": (
        "explain.used",
        "return -(-(job.window_ms or 1) // (job.slide_ms or 1))",
        "return 1",
    ),
    "a phase takes its neighbour's rows": (
        "explain.used",
        "F.lit(phases(job))) == phase)",
        "F.lit(phases(job))) != phase)",
    ),
    "nothing is late": ("explain.used", "in_window & ~late", "in_window"),
    "de-duplication goes by an end": (
        "explain.used",
        'return moment if rule.kind == "time"',
        'return moment + 1_000_000 if rule.kind == "time"',
    ),
    "a session goes by the event time": (
        "explain.used",
        "return moment + F.lit(rule.gap_us)",
        "return moment",
    ),
    "an id is remembered for ever": ("events.decode", '(state["at"] + delay > event["late"])', "F.lit(True)"),
    "an id is forgotten on the tick": (
        "events.decode",
        '(state["at"] + delay > event["late"])',
        '(state["at"] > event["late"])',
    ),
    "late copies are kept": ("events.decode", "F.when(late | known, state)", "F.when(known, state)"),
    "the lateness needed forgets the lateness": ("whatif.whatif", " + F.lit(source.lateness_ms))", ")"),
    "the lateness needed goes by the start": (
        "explain.used",
        "F.array_min(starts) + F.lit(rule.window_us)",
        "F.array_min(starts)",
    ),
    "a replay does not stop where there was no data": (
        "explain.replay",
        "Segment(tuple(data), True, static)",
        "Segment(tuple(data), False, static)",
    ),
    "a join drops nothing": (
        "job.dataflow",
        "return all(child.streaming for child in node.inputs)",
        "return False",
    ),
    "the last operator decides what is late": (
        "job.dataflow",
        'if here is None or below.kind not in ("none",):',
        "if here is None:",
    ),
    "a session is a window": ("job.dataflow", "if window.session:", "if False:"),
    "a session's gap is forgotten": ("job.dataflow", "gap_us=window.length_us", "gap_us=0"),
    "every micro-batch has data": ("explain.replay", 'row["ends"] > before', 'row["ends"] >= before'),
    "a first micro-batch that reads nothing is idle": ("explain.replay", " or not found", ""),
    "a window is closed by its start": ("explain.differing", " + F.lit(job.window_ms)", ""),
    "a window that ends with the watermark is open": (
        "explain.differing",
        "window_end_ms(job) > F.lit(watermark_ms or 0)",
        "window_end_ms(job) >= F.lit(watermark_ms or 0)",
    ),
}


def failing(spark: SparkSession) -> str:
    """The first check that fails; empty where all hold. An error in a mutated rule counts as seen."""
    try:
        bench = Bench(spark)
        return next((name for name, check in CHECKS.items() if not check(bench)), "")
    except Exception as error:
        return type(error).__name__


@contextmanager
def mutated(name: str, old: str, new: str) -> Iterator[None]:
    """Run the modules with one text of one of them replaced."""
    modules = [importlib.import_module(each) for each in MODULES]
    sources = {module.__name__: inspect.getsource(module) for module in modules}
    before = sources[f"twinrun.{name}"]
    assert before.count(old) == 1, f"{old!r} stands {before.count(old)} times in {name}"
    originals = [(vars(module), dict(vars(module))) for module in modules]
    try:
        for module in modules:
            text = before.replace(old, new) if module.__name__ == f"twinrun.{name}" else sources[module.__name__]
            _load(module, text)
        yield
    finally:
        # The very classes of before: others hold them, and a class that was made anew equals none.
        for names, original in originals:
            names.clear()
            names.update(original)


def _load(module: ModuleType, text: str) -> None:
    exec(compile(text, str(module.__file__), "exec"), module.__dict__)


@pytest.mark.parametrize("name", CHECKS)
def test_the_rules_give_what_the_oracle_gives(spark_session: SparkSession, name: str) -> None:
    assert CHECKS[name](Bench(spark_session))


def test_the_log_holds_every_case() -> None:
    assert oracle.late_pairs(20_000, 20_000)
    assert len(oracle.late_pairs(20_000, 10_000)) > len(oracle.late_pairs(20_000, 20_000))
    assert oracle.copies_kept()
    assert oracle.dropped_by_time(0) > oracle.dropped_by_time(5_000) > set()
    assert set(oracle.before_or_beyond()) == {"before_start", "beyond_cut"}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_deliberate_error_is_seen(spark_session: SparkSession, mutation: str) -> None:
    with mutated(*MUTATIONS[mutation]):
        assert failing(spark_session)


def test_after_the_errors_the_rules_are_right_again(spark_session: SparkSession) -> None:
    assert failing(spark_session) == ""
    assert len(MUTATIONS) >= 29
