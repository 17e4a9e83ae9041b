"""Which alerts there should have been: `error_alerts` with each window once, when it is over."""

from __future__ import annotations

from dataclasses import replace

from error_alerts import JOB as AT_ONCE

JOB = replace(AT_ONCE, name="error_alerts_audit", emit="final")
