"""Sessions over clicks of which each id counts once."""

from __future__ import annotations

from dataclasses import replace

from sessions_by_amount import CLICKS
from sessions_by_amount import JOB as BY_AMOUNT

JOB = replace(BY_AMOUNT, name="session_once", sources=[replace(CLICKS, distinct=["id"])])
