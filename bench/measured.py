"""Measure a job with twinrun measure, and keep what was found and how far its model is off in bench/results."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.machine import commit, machine
from twinrun.measure.advise import WITHIN
from twinrun.measure.model import held_out
from twinrun.measure.results import from_dict

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--job", default="departures_per_hour")
    parser.add_argument("--quick", action="store_true", help="twinrun measure --quick")
    parser.add_argument("--kept", type=Path, help="a measure.json of an earlier run, in place of a new one")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    if asked.kept is None:
        command = [str(Path(sys.executable).parent / "twinrun"), "measure", asked.job, "--json"]
        done = subprocess.run([*command, *(["--quick"] if asked.quick else [])], cwd=ROOT, stdout=subprocess.PIPE)
        if done.returncode:
            return done.returncode
        document = json.loads(done.stdout)
        document.pop("report")
    else:
        document = json.loads(asked.kept.read_text(encoding="utf-8"))
    measured = from_dict(document)
    found = [{**vars(each), "error": each.error, "within": each.error <= WITHIN} for each in held_out(measured)]
    about = {"commit": measured.commit or commit(), "machine": machine(), "settings": measured.settings}
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("measure", document), ("advisor", {**about, "within": WITHIN, "held_out": found})):
        (asked.out / f"{name}.json").write_text(json.dumps(part, indent=1) + "\n", encoding="utf-8")
    for each in found:
        print(f"{each['arm']:<18} {each['figure']:<28} {each['predicted']:>12,.2f} {each['measured']:>12,.2f} "
              f"{each['error']:>6.0%}{'' if each['within'] else '  beyond 20 %'}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
