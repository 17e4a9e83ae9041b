"""``twinrun schedule --emit``: the files of other schedulers, read by those schedulers' own readers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from croniter import croniter

from tests.unit.cli.test_cli_schedule import planned_in
from twinrun.config.cron import read_cron

JOBS = {"first_job": "*/15 6-20 * * mon-fri", "later_one": "5 0 1,15 * *", "sundays": "0 9 * * 7"}
AIRFLOW = ("apache-airflow==3.3.2", "apache-airflow-providers-apache-spark==6.3.4")
KUBERNETES = ("kubernetes-validate==1.37.0",)


@pytest.fixture
def emit(run: Any, spark: Any, project: Path) -> Any:
    """Write the files of one scheduler for three jobs; returns the folder."""
    planned_in(project, **{name: {"schedule": cron} for name, cron in JOBS.items()}, unplanned={})

    def files(kind: str, *more: str) -> Path:
        folder = project / f"out of {kind}"
        done = run("schedule", "--emit", kind, "--out", str(folder), "--json", *more)
        assert (done.code, done.err, spark.started) == (0, "", [])
        said = json.loads(done.out)
        assert sorted(said["files"]) == sorted(path.name for path in folder.iterdir())
        assert said["old_files"] == []
        return folder

    return files


def same_instants(one: str, other: str) -> bool:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    both = [croniter(text, start) for text in (one, other)]
    return all(both[0].get_next(datetime) == both[1].get_next(datetime) for _ in range(50))


def test_the_crontab_has_a_line_per_job_that_cron_reads_as_it_was_meant(emit: Any) -> None:
    folder = emit("cron")

    text = (folder / "crontab").read_text(encoding="utf-8")
    assert "CRON_TZ=UTC\n" in text
    lines = [line for line in text.splitlines() if re.match(r"[\d*]", line)]
    assert len(lines) == len(JOBS)
    for line, (job, cron) in zip(lines, JOBS.items(), strict=True):
        assert same_instants(" ".join(line.split()[:5]), cron)
        shell, script = shlex.split(line)[5:]
        assert (shell, script) == ("/bin/sh", str(folder / f"twinrun-{job}.sh"))
    assert text.endswith("\n")


def stand_in(folder: Path, text: str) -> dict[str, str]:
    """An environment in which ``twinrun`` and ``sleep`` are a script."""
    folder.mkdir()
    for name in ("twinrun", "sleep"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{folder}/calls"\n{text}', encoding="utf-8")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("twinrun_does", "code", "called"),
    [
        ("exit 0", 0, ["twinrun ingest", "twinrun batch"]),
        ('[ "$1" = batch ] && exit 2\nexit 0', 2, ["twinrun ingest", "twinrun batch", "sleep 7"] * 2),
        ('[ "$1" = ingest ] && exit 2\nexit 0', 2, ["twinrun ingest", "sleep 7"] * 2),
    ],
)
def test_the_script_of_a_run_ingests_then_batches_and_tries_again(
    emit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, twinrun_does: str, code: int, called: list[str]
) -> None:
    environment = stand_in(tmp_path / "bin", twinrun_does + "\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    folder = emit("cron", "--retries", "1", "--retry-wait", "7", "--set", "stream.interval_ms=5")

    done = subprocess.run(["/bin/sh", str(folder / "twinrun-first_job.sh")], env=environment, capture_output=True)

    assert done.returncode == code
    calls = (tmp_path / "bin/calls").read_text(encoding="utf-8").splitlines()
    assert [" ".join(line.split()[:2]) for line in calls] == (called if code == 0 else called[:-1])
    assert all("first_job --conf " in line and "local.yaml --set stream.interval_ms=5" in line for line in calls[:1])
    assert (b"given up after 2 attempts" in done.stderr) == (code == 2)


def test_a_firing_that_meets_a_running_one_is_left_out_and_says_so(
    emit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = stand_in(tmp_path / "bin", 'while [ ! -e "$0.go" ]; do /bin/sleep 0.05; done\n')
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    script = ["/bin/sh", str(emit("cron") / "twinrun-first_job.sh")]
    first = subprocess.Popen(script, env=environment)
    try:
        while not (tmp_path / "bin/calls").exists():
            assert first.poll() is None
        second = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=30)
    finally:
        (tmp_path / "bin/twinrun.go").touch()
        first.wait(timeout=30)

    assert (second.returncode, first.returncode) == (0, 0)
    assert "first_job: a firing was left out" in second.stdout
    assert len((tmp_path / "bin/calls").read_text(encoding="utf-8").splitlines()) == 2


def test_systemd_gets_a_service_and_a_timer_per_job(emit: Any) -> None:
    folder = emit("systemd")

    for job, cron in JOBS.items():
        timer = (folder / f"twinrun-{job}.timer").read_text(encoding="utf-8")
        service = (folder / f"twinrun-{job}.service").read_text(encoding="utf-8")
        assert f"OnCalendar={read_cron(cron).calendar}\n" in timer
        assert "Persistent=true\n" in timer
        assert f'ExecStart=/bin/sh "{folder}/twinrun-{job}.sh"\n' in service


@pytest.mark.slow
def test_systemd_finds_no_fault_in_its_units(emit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        with capsys.disabled():
            print("\nsystemd-analyze is not on this machine: the units were held against texts only")
        return
    folder = emit("systemd")
    units = [str(path) for path in folder.iterdir() if path.suffix in (".service", ".timer")]

    done = subprocess.run([program, "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

    timer = folder / "twinrun-first_job.timer"
    timer.write_text(timer.read_text(encoding="utf-8").replace("OnCalendar=", "OnCalender="), encoding="utf-8")
    assert "OnCalender" in subprocess.run([program, "verify", str(timer)], capture_output=True, text=True).stderr


def test_the_dag_is_python_and_holds_no_job_without_a_schedule(emit: Any) -> None:
    text = (emit("airflow") / "twinrun_dag.py").read_text(encoding="utf-8")

    compile(text, "twinrun_dag.py", "exec")
    assert "unplanned" not in text
    for job, cron in JOBS.items():
        assert f"    {job!r}: {read_cron(cron).plain!r},\n" in text
    assert "'spark.master=null'" in text


def installed(folder: Path, packages: tuple[str, ...]) -> Path:
    """An environment of its own with these packages; its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-compile", *packages], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return python


LOAD = """
import json, sys
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models import DagBag
bag = DagBag(sys.argv[1])
tasks = lambda dag: {
    t.task_id: [type(t).__name__, t.application, t.application_args, t.retries, sorted(t.downstream_task_ids)]
    for t in dag.tasks
}
told = lambda dag: {"cron": dag.timetable.expression, "catchup": dag.catchup, "max": dag.max_active_runs}
dags = {dag.dag_id: {**told(dag), "tasks": tasks(dag)} for dag in bag.dags.values()}
print(json.dumps({"errors": {name: str(error) for name, error in bag.import_errors.items()}, "dags": dags}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_airflow_loads_the_dag(emit: Any, tmp_path: Path) -> None:
    folder = emit("airflow")
    python = installed(tmp_path / "airflow", AIRFLOW)
    home = {"AIRFLOW_HOME": str(tmp_path / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}

    def loaded() -> Any:
        done = subprocess.run(
            [python, "-c", LOAD, str(folder)], env={**os.environ, **home}, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])

    found = loaded()
    assert found["errors"] == {}
    assert set(found["dags"]) == {f"twinrun_{job}" for job in JOBS}
    for job, cron in JOBS.items():
        dag = found["dags"][f"twinrun_{job}"]
        assert same_instants(dag["cron"], cron)
        assert (dag["catchup"], dag["max"]) == (False, 1)
        kind, application, arguments, retries, after = dag["tasks"]["ingest"]
        assert (kind, retries, after) == ("SparkSubmitOperator", 2, ["batch"])
        assert Path(application).name == "ingest.py"
        assert arguments[:2] == [job, "--conf"]
        assert Path(arguments[2]).is_file()
        assert dag["tasks"]["batch"][0] == "SparkSubmitOperator"
        assert all(Path(task[1]).is_file() for task in dag["tasks"].values())

    dag_file = folder / "twinrun_dag.py"
    dag_file.write_text(dag_file.read_text(encoding="utf-8").replace("dag_id=", "dagid="), encoding="utf-8")
    assert "dagid" in json.dumps(loaded()["errors"])


def test_kubernetes_gets_a_cron_job_per_job(emit: Any) -> None:
    folder = emit("k8s", "--image", "registry.example/twinrun:1", "--retries", "3")

    for job, cron in JOBS.items():
        made = yaml.safe_load((folder / f"twinrun-{job.replace('_', '-')}.yaml").read_text(encoding="utf-8"))
        spec = made["spec"]
        assert (made["kind"], made["metadata"]["name"]) == ("CronJob", f"twinrun-{job.replace('_', '-')}")
        assert same_instants(spec["schedule"], cron)
        assert "7" not in spec["schedule"].split()[4]
        assert (spec["timeZone"], spec["concurrencyPolicy"]) == ("Etc/UTC", "Forbid")
        pod = spec["jobTemplate"]["spec"]["template"]["spec"]
        assert spec["jobTemplate"]["spec"]["backoffLimit"] == 3
        assert [each["command"] for each in (*pod["initContainers"], *pod["containers"])] == [
            ["twinrun", mode, job, "--conf", "conf/local.yaml"] for mode in ("ingest", "batch")
        ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kubernetes_schema_finds_no_fault_in_its_files(emit: Any, tmp_path: Path) -> None:
    folder = emit("k8s", "--image", "registry.example/twinrun:1")
    program = installed(tmp_path / "kubernetes", KUBERNETES).with_name("kubernetes-validate")
    files = sorted(folder.iterdir())

    done = subprocess.run([program, "--strict", *files], capture_output=True, text=True)
    assert (done.returncode, (done.stdout + done.stderr).count(" passed ")) == (0, len(JOBS)), done

    files[0].write_text(files[0].read_text(encoding="utf-8").replace("timeZone", "timezone"), encoding="utf-8")
    assert subprocess.run([program, "--strict", files[0]], capture_output=True).returncode == 1


def test_files_are_replaced_only_where_this_command_wrote_them(run: Any, project: Path) -> None:
    planned_in(project, first_job={"schedule": "5 * * * *"}, second={"schedule": "6 * * * *"})
    emit = ("schedule", "--emit", "cron", "--out", "out")
    assert run(*emit).code == 0
    planned_in(project, first_job={"schedule": "7 * * * *"})

    again = run(*emit)

    assert again.code == 0
    assert "7 * * * * /bin/sh" in (project / "out/crontab").read_text(encoding="utf-8")
    assert "twinrun-second.sh is of an earlier time" in again.err
    (project / "out/crontab").write_text("mine\n", encoding="utf-8")
    refused = run(*emit)
    assert refused.code == 2
    assert "crontab was not written by this command" in refused.err
    assert (project / "out/crontab").read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize(
    ("kind", "jobs", "more", "says"),
    [
        ("k8s", ("a_b", "a-b"), ("--image", "x"), "the jobs a-b and a_b are both twinrun-a-b in Kubernetes"),
        ("k8s", ("a" * 60,), ("--image", "x"), "at most 52"),
        ("cron", ("a",), ("--image", "x"), "--image says nothing to cron"),
    ],
)
def test_what_another_scheduler_cannot_have_is_refused(
    kind: str, jobs: tuple[str, ...], more: tuple[str, ...], says: str, run: Any, project: Path
) -> None:
    planned_in(project, **{name: {"schedule": "5 * * * *"} for name in jobs})

    done = run("schedule", "--emit", kind, "--out", "out", *more)

    assert done.code == 2
    assert says in done.err
    assert not (project / "out").exists()


def test_with_a_running_ingest_the_files_hold_the_batch_alone(run: Any, project: Path) -> None:
    planned_in(project, first_job={"schedule": "5 * * * *"})
    set_ = ("--set", "stream.trigger=processing-time")

    assert run("schedule", "--emit", "k8s", "--out", "k", "--image", "x", *set_).code == 0
    assert run("schedule", "--emit", "airflow", "--out", "a", *set_).code == 0
    assert run("schedule", "--emit", "cron", "--out", "c", *set_).code == 0

    text = "".join(path.read_text(encoding="utf-8") for path in project.glob("[kac]/*"))
    assert "twinrun ingest" not in text
    assert 'run_of(job, "ingest")' not in text
    assert "initContainers" not in text
