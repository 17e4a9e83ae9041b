"""One rule of the lint: what it finds, why that matters, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["refused", "fails", "differs", "note"]
"""``refused``: one mode does not run it. ``fails``: a valid event can stop both. ``differs``: results can differ.
``note``: known and taken care of, or far from usual values."""

Shown = Literal["spark", "run", "plan"]
"""How a rule is known to be true: Spark's own refusal, a run in both modes, or only the plan."""


@dataclass(frozen=True)
class Rule:
    """A rule of the registry.

    Attributes
    ----------
    id : str
        ``TR1..``: refused in one mode. ``TR2..``: can differ. ``TR3..``: can fail.
    title : str
        What was found, in a few words.
    severity : {"refused", "fails", "differs", "note"}
        Of most of its findings; a finding may be milder, for instance where the column has a tolerance.
    why : str
        What happens in each mode, in one sentence.
    instead : str
        What to write.
    shown : {"spark", "run", "plan"}
        How a test shows it.
    first_run : bool
        A note that is told before a first run all the same, since it moves what is late.
    """

    id: str
    title: str
    severity: Severity
    why: str
    instead: str
    shown: Shown
    first_run: bool = False
