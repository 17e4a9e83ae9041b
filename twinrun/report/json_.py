"""A verdict as JSON for machines: complete, versioned, strict."""

from __future__ import annotations

import json
import math
from typing import Any

from twinrun.results.verdict import Verdict

_MARKUP = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def render_json(verdict: Verdict) -> str:
    r"""Render a verdict as JSON, ``schema_version`` first, then the fields of ``Verdict`` in their order.

    The text is plain ASCII and strict: NaN and the infinities are the texts ``"NaN"``, ``"Infinity"`` and
    ``"-Infinity"``; ``<``, ``>`` and ``&`` are written ``\u003c`` and so on, so that it may stand in a page.
    Nothing is shortened. All instants are UTC milliseconds (names end in ``_ms``). Ends in a line feed.
    """
    text = json.dumps(_strict(verdict.to_dict()), indent=2, allow_nan=False, ensure_ascii=True)
    for char, escape in _MARKUP.items():
        text = text.replace(char, escape)
    return text + "\n"


def _strict(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, dict):
        return {_key(key): _strict(cell) for key, cell in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(cell) for cell in value]
    return str(value)


def _key(key: Any) -> str:
    """A dictionary key as JSON would write it: partitions are numbers in Python and texts in JSON."""
    return key if isinstance(key, str) else json.dumps(_strict(key))


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
