"""What README and docs promise exists: links, commands with their options, causes, code, keys. No Spark."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml

from twinrun.cli.app import app
from twinrun.config.model import Layout
from twinrun.config.sections import LateRuleName
from twinrun.events.rules import RULES
from twinrun.events.source import Source
from twinrun.job.check import definition_problems, source_problems
from twinrun.job.job import Job, Table
from twinrun.results.causes import BY_NAME, PROOFS
from twinrun.results.verdict import Outcome

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SHOWN_PATH = re.compile(r"(?:twinrun|batch|streaming|jobs|conf|tests|docs)/[\w./-]*")
OUR_KEY = re.compile(r"(?:kafka|sources|tables|jobs|external|stream|verify|spark|report|broker)(?:\.\w+)+")
NOT_OUR_KEY = re.compile(r"spark\.(?:sql|databricks|driver|executor|jars)\b.*|\w+\.(?:html|json|md)")
COMMANDS: Any = typer.main.get_command(app)
LOCAL = yaml.safe_load((ROOT / "conf" / "local.yaml").read_text(encoding="utf-8"))


def blocks(text: str, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(text) if language in languages]


def spans(text: str) -> list[str]:
    return SPAN.findall(FENCE.sub("", text))


def tables(text: str, heading: str) -> Iterator[list[str]]:
    """The names in the first column of each table whose first heading begins so."""
    for table in re.findall(r"(?:^\|.*\n)+", FENCE.sub("", text) + "\n", re.MULTILINE):
        first = [line.split("|")[1].strip() for line in table.splitlines()]
        if first[0].startswith(heading):
            yield [name for cell in first[2:] for name in SPAN.findall(cell)]


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def link_problems(text: str, folder: Path = ROOT) -> list[str]:
    problems = []
    for link in LINK.findall(FENCE.sub("", text)):
        path, _, anchor = link.partition("#")
        target = folder / path
        if link.startswith(("http:", "https:")):
            continue
        if path and not target.exists():
            problems.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8") if path else text):
            problems.append(f"{link}: no such heading")
    return problems + [f"{span}: no such file" for span in spans(text) if is_absent(span)]


def is_absent(span: str) -> bool:
    return bool(SHOWN_PATH.fullmatch(span)) and not (ROOT / span).exists()


def shown_commands(text: str) -> Iterator[list[str]]:
    """Command lines that begin with twinrun or make, from code spans and from shell blocks."""
    lines = [line for block in blocks(text, "bash") for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *spans(text)]:
        words = shlex.split(line, comments=True) if re.match(r"\s*(?:\.venv/bin/)?(?:twinrun|make) ", line) else []
        if words:
            yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


def command_problems(text: str) -> list[str]:
    return [problem for words in shown_commands(text) for problem in wrong_in(*words)]


def wrong_in(program: str, *words: str) -> Iterator[str]:
    if program == "make":
        yield from wrong_targets(words)
        return
    here: Any = COMMANDS
    rest = list(words)
    while hasattr(here, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in here.commands:
            yield f"twinrun has no command {name}"
            return
        here = here.commands[name]
    known = {"--help", "-h", *(option for parameter in here.params for option in parameter.opts)}
    for word, following in pairwise([*rest, ""]):
        if word.startswith("-") and word.partition("=")[0] not in known:
            yield f"twinrun {' '.join(words)}: no option {word}"
        if word == "--set" and following != "key=value" and not is_key(following.partition("=")[0]):
            yield f"--set {following}: no such key in conf/local.yaml"


def wrong_targets(words: tuple[str, ...]) -> Iterator[str]:
    in_project = "-C" in words
    file = "twinrun/cli/templates/Makefile.j2" if in_project else "Makefile"
    targets = re.findall(r"^([a-z-]+):", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    for word in words[2:] if in_project else words:
        if "=" not in word and word not in targets:
            yield f"{file} has no target {word}"


def said_by_the_code() -> set[str]:
    """Words of the strings, without docstrings, of the modules that give causes and verdicts."""
    found: set[str] = set()
    for path in [ROOT / "twinrun/results/verdict.py", *(ROOT / "twinrun").glob("ex[pt]*/*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                found |= set(re.findall(r"\w+", node.value))
    return found


def name_problems(text: str) -> list[str]:
    """Causes, verdicts and outcomes that the code does not give."""
    in_tables = [n for heading in ("cause", "verdict", "outcome") for names in tables(text, heading) for n in names]
    named = {*in_tables, *(span for span in spans(text) if span in BY_NAME)}
    return sorted(named - said_by_the_code())


def code_problems(text: str) -> list[str]:
    problems = []
    for number, block in enumerate(blocks(text, "python"), start=1):
        try:
            code = compile(block, f"block {number}", "exec")
        except SyntaxError as error:
            problems.append(f"block {number} line {error.lineno}: {error.msg}")
            continue
        if re.search(r"^JOB = ", block, re.MULTILINE):
            module: dict[str, Any] = {}
            exec(code, module)
            problems += [f"block {number}: {problem.found}" for problem in definition_problems(module["JOB"])]
    return problems


def is_key(key: str) -> bool:
    here: Any = LOCAL
    for depth, part in enumerate(key.split(".")):
        if not isinstance(here, dict):
            return False
        if depth == 1 and key.startswith(("sources.", "tables.", "jobs.", "external.")):
            here = next(iter(here.values()))  # any name may stand here
        elif part in here:
            here = here[part]
        else:
            offsets = re.match(
                r"external\.\w+\.(start|end|restarts)\.", key
            )  # any source and partition may stand there
            return bool(offsets) or key.startswith(("kafka.options.", "spark.conf."))
    return True


def keys_of(node: Any, above: str = "") -> Iterator[str]:
    for key, inner in node.items():
        path = f"{above}{key}"
        if isinstance(inner, dict):
            yield from keys_of(inner, f"{path}.")
        elif path != "extends":
            yield path


def key_problems(text: str) -> list[str]:
    shown = [key for block in blocks(text, "yaml") for key in keys_of(yaml.safe_load(block))]
    shown += [span for span in spans(text) if OUR_KEY.fullmatch(span) and not NOT_OUR_KEY.fullmatch(span)]
    return [f"{key}: not in conf/local.yaml" for key in shown if not is_key(key)]


CHECKS: dict[str, Callable[[str], list[str]]] = {
    "links": link_problems,
    "commands": command_problems,
    "names": name_problems,
    "code": code_problems,
    "keys": key_problems,
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_a_document_names_only_what_exists(path: Path, check: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert (link_problems(text, path.parent) if check == "links" else CHECKS[check](text)) == []


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        ("links", "[a](docs/absent.md)"),
        ("links", "[a](README.md#no-such-heading)"),
        ("links", "see `twinrun/explain/absent.py`"),
        ("commands", "`twinrun cure departures_per_hour`"),
        ("commands", "```bash\n.venv/bin/twinrun verify departures_per_hour \\\n    --what-if 2h\n```"),
        ("commands", "```bash\ntwinrun stream x --set stream.triger=once  # a typing error\n```"),
        ("commands", "`twinrun broker restart`"),
        ("commands", "```bash\nmake demos DAYS=7\n```"),
        ("names", "| cause | meaning |\n|---|---|\n| `late_lost` | x |"),
        ("names", "| verdict | meaning |\n|---|---|\n| `offset_gap` | x |"),
        ("code", "```python\ndef f(:\n```"),
        ("code", "```python\nfrom twinrun import Job\n\nJOB = Job(print, sources=[], keys=[])\n```"),
        ("keys", "```yaml\nstream:\n  tigger: available-now\n```"),
        ("keys", "set `verify.max_lag` to 5"),
    ],
)
def test_each_check_sees_what_is_wrong(check: str, wrong: str) -> None:
    assert len(CHECKS[check](wrong)) >= 1


@pytest.mark.parametrize(
    ("file", "heading", "expected"),
    [
        ("README.md", "cause", sorted(PROOFS)),
        ("docs/external.md", "late_rule", sorted(get_args(LateRuleName))),
        ("docs/how_it_works.md", "outcome", sorted(get_args(Outcome))),
        ("docs/how_it_works.md", "table", sorted(set(Layout.model_fields) - {"requeue"})),
        ("docs/jobs.md", "rule", sorted(RULES)),
        ("docs/jobs.md", "Source field", sorted(field.name for field in fields(Source))),
        ("docs/jobs.md", "Job field", sorted(field.name for field in fields(Job))),
        ("docs/jobs.md", "Table field", sorted(field.name for field in fields(Table))),
    ],
)
def test_a_table_lists_all_that_there_is(file: str, heading: str, expected: list[str]) -> None:
    assert [sorted(names) for names in tables((ROOT / file).read_text(encoding="utf-8"), heading)] == [expected]


def test_documents_stay_short() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in DOCS}
    assert {name: lines for name, lines in lengths.items() if lines >= (240 if name == "README.md" else 250)} == {}


AVSC = """{"type": "record", "name": "Order", "fields": [{"name": "order_id", "type": "string"},
    {"name": "ordered_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}}]}"""


@pytest.mark.parametrize("page", ["README.md", "docs/jobs.md", "docs/sinks.md", "docs/tutorial.md"])
def test_a_source_that_a_page_shows_is_one_that_is_accepted(page: str, tmp_path: Path) -> None:
    (tmp_path / "order.avsc").write_text(AVSC, encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    shown = {}
    for block in blocks:
        if "Source(" in block:
            names: dict[str, object] = {"Source": Source, "__file__": str(tmp_path / "job.py")}
            exec(compile(block, page, "exec"), names)
            shown |= {name: value for name, value in names.items() if isinstance(value, Source)}
    assert shown
    problems = {name: list(source_problems(source)) for name, source in shown.items()}
    assert {name: found for name, found in problems.items() if found} == {}
