"""What the tests of bridges from a queue into a topic share: messages, records, and the job that counts them."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.stores.command import make_project, twinrun
from twinrun.broker.process import BrokerInfo
from twinrun.broker.records import stored_records
from twinrun.broker.topics import offset_ranges

MESSAGES = 900
_T0_MS = 1_704_067_200_000


def lines(first: int = 0, end: int = MESSAGES) -> str:
    """Every second one message, with an id of its own."""
    each = (json.dumps({"id": f"m{n}", "at": _T0_MS + 1_000 * n, "points": n % 7}) for n in range(first, end))
    return "\n".join(each)


def started(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)


def bodies(broker: BrokerInfo, topic: str) -> list[bytes]:
    """The values of a topic whose records are all in one partition, in their order."""
    found = list(stored_records(broker.bootstrap_servers, topic, offset_ranges(broker.bootstrap_servers, topic, {})))
    assert len({each.partition for each in found}) == 1
    return [each.value or b"" for each in sorted(found, key=lambda r: r.offset)]


def records(broker: BrokerInfo, topic: str) -> list[dict[str, Any]]:
    return [json.loads(each) for each in bodies(broker, topic)]


def wait_for(broker: BrokerInfo, topic: str, least: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while sum(high for _, high in offset_ranges(broker.bootstrap_servers, topic, {}).values()) < least:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.02)


def counted_per_minute(folder: Path, broker: BrokerInfo, topic: str, *, drop_copies: bool = True) -> list[int]:
    """Messages of each minute, as both modes of a job that drops copies by their id agree, or of one that does not."""
    folder.mkdir(exist_ok=True)
    make_project(folder, broker, "messages_per_minute", "messages", topic)
    if not drop_copies:
        job = folder / "job.py"
        text = job.read_text(encoding="utf-8")
        assert text.count('    distinct=["message_id"],\n') == 1
        job.write_text(text.replace('    distinct=["message_id"],\n', ""), encoding="utf-8")
    code, said = twinrun("run", "messages_per_minute", folder=folder)
    assert code == 0, said
    assert "messages_per_minute: AGREE" in said
    code, said = twinrun("show", "messages_per_minute", "--limit", "100", "--json", folder=folder)
    assert code == 0, said
    return [row["messages"] for row in json.loads(said[said.index("{") :])["rows"]]
