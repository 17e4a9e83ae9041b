"""Decoders by name: a decoder turns the value of a record into the fields of a source."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from twinrun.errors import JobError

Decoder = Callable[[DataFrame, StructType], DataFrame]
"""From rows with a BINARY ``value`` and the wire schema, to the same rows with three columns more.

``_fields``: struct of the wire schema, null where the record cannot be read. Times (TIMESTAMP, TIMESTAMP_NTZ, DATE) may
stand in it as STRING: ISO 8601, or the digits of a number of milliseconds; digits that the record has as a text keep
their quotes. TINYINT and DECIMAL are asked for wider than declared, so that what does not fit can be told.
``_format_rule``: null for a readable record, else the id of the quarantine rule. ``_format_reason``: one sentence,
null where the rule is. A decoder is lazy, keeps every row exactly once, changes no value in silence and never fails on
a record.
"""

_DECODERS: dict[str, Decoder] = {}


def register_decoder(name: str, decoder: Decoder) -> None:
    """Make a format known by name; a second registration replaces the first."""
    _DECODERS[name] = decoder


def find_decoder(name: str) -> Decoder:
    """Return the decoder of a format.

    Raises
    ------
    JobError
        No decoder has this name; the message lists those that exist.
    """
    if name not in _DECODERS:
        raise JobError(
            f"no decoder is registered for format {name!r}",
            expected="one of " + ", ".join(sorted(_DECODERS)),
            fix="change Source(format=...), or call twinrun.events.registry.register_decoder in the job file",
        )
    return _DECODERS[name]
