"""What a query left on disk, read as files: which micro-batches are planned, are in the table, are committed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

NONE = -1


@dataclass(frozen=True)
class Facts:
    """The newest micro-batch in each place; -1: none."""

    planned: int
    in_table: int
    committed: int

    @property
    def before_the_sink_write(self) -> bool:
        """A micro-batch is planned, and the table does not have it."""
        return self.planned == self.committed + 1 and self.in_table == self.committed

    @property
    def after_the_version(self) -> bool:
        """The table has a micro-batch that Spark has not committed."""
        return self.planned == self.in_table == self.committed + 1


@dataclass(frozen=True)
class Sink:
    """A query's checkpoint and the Delta table that it writes."""

    checkpoint: Path
    table: Path

    def facts(self) -> Facts:
        return Facts(self.planned(), self.in_table(), self.committed())

    def planned(self) -> int:
        return _newest(self.checkpoint / "offsets")

    def committed(self) -> int:
        return _newest(self.checkpoint / "commits")

    def version(self) -> int:
        """Newest version of the table."""
        return max((int(file.stem) for file in self._log()), default=NONE)

    def in_table(self) -> int:
        """Newest micro-batch in the table: Delta's transaction id in its commits, or what a MERGE's commit says."""
        # From the newest version back: the first one that a micro-batch wrote holds the newest.
        for file in sorted(self._log(), reverse=True):
            actions = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            for action in actions:
                if "txn" in action and action["txn"]["appId"] == self.query_id():
                    return int(action["txn"]["version"])
                said = action.get("commitInfo", {}).get("userMetadata")
                if said and "micro_batch" in json.loads(said):
                    return int(json.loads(said)["micro_batch"])
        return NONE

    def query_id(self) -> str | None:
        file = self.checkpoint / "metadata"
        return str(json.loads(file.read_text(encoding="utf-8"))["id"]) if file.exists() else None

    def _log(self) -> list[Path]:
        return [file for file in (self.table / "_delta_log").glob("*.json") if file.stem.isdigit()]


def _newest(folder: Path) -> int:
    """The highest number among the finished files; temporary ones begin with a dot."""
    if not folder.is_dir():
        return NONE
    return max((int(file.name) for file in folder.iterdir() if file.name.isdigit()), default=NONE)
