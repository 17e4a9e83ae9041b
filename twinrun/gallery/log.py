"""Events as a log with four chapters: one as it should be, and one for each thing that goes wrong with events.

The chapters are quarters of the log's time. In the first all events come within the usual delay; in the second some
come far too late, as from a phone that was offline; in the third some are sent twice, as by a client that did not
see the answer; in the fourth some are broken. So what each does to a result can be looked at alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from twinrun.gallery.draws import Draws, Whole
from twinrun.produce.records import Record

NORMAL, LATE, COPIES, BROKEN = CHAPTERS = ("normal", "late", "copies", "broken")
SHARE = 0.08
"""Of the events of a chapter, how many have what the chapter is about."""
RULES = ("not_json", "missing_field", "wrong_type", "wrong_time_unit")
"""What broken records break, each as often as the others: names of quarantine's rules."""
_AGAIN_MS = (200, 4_000)
_CHUNK_ROWS = 20_000


def log_of(
    events: pd.DataFrame, draws: Draws, *, key: str, identity: str, time: str, delay_ms: Whole, late_ms: Whole
) -> pd.DataFrame:
    """The records of a topic in the order in which they become known.

    Parameters
    ----------
    events : DataFrame
        One row per event, its columns the fields of the record, in order of ``time``. One that begins with ``_`` is
        no field.
    draws : Draws
        As many as there are events.
    key, identity, time : str
        Columns: the record's key; what names an event; when it happened, UTC epoch milliseconds.
    delay_ms : array
        From when an event happens until it is known, each.
    late_ms : array
        The same for an event of the second chapter that comes too late; 0: this one is never late.

    Returns
    -------
    DataFrame
        ``key``, ``value`` (text), ``known_ms``, ``event_ms``, ``chapter``, and ``planted``: ``late``, ``copies``, a
        name of `RULES`, or ``normal``; sorted by ``known_ms``. A little more rows than events: the copies.
    """
    event_ms = events[time].to_numpy()
    chapter = _chapters(event_ms)
    hit = draws.unit("planted") < SHARE
    late = hit & (chapter == LATE) & (late_ms > 0)
    broken = hit & (chapter == BROKEN)
    planted = np.where(late, LATE, np.where(broken, draws.chosen("broken", RULES), NORMAL))
    fields = [name for name in events.columns if not name.startswith("_")]
    lines = events[fields].to_json(orient="records", lines=True).splitlines()
    log = pd.DataFrame(
        {
            "key": events[key].astype(str),
            "value": _with_faults(pd.Series(lines, index=events.index), planted, identity, time),
            "known_ms": event_ms + np.where(late, late_ms, delay_ms),
            "event_ms": event_ms,
            "chapter": chapter,
            "planted": planted,
        }
    )
    again = log[hit & (chapter == COPIES)].assign(planted=COPIES)
    again["known_ms"] += draws.whole("again", *_AGAIN_MS)[again.index]
    whole: pd.DataFrame = pd.concat([log, again]).sort_values("known_ms", kind="stable", ignore_index=True)
    return whole


def log_records(log: pd.DataFrame) -> Iterator[Record]:
    """A log as records, in its order: ``known_ms`` is the Kafka timestamp."""
    for start in range(0, len(log), _CHUNK_ROWS):
        chunk = log.iloc[start : start + _CHUNK_ROWS]
        yield from map(
            Record, chunk["key"].str.encode("utf-8"), chunk["value"].str.encode("utf-8"), chunk["known_ms"].tolist()
        )


def _chapters(event_ms: Whole) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    first, last = int(event_ms.min()), int(event_ms.max())
    quarter = (event_ms - first) * len(CHAPTERS) // (last - first + 1)
    return np.asarray(CHAPTERS, dtype=object)[quarter]


def _with_faults(lines: pd.Series[str], planted: Whole, identity: str, time: str) -> pd.Series[str]:
    """The texts with those broken that are planned to be."""
    patterns = {
        "missing_field": (rf'"{identity}":("[^"]*"|\d+)', f'"{identity}":null'),
        "wrong_type": (rf'"{time}":\d+', f'"{time}":"now"'),
        "wrong_time_unit": (rf'"{time}":(\d+)\d{{3}}\b', rf'"{time}":\1'),
    }
    for rule in RULES:
        those = lines[planted == rule]
        lines.loc[planted == rule] = (
            those.str.replace(*patterns[rule], regex=True) if rule in patterns else those.str[:-7]
        )
    return lines
