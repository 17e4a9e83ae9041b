"""The structure that README and docs promise: layers, twins, sizes, names, nothing of one machine."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import twinrun

ROOT = Path(__file__).resolve().parents[2]
LAYERS = [
    "errors",
    "durations",
    "tolerance",
    "wording",
    "config",
    "session",
    "broker",
    "events",
    "job",
    "lint",
    "tables",
    "results",
    "comparator",
    "explain",
    "quality",
    "external",
    "history",
    "whatif",
    "heal",
    "maintain",
    "report",
    "produce",
    "scenario",
    "measure",
    "gallery",
    "aggregates",
    "api",
    "cli",
]
SIDEWAYS = {("explain", "quality")}  # verify, the last module of explain, asks quality for the expectations
OURS = ("twinrun", "batch", "streaming", "jobs", "tests")
# In pieces: this file may not hold them either.
_NAMED = [("repo", "maven"), ("repo1", "maven"), ("maven", "org"), ("pypi", "org"), ("registry", "npmjs")]
HOSTS = re.compile("|".join(["python" + "hosted", *(re.escape(".".join(parts)) for parts in _NAMED)]))
MACHINE = re.compile(r"(^|[^A-Za-z0-9_.])/(work|root|farm)/")


def python_files() -> list[Path]:
    files = [path for folder in OURS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 100
    return files


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return named | {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}


def layer_of(module: str) -> str:
    return module.split(".")[1] if module.startswith("twinrun.") else ""


def wrong_imports(path: Path, source: str) -> list[str]:
    own = LAYERS.index(source)
    found = []
    for module in imports_of(path):
        target = layer_of(module)
        if target in LAYERS and LAYERS.index(target) > own and (source, target) not in SIDEWAYS:
            found.append(f"{path.relative_to(ROOT)} imports {module}")
    return found


def test_a_module_imports_only_from_its_own_and_earlier_layers() -> None:
    problems = []
    for path in sorted((ROOT / "twinrun").rglob("*.py")):
        parts = path.relative_to(ROOT / "twinrun").with_suffix("").parts
        if parts[0] in LAYERS:
            problems += wrong_imports(path, parts[0])
    assert problems == []


def test_the_import_check_sees_a_wrong_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    bad = tmp_path / "bad.py"
    bad.write_text("from twinrun.explain.verify import verify\n", encoding="utf-8")
    assert wrong_imports(bad, "events") == ["bad.py imports twinrun.explain.verify"]


def test_every_module_belongs_to_a_layer() -> None:
    found = {path.stem if path.is_file() else path.name for path in (ROOT / "twinrun").iterdir()}
    assert found - {"__init__", "__pycache__"} == set(LAYERS)


def test_the_two_modes_do_not_import_each_other_and_jobs_import_the_public_names_only() -> None:
    forbidden_to = {"batch": "twinrun.streaming", "streaming": "twinrun.batch", "jobs": "twinrun."}
    problems = [
        f"{path.relative_to(ROOT)} imports {module}"
        for folder, forbidden in forbidden_to.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
        for module in imports_of(path)
        if module.startswith(forbidden) and module != "twinrun.aggregates"
    ]
    assert problems == []


def test_the_page_on_the_architecture_lists_every_layer_in_its_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("| room |", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == LAYERS


def public_functions(module_name: str) -> dict[str, list[str]]:
    module = importlib.import_module(module_name)
    return {
        name: [parameter for parameter in inspect.signature(value).parameters if parameter != "work"]
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module_name and not name.startswith("_")
    }


def test_the_two_runners_are_twins() -> None:
    batch, stream = public_functions("twinrun.batch.runner"), public_functions("twinrun.streaming.runner")
    twins = ["run", "read_inputs", "write_results", "main"]
    assert [name for name in batch if name in twins] == twins
    assert [name for name in stream if name in twins] == twins
    assert batch["run"] == stream["run"]
    assert batch["read_inputs"] == stream["read_inputs"]
    assert batch["main"] == stream["main"]


def test_files_and_functions_stay_small() -> None:
    problems = []
    for path in python_files():
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 500:
            problems.append(f"{path.relative_to(ROOT)} has {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                length = (node.end_lineno or 0) - node.lineno + 1 - len(doc.splitlines())
                if length > 70:
                    problems.append(f"{path.relative_to(ROOT)}: {node.name} has {length} lines without its docstring")
    assert problems == []


def test_java_is_asked_in_few_rooms_only() -> None:
    java = re.compile(r"\._(jvm|jsc|jconf|jdf|jsparkSession)\b")
    rooms = {path.relative_to(ROOT).parts[:-1] for path in python_files() if java.search(path.read_text("utf-8"))}
    allowed = ("session", "job", "lint", "tables", "explain")
    assert {room for room in rooms if room[0] != "tests"} == {("twinrun", name) for name in allowed}


def test_public_names_are_pinned() -> None:
    declared = ["Avro", "Job", "Protobuf", "Source", "Table", "Tolerance"]
    assert twinrun.__all__ == [*declared, "absolute", "compare", "rel", "verify"]
    assert all(hasattr(twinrun, name) for name in twinrun.__all__)


def test_jobs_are_pure_and_short() -> None:
    for path in sorted((ROOT / "jobs").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 90, path.name
        for forbidden in ("SparkSession", ".collect(", ".write", "readStream", "withWatermark", "open("):
            assert forbidden not in text, f"{path.name} has {forbidden}"


def test_no_tracked_file_names_a_registry_or_a_path_of_one_machine() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    problems = []
    for name in filter(None, tracked.split("\0")):
        path = ROOT / name
        if name == "tests/unit/test_structure.py" or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        if HOSTS.search(text) or MACHINE.search(text):
            problems.append(name)
    assert problems == []


def test_a_verify_loads_few_modules() -> None:
    """Files of twinrun that its proofs stand on, package markers not counted: a room is a few files, each one idea."""
    script = (
        "import sys, twinrun.explain.verify\n"
        "print(sum(name.startswith('twinrun.') and not hasattr(m, '__path__') for name, m in sys.modules.items()))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert int(loaded) <= 60
