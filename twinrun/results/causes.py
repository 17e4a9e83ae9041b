"""The causes, each in one place: what it is called, what proves it, whether it is to be expected, what it means.

A new cause is an entry here, its proof in `twinrun.explain`, a line in docs/causes.md and a test. Where the words of a
row's story depend on its events, ``told`` is None, and `twinrun.report.cause_text` has a function for it.
"""

from __future__ import annotations

from dataclasses import dataclass

_AGAIN = "The recorded micro-batches, run again with the same watermarks, give {stream}; "


@dataclass(frozen=True)
class CauseText:
    """One cause of one row in four short texts, and the commands that help.

    ``{stream}`` and ``{batch}`` stand for the row of that side, ``{job}`` in a command for the job's name.
    """

    happened: str
    proof: str
    means: str
    prevent: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """One cause of differing rows.

    Attributes
    ----------
    expected : bool
        Proven rows of this cause leave the exit code at 0, within the job's limits.
    title, sentence : str
        The report's heading and sentence. ``{events}`` is their number; of ``[one|many]`` the first stands for one
        event, the second for several.
    proof : str
        What the recomputation gave; empty for what is no proof: evidence that is gone.
    batch_is_right : bool
        The batch's row is the better one, and the stream has done with the events in question: it can be healed.
    replayed : bool
        It takes the stream's micro-batches, run again: out of reach for the result of another engine.
    external_proof : str
        The proof where another engine wrote the result; empty where it is the same.
    told : CauseText or None
        The story of one row, where it is the same for every row.
    """

    name: str
    expected: bool
    title: str
    sentence: str
    proof: str
    batch_is_right: bool = False
    replayed: bool = False
    external_proof: str = ""
    told: CauseText | None = None


CAUSES = (
    Cause(
        "late_dropped",
        expected=True,
        title="Late events, dropped by the stream",
        sentence=(
            "{events} came too late for the stream, which was done with what [it belongs|they belong] to. The batch "
            "counts [it|them], the stream could not."
        ),
        proof="the batch's function without the late events gives exactly the stream's rows",
        batch_is_right=True,
        external_proof="the declared rule drops these events, and the batch's function without them gives these rows",
    ),
    Cause(
        "before_start",
        expected=True,
        title="Before the stream's start",
        sentence="{events} [lies|lie] before the offsets at which the stream started.",
        proof="the batch's function without the events before the stream's first offset gives its rows",
        batch_is_right=True,
        external_proof="the batch's function without the events before the declared start gives exactly these rows",
    ),
    Cause(
        "beyond_cut",
        expected=True,
        title="Beyond the cut",
        sentence="{events} [was|were] in the batch but not yet in the stream at the cut.",
        proof="the batch's function without the events beyond the stream's last offset gives its rows",
        external_proof="the batch's function without the events beyond the declared end gives exactly these rows",
    ),
    Cause(
        "quarantined",
        expected=True,
        title="Refused by the stream, accepted later",
        sentence="{events} went to quarantine at first and [was|were] accepted later, which only the batch sees.",
        proof="the batch's function without the events that the stream had refused gives its rows",
        batch_is_right=True,
        external_proof=(
            "the batch's function without the records that a requeue accepted later gives exactly these rows"
        ),
    ),
    Cause(
        "static_version",
        expected=False,
        title="Another version of a static table",
        sentence="The two modes joined different versions of a static table.",
        proof="the batch's function with the static tables that the stream saw gives its rows",
        batch_is_right=True,
    ),
    Cause(
        "pending",
        expected=True,
        title="Not closed yet",
        sentence="The stream's watermark has not passed these windows yet.",
        proof="the recorded micro-batches, run again, emit the row once the watermark is pushed beyond all events",
        external_proof=("by the declared rule no record has come yet with which the engine writes these windows"),
        told=CauseText(
            "The stream has the events of this row and holds the row back until its watermark has passed.",
            "The recorded micro-batches, run again, emit the batch's row once the watermark is pushed beyond "
            "all events.",
            "Nothing is lost: the row comes with later events. A stream that gets none keeps it for ever.",
            "Nothing needs to be done while events go on; a shorter lateness lets rows come earlier.",
        ),
    ),
    Cause(
        "late_split",
        expected=True,
        title="Sessions split by a late event",
        sentence=(
            "Events arrived after the session that they belong to had been given out, so the stream has more sessions "
            "where the batch has one."
        ),
        proof="the recorded micro-batches, run again, give these sessions; in order of event time, the batch's",
        replayed=True,
        told=CauseText(
            "An event of this session came after the stream had closed the session and given it out. The stream "
            "began a "
            "second session with it; the batch, which sees all events at once, has one.",
            _AGAIN + "in order of event time, with nothing late, they give {batch}.",
            "The events are all counted, but in two sessions of the stream instead of one.",
            "A longer lateness keeps sessions open longer, and delays each of them by as much.",
            ("twinrun what-if {job}",),
        ),
    ),
    Cause(
        "arrival_order",
        expected=False,
        title="Order of arrival",
        sentence=(
            "In order of event time, the stream would give the batch's rows: the order of arrival made the difference."
        ),
        proof="the micro-batches, run again, give the stream's row; in order of event time, the batch's",
        replayed=True,
        told=CauseText(
            "The function depends on which event comes first, and the events did not arrive in order of event time.",
            _AGAIN + "the same events in order of event time give {batch}. Lateness alone does not explain it.",
            "Both results follow from the same events. Neither is more right than the function's rule for ties.",
            "Order by event time and coordinates (_partition, _offset) inside the function instead of taking "
            "the first.",
            ("twinrun lint {job}",),
        ),
    ),
    Cause(
        "duplicate_event",
        expected=False,
        title="Duplicate events",
        sentence="{events} came again, and the stream took the copy that the batch drops.",
        proof="the micro-batches, run again, give the stream's row with the copies that it took",
        batch_is_right=True,
        replayed=True,
        told=CauseText(
            "An event came again after the stream had forgotten its id (it keeps ids only as long as the "
            "lateness), so the "
            "stream took the copy too. The batch looks at all ids at once and drops it.",
            _AGAIN + "in order of event time, without the copies, they give {batch}.",
            "The stream used the event more than once; the batch used it once.",
            "Let the producer not send twice (idempotent writes), or remember ids for longer: a longer lateness.",
        ),
    ),
    Cause(
        "float_order",
        expected=False,
        title="Order of floating-point sums",
        sentence="The sums are equal when added exactly; only the order differs.",
        proof="in exact decimals, the function gives both rows to within rounding",
        batch_is_right=True,
        told=CauseText(
            "Both modes added the same floating-point numbers in another order, and rounded differently.",
            "In exact decimals, the job's function gives both rows to within 1e-9 of their size.",
            "The numbers agree for every practical purpose.",
            "Declare a tolerance for the column in the job, or add decimals instead of floating-point numbers.",
            ("twinrun lint {job}",),
        ),
    ),
    Cause(
        "nondeterministic",
        expected=False,
        title="The job is not deterministic",
        sentence="The batch, run twice over the same events, differs from itself.",
        proof="the batch, run twice more over the same events, differs from itself",
        told=CauseText(
            "The function does not repeat itself: it gives another row each time, over the same events.",
            "The batch, run twice more over the same events in another order, differs from itself in this row.",
            "Neither row can be trusted: a rerun of the batch may give a third one.",
            "Look for random numbers, the clock, first() or collect_list() without an order.",
            ("twinrun lint {job}",),
        ),
    ),
    Cause(
        "sink_missing",
        expected=False,
        title="Rows not written",
        sentence="The stream's table lacks rows that its micro-batches emitted.",
        proof="the recorded micro-batches, run again, emit the row that the stream's table lacks",
        batch_is_right=True,
        replayed=True,
        told=CauseText(
            "The stream gave this row out, and its table does not hold it: it was deleted, or the write was lost.",
            "The recorded micro-batches, run again with the same watermarks, emit the row.",
            "The stream's logic is not at fault; whoever reads the stream's table misses this row.",
            "Look at who else writes to the stream's table (DESCRIBE HISTORY), then bring the row back from a version "
            "before, or start a new checkpoint.",
        ),
    ),
    Cause(
        "sink_duplicate",
        expected=False,
        title="Rows written twice",
        sentence="The stream's table holds rows more often than they were emitted: the sink is wrong, not the logic.",
        proof="the recorded micro-batches, run again, emit once the row that the stream's table repeats",
        external_proof="the external result holds nothing but exact copies of the one right row",
        told=CauseText(
            "The stream gave this row out once, and its table holds it several times: a write was repeated.",
            "The recorded micro-batches, run again with the same watermarks, emit the row once; the table holds "
            "copies of "
            "exactly that row.",
            "Whoever adds up the stream's table counts this row too often.",
            "Look at who else writes to the stream's table (DESCRIBE HISTORY), then remove the copies.",
        ),
    ),
    Cause(
        "emitted_again",
        expected=False,
        title="Windows written again after a restart",
        sentence=(
            "A restart set the engine's clock back: windows that it had written took late events, and were written "
            "once more."
        ),
        proof=(
            "by the declared rule and restarts, the batch's function over the events that its store had at each "
            "writing gives exactly these rows, one for each"
        ),
        told=CauseText(
            "The other engine keeps its clock in memory, and a declared restart set it back: the window, which it had "
            "written, took late events again and was written once more.",
            "By the declared rule and restarts, the job's own function over the events that its store had at each "
            "writing gives exactly the rows that the external result holds of this key, one for each, and no other. "
            "That is as good as what is declared; no row of the result contradicts it.",
            "Whoever adds up the external result counts this window more than once. The store may have let "
            "go of the window before: then its last row has only the events since the restart.",
            "Let the engine write each window at most once (EmitStrategy.onWindowClose in Kafka Streams); or let its "
            "store keep windows longer (Materialized.withRetention), and take the last row of each key.",
        ),
    ),
    Cause(
        "sink_changed",
        expected=False,
        title="Rows changed by somebody else",
        sentence="The stream's table holds rows that the stream did not emit: another commit wrote them.",
        proof="before somebody else's commit the stream's table held what a recomputation gives: that row, or none",
        batch_is_right=True,
        replayed=True,
    ),
    Cause(
        "mode_dependent_logic",
        expected=False,
        title="The logic depends on the mode",
        sentence="The job computes something else as a stream than as a batch.",
        proof="run again, the micro-batches give the stream's row, and not the batch's in any order",
        replayed=True,
        told=CauseText(
            "The function computes something else per micro-batch than over all events at once: an operation in pandas "
            "sees one micro-batch at a time, and an outer join of streams loses rows where a part of its "
            "condition looks "
            "at the kept side alone.",
            _AGAIN + "in order of event time, with nothing late, the result is still not the batch's.",
            "The two modes run the same code and mean different things by it. Decide which one is meant.",
            "Lint names the line and what to write instead.",
            ("twinrun lint {job}",),
        ),
    ),
    Cause(
        "evidence_expired",
        expected=False,
        title="Evidence is gone",
        sentence="The log, events or table versions that a proof needs are no longer kept.",
        proof="",
        told=CauseText(
            "What a proof of this row needs is gone: the log of micro-batches has a hole, or events that may "
            "belong to the "
            "row expired or were erased (the notes say which).",
            "None: the row is neither proven equal nor explained.",
            "One of the two results may be wrong, and nothing that is left can tell which.",
            "Keep the micro-batch log and the events for as long as results should be provable. A new "
            "checkpoint starts a "
            "complete log.",
            ("twinrun stream {job} --new-checkpoint",),
        ),
    ),
)

BY_NAME = {cause.name: cause for cause in CAUSES}
PROOFS = {cause.name: cause.proof for cause in CAUSES if cause.proof}
"""By cause that can be proven, the sentence that says how."""
EXPECTED_CAUSES = tuple(cause.name for cause in CAUSES if cause.expected)
"""Proven causes that a correct pair of runs may show: they do not fail a verify within the job's limits."""
