"""Kill a stream under load with kill -9, start it again at once, and tell how long until its results are fresh again.

The stream runs as a process with a session of its own, as a user's does, since a killed JVM takes its session along.
What it had planned and not committed when it was killed is read from its checkpoint: so much is worked a second time.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

from twinrun.config.model import Config
from twinrun.explain.verify import verify
from twinrun.measure.arms import Arm
from twinrun.measure.bench import ArmTables, Bench, run_of
from twinrun.measure.child import START_S, Child, as_child, child_of, wait_for
from twinrun.measure.freshness import fresh_again
from twinrun.measure.results import Recovery
from twinrun.results.records import Say
from twinrun.results.state import stream_state
from twinrun.results.verdict import Verdict
from twinrun.tables.checkpoint import Offsets, next_offsets, open_micro_batch


def recover(bench: Bench, arm: Arm, say: Say) -> Recovery:
    """Run a stream under the load, kill it halfway, start it again, and verify what it has written.

    Raises
    ------
    MachineError
        The stream did not start, or ended by itself.
    """
    of_arm = bench.tables_of(f"killed-{arm.name.replace(' ', '-')}")
    cfg = of_arm.cfg("processing-time", arm.every_ms)
    primed, length_s = len(bench.primer), bench.dues[-1].due_s
    say(f"{arm.name}: under load, to be killed")
    with _stream(of_arm, cfg) as first:
        wait_for(bench.stop, first, lambda: _begun(of_arm) and _read(of_arm) >= primed, START_S, "did not begin")
        load, start_s = of_arm.load()
        try:
            wait_for(
                bench.stop, first, lambda: time.time() >= start_s + length_s / 2, length_s + 60, "waited for nothing"
            )
            killed_s = time.time()
            first.kill()
            twice = _planned(of_arm)
            with _stream(of_arm, cfg) as second:
                wanted = primed + len(bench.dues)
                most_s = length_s + bench.settle_s + START_S
                wait_for(
                    bench.stop, second, lambda: load.over and _read(of_arm) >= wanted, most_s, "did not read to the end"
                )
                _wait_until_quiet(bench, second, of_arm, arm)
                second.end()
            load.result()
        finally:
            load.stop()
    say(f"{arm.name}: verifying what it wrote before and after the kill")
    of_arm.ingest()
    of_arm.batch()
    verdict = verify(bench.spark, of_arm.cfg(), bench.job)
    return _told(of_arm, arm, verdict, start_s, killed_s, length_s, twice)


def _told(
    of_arm: ArmTables, arm: Arm, verdict: Verdict, start_s: float, killed_s: float, length_s: float, twice: int
) -> Recovery:
    bench = of_arm.bench
    told = Recovery(arm, verdict.outcome, verdict.exit_code, verdict.problems, killed_s - start_s)
    if not told.agreed:
        return told
    before_ms = int((start_s + length_s / 4) * 1000), int(killed_s * 1000)
    again = fresh_again(bench.spark, of_arm.cfg(), bench.job, of_arm.cut(), of_arm.batch_state(), before_ms)
    return replace(
        told,
        running_s=again.first_commit_s,
        fresh_again_s=again.fresh_s,
        before_s=again.before_s,
        worked_twice=twice,
    )


def _checkpoint(of_arm: ArmTables) -> str | None:
    state = stream_state(of_arm.bench.spark, of_arm.cfg(), of_arm.bench.job.job_name)
    return None if state is None else state.checkpoint


def _begun(of_arm: ArmTables) -> bool:
    """Whether the query runs: from then on its state has its id."""
    state = stream_state(of_arm.bench.spark, of_arm.cfg(), of_arm.bench.job.job_name)
    return state is not None and state.query_id is not None


def _ends(of_arm: ArmTables) -> dict[str, Offsets]:
    checkpoint = _checkpoint(of_arm)
    return {} if checkpoint is None else next_offsets(of_arm.bench.spark, checkpoint)


def _read(of_arm: ArmTables) -> int:
    """Records below what was committed; 0 before the first micro-batch is. The arm's topic begins at 0."""
    with suppress(Exception):  # the stream writes these files meanwhile
        return sum(sum(ends.values()) for ends in _ends(of_arm).values())
    return 0


def _planned(of_arm: ArmTables) -> int:
    checkpoint = _checkpoint(of_arm)
    if checkpoint is None:
        return 0
    starts, ends = open_micro_batch(of_arm.bench.spark, checkpoint)
    return sum(
        max(0, end - starts.get(topic, {}).get(partition, 0))
        for topic, partitions in ends.items()
        for partition, end in partitions.items()
    )


def _stream(of_arm: ArmTables, cfg: Config) -> AbstractContextManager[Child]:
    bench = of_arm.bench
    told, log = [bench.name, str(len(bench.dues))], of_arm.folder / "stream.log"
    # The master of this session, whoever named it; but not its JVM.
    return child_of("twinrun.measure.recovery", told, cfg, str(bench.spark.sparkContext.master), log)


def _wait_until_quiet(bench: Bench, stream: Child, of_arm: ArmTables, arm: Arm) -> None:
    """Until a few intervals have passed without a micro-batch: windows that closed last come in one of their own."""
    seen, since = -1, time.monotonic()

    def quiet() -> bool:
        nonlocal seen, since
        checkpoint = Path(_checkpoint(of_arm) or "")
        now = max(
            (int(each.name) for each in (checkpoint / "commits").glob("[0-9]*") if each.name.isdigit()), default=-1
        )
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > 3 * arm.every_ms / 1000 + 4.0

    wait_for(bench.stop, stream, quiet, bench.settle_s + START_S, "was not done")


def main(argv: list[str]) -> int:
    """The process of a stream: its configuration on standard input; the job and how many records come as arguments."""
    name, events = argv
    with as_child(name, int(events)) as (spark, cfg, job, stop):
        done = run_of("streaming.runner")(spark, cfg, job, None, stop)
        print(json.dumps({"events": done.events, "micro_batches": done.micro_batches}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
