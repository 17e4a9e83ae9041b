"""Rules TR2.. and TR3..: what both modes run, and what can come out different or fail."""

from __future__ import annotations

from twinrun.lint.result import Rule, Shown


def _differs(number: int, title: str, why: str, instead: str, shown: Shown = "run") -> Rule:
    return Rule(f"TR{number}", title, "differs", why, instead, shown)


def _note(number: int, title: str, why: str, instead: str, shown: Shown = "plan", *, first_run: bool = False) -> Rule:
    return Rule(f"TR{number}", title, "note", why, instead, shown, first_run)


TIME: tuple[Rule, ...] = (
    _note(
        201,
        "late events",
        "Batch counts every event; the stream drops those behind its watermark.",
        "nothing: verify proves late_dropped; a larger lateness drops fewer, max_late_share sets a limit",
        "run",
    ),
    _note(
        202,
        "windows that are still open",
        "The stream writes a window when the watermark passes its end, batch at once.",
        "nothing: verify calls them pending",
        "run",
    ),
    _note(
        203,
        "filter that Spark moves before the watermark",
        "Only the events that it leaves move the watermark: it decides which events are late and when windows close.",
        "aggregate all events and count those that matter with F.count_if, and filter rows without any behind it; or "
        "accept it: results come later, and fewer events are late",
        "run",
        first_run=True,
    ),
    _differs(
        204,
        "watermark of its own",
        "Batch ignores withWatermark; the stream drops events by it that verify does not know of.",
        "Source(lateness=..): the framework sets the watermark",
    ),
    _note(
        205,
        "windows of whole days",
        "F.window counts days from 1970-01-01T00:00Z; it knows no time zone and no daylight saving, in both modes.",
        "nothing for days in UTC; for local days an hourly job, summed up where it is read",
        "run",
    ),
    _differs(
        206,
        "session time zone that is not UTC",
        "F.window counts in UTC, date functions and casts in the session's zone, which each run reads anew.",
        "spark.sql.session.timeZone: UTC in both modes",
    ),
    _differs(
        207,
        "loss that no rule names",
        "The watermark drops rows by a time that is not the event's own, so that verify cannot tell which events they "
        "were made of: such rows stay unexplained.",
        "hand the event time on as it is, the same way in every frame of a union",
        "plan",
    ),
    _differs(
        208,
        "lateness of 0",
        "An event of the very instant that the stream has reached is late in the next micro-batch, though nothing came "
        "out of order.",
        "a lateness of a millisecond at least; better, of what the producer's clocks differ by",
    ),
    _note(
        209,
        "lateness that drops nothing",
        "No watermark reaches the operator: nothing is late there, and its state is never forgotten.",
        "the source with the lateness first in a union; the event time as it is, among the columns that are used",
        "run",
    ),
    _differs(
        210,
        "current time",
        "Batch has one value per run, the stream one per micro-batch.",
        "the event time, or _kafka_timestamp: when the event became known",
    ),
    _differs(
        211,
        "clock or random number of Python",
        "Python evaluates it once when a run starts: a stream keeps its value for weeks, each batch has another.",
        "a constant of the job file, or a column of the event",
    ),
    _note(
        212,
        "records per trigger, shared out among partitions",
        "Spark shares stream.max_offsets_per_trigger out by the size of each backlog, not by time: where backlogs span "
        "different times one partition runs ahead, and its watermark drops what the others still hold.",
        "records spread evenly over the partitions, or a first run without the limit; verify says which were read_late",
        first_run=True,
    ),
)
PYTHON: tuple[Rule, ...] = (
    _differs(
        220,
        "function over groups of rows",
        "In a stream it sees only the rows of one micro-batch, in batch all rows of the group; Spark says nothing.",
        "built-in aggregates, or F.aggregate over a sorted F.collect_list",
    ),
    _differs(
        221,
        "function over chunks of rows",
        "How rows are cut into chunks is up to Spark: what looks across rows differs.",
        "fine where each row is computed from itself alone, best as a plain pandas_udf; else a built-in aggregate",
    ),
    _differs(
        222,
        "logic that asks for its mode",
        "With isStreaming the job is two definitions.",
        "one expression for both modes",
    ),
    _note(
        223,
        "transformWithState",
        "Runs in both modes. What it keeps follows the order in which events come, and it drops none as late.",
        "sort what handleInputRows gets, and keep what no order changes; verify proves arrival_order",
    ),
    _differs(
        224,
        "timers of transformWithState",
        "With time mode eventTime a stream drops late events and fires timers by its watermark; a batch fires none, "
        "and lacks what they would emit.",
        "time mode none, and rows from handleInputRows; for what is to come when nothing comes, a session window",
    ),
)
ORDER: tuple[Rule, ...] = (
    _differs(
        230,
        "value that depends on the order of rows",
        "first, last and any_value take what arrives first, which differs between modes and between runs.",
        "F.min_by or F.max_by over F.struct(event time, '_partition', '_offset')",
    ),
    _differs(
        231,
        "list in the order of arrival",
        "collect_list, collect_set and listagg keep the order in which rows meet.",
        "F.sort_array around collect_list or collect_set, F.array_join of that for listagg; F.size(F.collect_set(..)) "
        "where only the number of distinct values counts",
    ),
    _differs(
        232,
        "ties",
        "Where two rows tie, max_by, min_by and mode keep either.",
        "a total order: F.max_by(x, F.struct('ts', '_partition', '_offset')); F.mode(x, deterministic=True)",
    ),
    _differs(
        233,
        "floating-point sum",
        "Adding doubles in another order changes the last digits; partial sums meet in another order in each run.",
        "a cast to DECIMAL before the sum, or tolerances={column: rel(1e-9)}",
    ),
    _note(
        234,
        "estimate",
        "The estimate can depend on the order in which partial results meet, within its error.",
        "a tolerance, or an exact aggregate",
    ),
    _differs(
        240,
        "random value",
        "rand, randn, uuid and shuffle draw anew in each run; a seed does not help, since it counts per partition.",
        "a hash of the key: F.xxhash64('id')",
    ),
    _differs(
        241,
        "place of execution",
        "Partition numbers and file names belong to one run and one mode.",
        "_topic, _partition and _offset of the event",
    ),
    _differs(
        242,
        "Python function that is declared non-deterministic",
        "Its values are not the same twice.",
        "a deterministic function of its arguments",
    ),
)
ROWS: tuple[Rule, ...] = (
    _note(
        250,
        "static table",
        "The stream pins it when it starts, a batch when it runs: a change between shows.",
        "nothing: versions are recorded, and verify proves static_version where it can",
    ),
    _differs(
        251,
        "table that the function reads by itself",
        "It is not pinned: a stream may read it anew in each micro-batch.",
        "tables=[Table(..)] and a parameter of that name",
        "plan",
    ),
    _differs(
        260,
        "limit",
        "The stream keeps the rows that arrived first, batch any.",
        "leave it out, or a filter on a column",
    ),
    _differs(
        261,
        "rows that de-duplication chooses",
        "The stream keeps the row that arrived first, batch any; the other columns differ where copies differ.",
        "group by the key and take F.min_by over a total order, or make all columns part of the key",
    ),
    _note(
        262,
        "de-duplication that remembers for ever",
        "Without the event time among its columns its state grows with every key.",
        "Source(distinct=[..]), or dropDuplicates of the key and the event time",
    ),
    _note(
        263,
        "join of streams",
        "Rows come when both partners are there, null rows when the slower watermark passes: an idle source holds "
        "all back.",
        "nothing: it shows as pending",
    ),
    _differs(
        264,
        "filter over totals that change",
        "A row that met the condition once stays in the stream's table when it no longer does; batch never has it. "
        "A count or maximum above a constant stays true, so it is no finding.",
        "delete_when='..' in the job: it removes rows in both modes",
    ),
    _differs(
        265,
        "outer join of streams with a condition on the kept side alone",
        "Spark 4.2 pads a row that fails the condition at once, and never emits one that meets it and finds no "
        "partner: batch has that row, the stream lacks it for good.",
        "join only the rows that meet the condition (a filter before the join), and unite the others with it",
    ),
)
DIFFERS = (*TIME, *PYTHON, *ORDER, *ROWS)


def _fails(number: int, title: str, why: str, instead: str) -> Rule:
    return Rule(f"TR{number}", title, "fails", why, instead, "run")


FAILS: tuple[Rule, ...] = (
    _fails(
        301,
        "division by a value that may be 0",
        "One event with 0 there ends both modes at every start.",
        "F.try_divide(a, b), F.try_mod(a, b) or a / F.nullif(b, F.lit(0)): null there; or ranges of the source "
        "without 0",
    ),
    _fails(
        302,
        "conversion that a value may not fit",
        "One event whose value has no form in that type ends both modes at every start.",
        "column.try_cast(type), F.try_to_number or F.try_parse_url: null there",
    ),
    _fails(
        303,
        "index beyond an array",
        "One event with a shorter array ends both modes at every start.",
        "F.get(array, index), counted from 0, or F.try_element_at(array, index), from 1: null there",
    ),
    _fails(
        304,
        "text or numbers that may be no time",
        "One event with another text or number ends both modes at every start.",
        "F.try_to_date, F.try_to_timestamp or F.try_make_timestamp: null there",
    ),
    _fails(
        305,
        "overflow",
        "One event, or a sum of few, beyond the largest value of the type ends both modes at every start.",
        "a wider type, ranges of the source, or F.try_add, F.try_multiply and F.try_sum: null there",
    ),
    _fails(
        306,
        "error on purpose",
        "raise_error and assert_true end both modes at every start, for one event.",
        "a filter, or an expectation of the job, which is reported and stops nothing",
    ),
)
