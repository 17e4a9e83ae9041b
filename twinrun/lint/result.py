"""What lint found: a rule, where it applies, what it says and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# One rule of the lint: what it finds, why that matters, and what to write instead.


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


# What a lint found.


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found.

    Attributes
    ----------
    line : int
        Line of the job file, from 1; that of the function where no better one is known.
    detail : str
        What exactly: a column, an operation, a sentence of Spark. May be empty.
    severity : {"refused", "fails", "differs", "note"}
        That of the rule, or milder.
    """

    rule: Rule
    line: int
    detail: str
    severity: Severity


@dataclass(frozen=True)
class LintResult:
    """All findings of one job, by line and rule.

    Attributes
    ----------
    file : str
        The job file's path; empty where the function has none.
    not_looked_at : tuple of str
        Sentences on what could not be looked at.
    """

    job: str
    file: str
    findings: tuple[Finding, ...]
    not_looked_at: tuple[str, ...] = ()

    def count(self, severity: Severity) -> int:
        """How many findings have this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def exit_code(self, *, strict: bool = False) -> int:
        """1 when something is refused, or when ``strict`` and something can fail or differ; else 0."""
        return int(self.count("refused") > 0 or (strict and self.count("fails") + self.count("differs") > 0))
