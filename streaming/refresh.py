"""When a running stream must pause: somebody asked for it, or a pinned static table has a newer version."""

from __future__ import annotations

import threading
import time

from pyspark.sql import SparkSession

from twinrun.config.model import Config
from twinrun.job.job import Job
from twinrun.tables.delta import latest_version
from twinrun.tables.static import Pins, static_ref


class Pause(threading.Event):
    """Set by a request, or by itself when a table with ``refresh`` is due and has a newer version.

    Looks at a table's newest version once per its refresh interval, one small Spark job each.
    """

    def __init__(self, spark: SparkSession, cfg: Config, job: Job, pins: Pins, request: threading.Event) -> None:
        super().__init__()
        now = time.monotonic()
        every = {table.name: table.refresh_ms / 1000 for table in job.tables if table.refresh_ms is not None}
        self._due_s = {name: now + seconds for name, seconds in every.items()}
        self._spark, self._cfg, self._pins, self._request, self._every_s = spark, cfg, pins, request, every
        self.newer: str | None = None

    def is_set(self) -> bool:
        """Whether the stream must pause now; `newer` then names the table, or is None after a request."""
        if self._request.is_set():
            return True
        for name, due_s in self._due_s.items():
            if self.newer is None and time.monotonic() >= due_s:
                self._due_s[name] = time.monotonic() + self._every_s[name]
                if latest_version(self._spark, static_ref(self._cfg, name)) != self._pins[name]:
                    self.newer = name
        return self.newer is not None
