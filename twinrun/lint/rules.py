"""The registry of rules, by id."""

from __future__ import annotations

from twinrun.lint.differs_rules import DIFFERS, FAILS
from twinrun.lint.refused_rules import REFUSED
from twinrun.lint.result import Rule

RULES: dict[str, Rule] = {rule.id: rule for rule in (*REFUSED, *DIFFERS, *FAILS)}
