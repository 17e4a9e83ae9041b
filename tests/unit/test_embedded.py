"""twinrun used from a program without a main file: a notebook's kernel, ``python -c``, a worker of a test runner."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_loading_great_expectations_does_not_end_the_program_as_a_success() -> None:
    code = "from twinrun.quality.expect import import_quietly; import_quietly(); print('still here')"
    assert run(code).stdout.split() == ["still", "here"]
    # The same without our guard: pyspark ends the process, and its status says that all is well.
    without = run("import great_expectations; print('still here')")
    assert (without.stdout, without.returncode) == ("", 0)


def test_our_silence_keeps_pysparks_own_errors_whole() -> None:
    code = """
from twinrun.job.plan import quiet_spark
with quiet_spark():
    pass
from pyspark.logger import PySparkLogger
PySparkLogger.getLogger("SQLQueryContextLogger").error("said", errorClass="X")
print("logged")
"""
    assert run(code).stdout.split()[-1:] == ["logged"]
