"""A project that ``twinrun init --from`` made is run as its README says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from twinrun.broker.files import free_ports


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_project_from_the_gallery_runs_end_to_end(tmp_path: Path) -> None:
    # Its job imports another job, which imports the source: all of them came along.
    folder, name = tmp_path / "mine", "page_visits_final"
    program = Path(sys.executable).with_name("twinrun")
    environment = {**os.environ, "TWINRUN__KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_ports(1)[0]}"}
    subprocess.run([program, "init", folder, "--from", name], cwd=tmp_path, env=environment, check=True)

    made = subprocess.run(
        ["make", "run", f"TWINRUN={program}"], cwd=folder, env=environment, capture_output=True, text=True
    )

    assert made.returncode == 0, made.stdout + made.stderr
    verdict = json.loads((folder / ".data/reports" / name / "report.json").read_text(encoding="utf-8"))
    assert verdict["outcome"] == "explained"
    assert verdict["rows_unexplained"] == 0
    assert verdict["rows_compared"] > 20
    # What the log's second quarter is about.
    assert "late_dropped" in {each["cause"] for each in verdict["causes"]}
    status = subprocess.run([program, "broker", "status"], cwd=folder, env=environment, capture_output=True)
    assert status.returncode == 1, "the Makefile stops the broker that it started"
