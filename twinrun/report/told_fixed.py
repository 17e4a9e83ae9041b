"""The causes that say the same of every row: no event is named, or what is named says it all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinrun.results.verdict import RowSample, Verdict


@dataclass(frozen=True)
class Told:
    """One cause of one row in four short texts, and the commands that help."""

    happened: str
    proof: str
    means: str
    prevent: str
    commands: tuple[str, ...] = ()


def of_sides(text: str, sample: RowSample) -> str:
    """A text with its ``{stream}`` and ``{batch}``: the row of that side, or that it has none. Pure."""
    return text.replace("{stream}", _side("stream", sample.stream)).replace("{batch}", _side("batch", sample.batch))


def told_of(found: Told, verdict: Verdict, sample: RowSample) -> Told:
    """The texts of a cause that says the same of every row, for this row and job."""
    return Told(
        happened=of_sides(found.happened, sample),
        proof=of_sides(found.proof, sample),
        means=of_sides(found.means, sample),
        prevent=of_sides(found.prevent, sample),
        commands=tuple(command.replace("{job}", verdict.job) for command in found.commands),
    )


def _side(name: str, held: dict[str, Any] | None) -> str:
    return f"exactly the {name}'s row" if held is not None else f"no row, as the {name} has none"


_AGAIN = "The recorded micro-batches, run again with the same watermarks, give {stream}; "
FIXED = {
    "late_split": Told(
        "An event of this session came after the stream had closed the session and given it out. The stream began a "
        "second session with it; the batch, which sees all events at once, has one.",
        _AGAIN + "in order of event time, with nothing late, they give {batch}.",
        "The events are all counted, but in two sessions of the stream instead of one.",
        "A longer lateness keeps sessions open longer, and delays each of them by as much.",
        ("twinrun what-if {job}",),
    ),
    "pending": Told(
        "The stream has the events of this row and holds the row back until its watermark has passed.",
        "The recorded micro-batches, run again, emit the batch's row once the watermark is pushed beyond all events.",
        "Nothing is lost: the row comes with later events. A stream that gets none keeps it for ever.",
        "Nothing needs to be done while events go on; a shorter lateness lets rows come earlier.",
    ),
    "duplicate_event": Told(
        "An event came again after the stream had forgotten its id (it keeps ids only as long as the lateness), so the "
        "stream took the copy too. The batch looks at all ids at once and drops it.",
        _AGAIN + "in order of event time, without the copies, they give {batch}.",
        "The stream used the event more than once; the batch used it once.",
        "Let the producer not send twice (idempotent writes), or remember ids for longer: a longer lateness.",
    ),
    "arrival_order": Told(
        "The function depends on which event comes first, and the events did not arrive in order of event time.",
        _AGAIN + "the same events in order of event time give {batch}. Lateness alone does not explain it.",
        "Both results follow from the same events. Neither is more right than the function's rule for ties.",
        "Order by event time and coordinates (_partition, _offset) inside the function instead of taking the first.",
        ("twinrun lint {job}",),
    ),
    "float_order": Told(
        "Both modes added the same floating-point numbers in another order, and rounded differently.",
        "In exact decimals, the job's function gives both rows to within 1e-9 of their size.",
        "The numbers agree for every practical purpose.",
        "Declare a tolerance for the column in the job, or add decimals instead of floating-point numbers.",
        ("twinrun lint {job}",),
    ),
    "nondeterministic": Told(
        "The function does not repeat itself: it gives another row each time, over the same events.",
        "The batch, run twice more over the same events in another order, differs from itself in this row.",
        "Neither row can be trusted: a rerun of the batch may give a third one.",
        "Look for random numbers, the clock, first() or collect_list() without an order.",
        ("twinrun lint {job}",),
    ),
    "sink_missing": Told(
        "The stream gave this row out, and its table does not hold it: it was deleted, or the write was lost.",
        "The recorded micro-batches, run again with the same watermarks, emit the row.",
        "The stream's logic is not at fault; whoever reads the stream's table misses this row.",
        "Look at who else writes to the stream's table (DESCRIBE HISTORY), then bring the row back from a version "
        "before, or start a new checkpoint.",
    ),
    "sink_duplicate": Told(
        "The stream gave this row out once, and its table holds it several times: a write was repeated.",
        "The recorded micro-batches, run again with the same watermarks, emit the row once; the table holds copies of "
        "exactly that row.",
        "Whoever adds up the stream's table counts this row too often.",
        "Look at who else writes to the stream's table (DESCRIBE HISTORY), then remove the copies.",
    ),
    "mode_dependent_logic": Told(
        "The function computes something else per micro-batch than over all events at once: an operation in pandas "
        "sees one micro-batch at a time, and an outer join of streams loses rows where a part of its condition looks "
        "at the kept side alone.",
        _AGAIN + "in order of event time, with nothing late, the result is still not the batch's.",
        "The two modes run the same code and mean different things by it. Decide which one is meant.",
        "Lint names the line and what to write instead.",
        ("twinrun lint {job}",),
    ),
    "evidence_expired": Told(
        "What a proof of this row needs is gone: the log of micro-batches has a hole, or events that may belong to the "
        "row expired or were erased (the notes say which).",
        "None: the row is neither proven equal nor explained.",
        "One of the two results may be wrong, and nothing that is left can tell which.",
        "Keep the micro-batch log and the events for as long as results should be provable. A new checkpoint starts a "
        "complete log.",
        ("twinrun stream {job} --new-checkpoint",),
    ),
    "input_behind": Told(
        "It is not known yet: the stream has read events that the batch lacks, and they may belong to this row.",
        "None: nothing is claimed before both modes have read the same events.",
        "Nothing is called wrong. The batch's result may change when it has caught up.",
        "Let the batch catch up, then verify again.",
        ("twinrun batch {job}", "twinrun verify {job}"),
    ),
}
"""By cause; ``{job}`` in a command stands for the job's name."""

LOST = Told(
    "Kafka had removed records before they were landed, and the stream had read them: {spans}. The batch has never "
    "seen these events, and which rows they belong to is not known.",
    "None: the row is neither proven equal nor explained.",
    "Where the removed events belong to this row, the stream's row has them and the batch's row lacks them.",
    "Land topics before their retention removes records. A stream that begins where bronze begins is comparable again.",
    ("twinrun stream {job} --new-checkpoint --from earliest",),
)
"""Evidence that is gone since bronze never got the events; ``{spans}`` names them."""
