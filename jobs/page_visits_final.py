"""Visits of each page in 15 minutes, every five, once each window is over: the audit of `page_visits`."""

from __future__ import annotations

from dataclasses import replace

from page_visits import JOB as AS_IT_FILLS

JOB = replace(AS_IT_FILLS, name="page_visits_final", emit="final")
