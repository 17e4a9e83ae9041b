"""The causes that say the same of every row: no event is named, or what is named says it all."""

from __future__ import annotations

from typing import Any

from twinrun.results.causes import CAUSES, CauseText
from twinrun.results.verdict import RowSample, Verdict


def of_sides(text: str, sample: RowSample) -> str:
    """A text with its ``{stream}`` and ``{batch}``: the row of that side, or that it has none. Pure."""
    return text.replace("{stream}", _side("stream", sample.stream)).replace("{batch}", _side("batch", sample.batch))


def told_of(found: CauseText, verdict: Verdict, sample: RowSample) -> CauseText:
    """The texts of a cause that says the same of every row, for this row and job."""
    return CauseText(
        happened=of_sides(found.happened, sample),
        proof=of_sides(found.proof, sample),
        means=of_sides(found.means, sample),
        prevent=of_sides(found.prevent, sample),
        commands=tuple(command.replace("{job}", verdict.job) for command in found.commands),
    )


def _side(name: str, held: dict[str, Any] | None) -> str:
    return f"exactly the {name}'s row" if held is not None else f"no row, as the {name} has none"


INPUT_BEHIND = CauseText(
    "It is not known yet: the stream has read events that the batch lacks, and they may belong to this row.",
    "None: nothing is claimed before both modes have read the same events.",
    "Nothing is called wrong. The batch's result may change when it has caught up.",
    "Let the batch catch up, then verify again.",
    ("twinrun batch {job}", "twinrun verify {job}"),
)
"""No cause: what is not judged yet."""
FIXED = {cause.name: cause.told for cause in CAUSES if cause.told is not None} | {"input_behind": INPUT_BEHIND}
"""By cause; ``{job}`` in a command stands for the job's name."""

LOST = CauseText(
    "Kafka had removed records before they were landed, and the stream had read them: {spans}. The batch has never "
    "seen these events, and which rows they belong to is not known.",
    "None: the row is neither proven equal nor explained.",
    "Where the removed events belong to this row, the stream's row has them and the batch's row lacks them.",
    "Land topics before their retention removes records. A stream that begins where bronze begins is comparable again.",
    ("twinrun stream {job} --new-checkpoint --from earliest",),
)
"""Evidence that is gone since bronze never got the events; ``{spans}`` names them."""
