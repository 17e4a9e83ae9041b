"""What a lint found."""

from __future__ import annotations

from dataclasses import dataclass

from twinrun.lint.rule import Rule, Severity


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
