"""Times as records write them: one grammar of texts, one unit of numbers, no clock and no session's zone.

The grammar is in docs/decoding.md. A text without a zone is UTC; every text is brought to a form that names its
zone before Spark reads it, so that ``spark.sql.session.timeZone`` changes nothing. A number is milliseconds since
1970 in UTC. Nothing outside the years 1 to 9999 is a time.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, TimestampNTZType, TimestampType

_DAY = r"\d{4}-\d{2}-\d{2}"
_OFFSET = r"[+-]\d{2}(?::?\d{2}(?::?\d{2})?)?"
# What nearly every record writes is read as it stands; the other forms of the grammar are rewritten first.
_USUAL = rf"^{_DAY}[T ]\d{{2}}:\d{{2}}:\d{{2}}(?:\.\d{{1,6}})?(?:Z|{_OFFSET})\z"
_CLOCK = r"[Tt ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
_GRAMMAR = rf"^{_DAY}{_CLOCK}(?:(?:[Zz]|{_OFFSET})(?:\[[A-Za-z0-9_+/-]+\])?)?\z"
_USUAL_LOCAL = rf"^{_DAY}[T ]\d{{2}}:\d{{2}}:\d{{2}}(?:\.\d{{1,6}})?\z"
_INNER_DAYS = r"(?!0000-|0001-01-01|9999-12-31)"
_GRAMMAR_LOCAL = rf"^{_DAY}{_CLOCK}\z"
_NUMBER = r"^-?\d+\z"
_MORE_THAN_MICROSECONDS = r"[.,]\d{6}\d*[1-9]"

FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999
_FIRST_US, _LAST_US = FIRST_MS * 1000, LAST_MS * 1000 + 999
_DAY_S = 86_400

# Tried in this order; the first that matches says what was read.
_OTHER_FORMS = (
    (_NUMBER, "a number where ISO 8601 text is written"),
    (r'^"-?\d+"\z', "digits in quotes"),
    (rf"^{_DAY}\z", "a day without a time of day"),
    (r"^\d{1,2}:\d{2}", "a time of day without a day"),
    (r"^\d{8}[Tt ]", "the basic format, without separators"),
    (r"^\d{4}-?[Ww]\d{2}", "a week date"),
    (r"^\d{4}-?\d{3}(?:[Tt ]|\z)", "an ordinal date"),
    (r"^[+-]\d", "a year with a sign"),
    (rf"^{_DAY}[Tt ]24:", "hour 24; midnight is hour 00 of the next day"),
    (rf"^{_DAY}[Tt ]\d{{2}}:\d{{2}}:60(?!\d)", "a leap second, which a timestamp does not have"),
    (rf"^{_DAY}[Tt ]\d{{2}}:\d{{2}}[.,]\d", "a fraction of a minute"),
    (rf"^{_DAY}[Tt ]\d{{2}}(?:[Zz+-]|\z)", "an hour without minutes"),
    (rf"^{_DAY}{_CLOCK} [+-]?\w", "a space before the zone"),
)


def in_calendar(epoch_ms: Column) -> Column:
    """Whether an epoch in milliseconds lies in the years 1 to 9999; outside, timestamp_millis may fail the query."""
    return epoch_ms.between(F.lit(FIRST_MS), F.lit(LAST_MS))


def of_millis(epoch_ms: Column) -> Column:
    """A number of milliseconds as timestamp, null outside the years 1 to 9999."""
    return F.when(in_calendar(epoch_ms), F.timestamp_millis(epoch_ms))


def iso8601_instant(text: Column) -> Column:
    """A full ISO 8601 date and time as timestamp (no zone: UTC); null for anything else or outside years 1 to 9999.

    Digits beyond microseconds are cut off.
    """
    # The first and the last day may lie outside with their offset; any other is read without a second thought.
    usual = F.when(text.rlike(rf"^{_INNER_DAYS}{_USUAL[1:]}"), text.try_cast(TimestampType()))
    other = F.transform(F.array(_unbounded(text)), _bounded)
    return usual.otherwise(F.get(other, F.lit(0)))


def iso8601_local(text: Column) -> Column:
    """A full ISO 8601 date and time without a zone as TIMESTAMP_NTZ, null for anything else, as for an instant."""
    return F.when(~text.startswith("0000"), _unbounded_local(text))


def iso8601_day(text: Column) -> Column:
    """``yyyy-MM-dd`` as DATE, null for anything else and for the year 0."""
    return F.when(text.rlike(rf"^(?!0000){_DAY}\z"), text.try_cast(DateType()))


def local_of_millis(epoch_ms: Column) -> Column:
    """A number of milliseconds as TIMESTAMP_NTZ in UTC, whatever the session's zone; null outside the years."""
    day = F.date_format(F.date_from_unix_date(F.floor(epoch_ms / 86_400_000.0).try_cast("int")), "yyyy-MM-dd")
    # A text in between: a cast from timestamp to timestamp_ntz would go by the session's zone.
    of_day = F.pmod(epoch_ms, F.lit(86_400_000))
    part = F.format_string(
        "%02d:%02d:%02d.%03d",
        F.floor(of_day / 3_600_000.0),
        F.floor(of_day / 60_000.0) % 60,
        F.floor(of_day / 1000.0) % 60,
        of_day % 1000,
    )
    return F.when(in_calendar(epoch_ms), F.concat_ws(" ", day, part).try_cast(TimestampNTZType()))


def finer_than_microseconds(text: Column) -> Column:
    """Whether a text has digits other than 0 beyond microseconds."""
    return text.rlike(_MORE_THAN_MICROSECONDS)


def outside_the_years(text: Column, kind: Column, kinds: Collection[str]) -> Column:
    """Of a text that is no time of a kind: whether it is one outside the years 1 to 9999; never null.

    Kinds: ``number`` (of milliseconds), ``timestamp``, ``either`` (a timestamp or a number), ``timestamp_ntz``,
    ``date``; only ``kinds`` occur.
    """
    day = text.startswith("0000") & text.rlike(rf"^{_DAY}\z") & text.try_cast(DateType()).isNotNull()
    instant = _unbounded(text).isNotNull() | ((kind == "either") & text.rlike(_NUMBER))
    known = {"date": day, "timestamp_ntz": _unbounded_local(text).isNotNull(), "number": F.lit(True)}
    outside = F.when(F.lit(False), F.lit(False))
    for name in sorted(known.keys() & kinds):
        outside = outside.when(kind == name, known[name])
    return F.coalesce(outside.otherwise(instant) if {"timestamp", "either"} & set(kinds) else outside, F.lit(False))


def why_no_time(text: Column, kind: Column) -> Column:
    """Of a text that is no time of a kind, in words: why not. For refused records only: dear to compute."""
    is_date, is_local = kind == "date", kind == "timestamp_ntz"
    forms = F.from_json(F.lit(json.dumps(_OTHER_FORMS)), "array<array<string>>")
    matching = F.filter(forms, lambda form: F.regexp_like(text, F.get(form, F.lit(0))))
    zoned = is_local & text.rlike(_GRAMMAR) & ~text.rlike(_GRAMMAR_LOCAL)
    return (
        F.when(is_date & text.rlike(rf"^{_DAY}\z"), F.lit("there is no such day"))
        .when(is_date, F.lit("expected yyyy-MM-dd"))
        .when(F.size(matching) > 0, F.get(F.get(matching, F.lit(0)), F.lit(1)))
        .when(zoned, F.lit("a zone, which a TIMESTAMP_NTZ does not keep"))
        .when(text.rlike(_GRAMMAR), F.lit("there is no such day, time or offset"))
        .otherwise(F.lit("expected yyyy-MM-ddTHH:mm:ss, a fraction and an offset or Z"))
    )


def utc_day(instant: Column) -> Column:
    """The day of a timestamp in UTC, whatever the session's zone."""
    return F.date_from_unix_date(F.floor(F.unix_seconds(instant) / _DAY_S).cast("int"))


def near_by_another_unit(number: Column, kafka_ms: Column, near_ms: int) -> Column:
    """Whether a number is far from the record's Kafka timestamp as milliseconds, and near it in another unit."""
    value, known = number.cast("double"), kafka_ms.cast("double")
    scaled = [value * 1000.0, value / 1000.0, value / 1_000_000.0]
    near = reduce(lambda a, b: a | b, (F.abs(candidate - known) <= near_ms for candidate in scaled))
    return (F.abs(value - known) > near_ms) & near


def _unbounded(text: Column) -> Column:
    with_zone = F.regexp_replace(_rewritten(text), r"^(.{19}[.\d]*)\z", "$1Z")
    # Not by name: "timestamp" may mean TIMESTAMP_NTZ in a session.
    return F.when(text.rlike(_GRAMMAR), with_zone.try_cast(TimestampType()))


def _unbounded_local(text: Column) -> Column:
    local = TimestampNTZType()
    usual = F.when(text.rlike(_USUAL_LOCAL), text.try_cast(local))
    return usual.when(text.rlike(_GRAMMAR_LOCAL), _rewritten(text).try_cast(local))


def _bounded(instant: Column) -> Column:
    return F.when(F.unix_micros(instant).between(F.lit(_FIRST_US), F.lit(_LAST_US)), instant)


def _rewritten(text: Column) -> Column:
    """Upper-case letters, a point, seconds, at most six digits behind it, and no zone's name in brackets."""
    plain = F.regexp_replace(text, r"\[[^\[\]]*\]\z", "")
    plain = F.translate(plain, "tz,", "TZ.")
    plain = F.regexp_replace(plain, r"^(.{16})(?!:)", "$1:00")
    return F.regexp_replace(plain, r"(\.\d{6})\d+", "$1")
