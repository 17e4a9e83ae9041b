"""A static table that a job joins its events to."""

from __future__ import annotations

from dataclasses import dataclass

from twinrun.durations import parse_ms


@dataclass(frozen=True)
class Table:
    """A static table, pinned to one version when a run starts.

    Parameters
    ----------
    name : str
        Name of the table; the job function has a parameter of the same name. ``conf/`` binds it to a path.
    refresh : str, optional
        How long a pinned version may be used before the stream restarts on a newer one. None: until restarted.
    """

    name: str
    refresh: str | None = None

    @property
    def refresh_ms(self) -> int | None:
        """Refresh interval in milliseconds, or None."""
        return None if self.refresh is None else parse_ms(self.refresh)
