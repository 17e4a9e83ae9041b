"""Pages of the reference that are made from classes: a verdict and a comparison as JSON, and the Python API."""

from __future__ import annotations

import inspect
import io
import json
import re
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import twinrun
from twinrun import errors
from twinrun.cli.comparison import comparison_payload
from twinrun.cli.output import Output
from twinrun.comparator import result
from twinrun.comparator.references import Read
from twinrun.comparator.result import ColumnStats, Comparison, Sample
from twinrun.comparator.schema import SchemaDifference, SchemaPlan
from twinrun.results.verdict import SCHEMA_VERSION, Verdict

MADE = "<!-- Made from the code by: python -m twinrun.cli.reference. Change the code, not this page. -->"
WIDTH = 118

_SECTION = re.compile(r"^([A-Z]\w+)\n-+\n", re.MULTILINE)


def head(title: str) -> list[str]:
    """The first lines of a page."""
    return [f"# Reference: {title}", "", MADE, ""]


def paragraph(text: str) -> list[str]:
    """A text in lines that can be read without wrapping."""
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; bars and line breaks in a cell do not break it."""
    made = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    made += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return made


def json_page() -> list[str]:
    """What all documents have in common, an error, and what ``compare --json`` prints."""
    places = _places()
    entries = [(name, text) for each, text in _attributes(Comparison) for name in each.split(", ")]
    lines = [
        *head("JSON"),
        *paragraph(
            "With `--json` a command prints one JSON document on standard output, and nothing else. It is strict: NaN "
            "and the infinities are texts. Commands that tell things as they happen (`twinrun schedule`, "
            "`twinrun batch --schedule`, `twinrun topic tail`) print a document on each line. `twinrun verify --json` "
            "has a page of its own: [reference_verdict.md](reference_verdict.md)."
        ),
        "",
        "## An error",
        "",
        "It comes with exit code 2, in place of the command's own document:",
        "",
        "```json",
        *_error_example().splitlines(),
        "```",
        "",
        "## twinrun compare --json",
        "",
        "For two tables of which one row differs, one is missing, and one column has two types:",
        "",
        "```json",
        *_by_line(_payload(**_example())),
        "```",
        "",
        *paragraph(
            f"`verdict` is one of {_json_type(result.Verdict)}. `read` says what was read of a table, and `facts` what "
            "one should know about that. `compared_as` has the columns that were compared as declared."
        ),
        "",
        *table(("field", "meaning"), [(_place(places[name]), text) for name, text in entries if name in places]),
    ]
    for title, each in (("columns", ColumnStats), ("samples", Sample), ("schema_differences", SchemaDifference)):
        rows = [(_names(names), _in_json(text)) for names, text in _attributes(each)]
        lines += ["", f"Each of `{title}`:", "", *table(("field", "meaning"), rows)]
    return lines


def verdict_page() -> list[str]:
    """What ``verify --json`` prints: the verdict, and the classes that its own fields hold."""
    return [
        *head("a verdict as JSON"),
        *paragraph(
            "`twinrun verify --json` prints this document; `report.json` beside the HTML report is the same. It "
            f"begins with `schema_version` (now {SCHEMA_VERSION}), which is raised when the shape changes. Standard "
            "output has one more field, `report`: the paths of the HTML, JSON and Markdown files. Decimals and "
            "timestamps in rows are texts, so that no digit is lost. Fields whose names end in `_ms` are UTC epoch "
            "milliseconds or durations in milliseconds."
        ),
        "",
        *map(_in_json, _prose(Verdict)),
        "",
        *table(("field", "holds"), _typed(Verdict)),
        *_parts(_inside(Verdict)),
    ]


def verdict_parts_page() -> list[str]:
    """The classes of a verdict that stand further inside."""
    return [
        *head("the inner parts of a verdict as JSON"),
        "What the parts of a verdict ([reference_verdict.md](reference_verdict.md)) are made of.",
        *_parts(_further_inside(Verdict)),
    ]


def _parts(classes: Iterable[Any]) -> list[str]:
    lines = []
    for each in classes:
        told = [f"* {_names(names)}: {_in_json(text)}" for names, text in _attributes(each)]
        listed = ", ".join(f"{name} ({kind})" for name, kind in _typed(each))
        lines += ["", f"## {each.__name__}", "", *map(_in_json, _prose(each))]
        lines += ["", *told] if told else []
        lines += ["", *paragraph(f"Fields: {listed}.")]
    return lines


def api_page() -> list[str]:
    """Every public name of the package with its signature and docstring."""
    lines = [
        *head("Python API"),
        *paragraph(
            "All of it is imported from `twinrun`. Everything else is internal and may change with any version. How a "
            "job is written: [jobs.md](jobs.md)."
        ),
    ]
    for name in twinrun.__all__:
        value = getattr(twinrun, name)
        lines += ["", f"## {name}", "", "```text", *_signature(name, value), "```", "", *_prose(value)]
        sections = _sections(inspect.getdoc(value) or "")
        for title in ("Parameters", "Attributes", "Returns", "Raises"):
            if title in sections:
                entries = [(f"`{name}`", text) for name, text in _entries(sections[title])]
                lines += ["", *table((title.lower(), "meaning"), entries)]
    return lines


def _inside(each: Any) -> list[Any]:
    """The dataclasses that a dataclass's fields hold, each once, in their order."""
    return list(dict.fromkeys(inner for hint in get_type_hints(each).values() for inner in _classes(hint)))


def _further_inside(first: Any) -> list[Any]:
    """Those that are reached through others only."""
    found = _inside(first)
    for each in found:
        found += [inner for inner in _inside(each) if inner not in found]
    return found[len(_inside(first)) :]


def _classes(hint: Any) -> Iterator[Any]:
    if is_dataclass(hint):
        yield hint
    for inner in get_args(hint):
        yield from _classes(inner)


def _typed(each: Any) -> list[tuple[str, str]]:
    """Each field of a dataclass, and what it holds in JSON."""
    hints = get_type_hints(each)
    return [(f"`{field.name}`", _json_type(hints[field.name])) for field in fields(each)]


def _json_type(hint: Any) -> str:
    origin, inner = get_origin(hint), [each for each in get_args(hint) if each not in (type(None), Ellipsis)]
    if origin in (Union, types.UnionType):
        return f"{' or '.join(map(_json_type, inner))}, or null"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        listed = "list of" if Ellipsis in get_args(hint) else "list with"
        return f"{listed} {' and '.join(map(_json_type, inner))}"
    if origin is dict:
        return f"object of {_json_type(inner[1])} by {_BY.get(inner[0], 'name')}"
    if is_dataclass(hint):
        page = "reference_verdict_parts.md" if hint in _further_inside(Verdict) else "reference_verdict.md"
        return f"[{hint.__name__}]({page}#{hint.__name__.lower()})"  # type: ignore[union-attr]
    return _SCALARS.get(hint, "any value")


_SCALARS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_BY = {int: "partition"}


def _attributes(each: Any) -> list[tuple[str, str]]:
    """Names and words of the attributes, as the docstring tells them."""
    entries = _entries(_sections(inspect.getdoc(each) or "").get("Attributes", ""))
    return [(head.split(" : ")[0], text) for head, text in entries]


def _place(path: str) -> str:
    """``batch.rows`` in words: with a dot it would look like a key of the configuration."""
    above, _, name = path.rpartition(".")
    return f"`{name}` of `{above}`" if above else f"`{name}`"


def _names(listed: str) -> str:
    return ", ".join(f"`{name}`" for name in listed.split(", "))


def _sections(doc: str) -> dict[str, str]:
    """A NumPy docstring by its headings; what stands before the first is under ``""``."""
    parts = _SECTION.split(doc)
    return {"": parts[0].strip(), **dict(zip(parts[1::2], parts[2::2], strict=True))}


def _entries(section: str) -> list[tuple[str, str]]:
    """Name and text of each entry of a section."""
    found: list[tuple[str, list[str]]] = []
    for line in section.rstrip().splitlines():
        if line and not line[0].isspace():
            found.append((line.strip(), []))
        elif found and line.strip():
            found[-1][1].append(line.strip())
    return [(head, _markdown(" ".join(text))) for head, text in found]


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def _in_json(text: str) -> str:
    """A sentence about Python's values as one about JSON's."""
    return re.sub(r"\b(None|False|True)\b", lambda word: "null" if word[1] == "None" else word[1].lower(), text)


def _prose(value: Any) -> list[str]:
    """What a docstring says before its first heading; none where it is Python's own."""
    doc = inspect.getdoc(value) or ""
    own = "" if is_dataclass(value) and doc.startswith(f"{getattr(value, '__name__', '')}(") else doc
    return _markdown(_sections(own)[""]).splitlines()


def _signature(name: str, value: Callable[..., Any]) -> list[str]:
    """One line where it fits, else a parameter a line."""
    found = inspect.signature(value)
    shown = [
        str(each.replace(annotation=_Made(str(each.annotation)), default=_plain(each.default)))
        for each in found.parameters.values()
    ]
    shown = _with_marks(shown, list(found.parameters.values()))
    line = f"{name}({', '.join(shown)})"
    return [line] if len(line) <= 110 else [f"{name}(", *(f"    {each}," for each in shown), ")"]


def _with_marks(shown: list[str], parameters: list[inspect.Parameter]) -> list[str]:
    """With the star that stands before parameters which can be given by name alone."""
    named = [place for place, each in enumerate(parameters) if each.kind is inspect.Parameter.KEYWORD_ONLY]
    starred = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
    return [*shown[: named[0]], "*", *shown[named[0] :]] if named and not starred else shown


class _Made:
    """A text that stands for itself in a signature."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _plain(default: Any) -> Any:
    return _Made("...") if type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS" or default is MISSING else default


def _error_example() -> str:
    out = io.StringIO()
    shown = Output(out, as_json=True)
    shown.errors.quiet = True
    shown.error(
        errors.InputError(
            "there is no source and no job 'flihts' in conf/local.yaml.", expected="one of flights", fix="write flights"
        )
    )
    return out.getvalue()


def _example() -> dict[str, Any]:
    """The parts of a small comparison."""
    key = {"origin": "JFK", "hour": "2013-01-06T05:00:00.000Z"}
    sides = [json.dumps({**key, "flights": flights}) for flights in (32, 31)]
    counts = {"changed": 1, "only_batch": 1, "only_stream": 0, "duplicate_in_batch": 0, "duplicate_in_stream": 0}
    numbers = {field.name: 0 for field in fields(Comparison) if field.type == "int"}
    return {
        **numbers,
        "schema": SchemaPlan((), (), None, (SchemaDifference("gate", "type_differs", "int", "string"),), 4, 4),
        "rows_batch": 2,
        "rows_stream": 1,
        "windows_compared": 2,
        "windows_different": 2,
        "counts": counts,
        "columns": (ColumnStats("flights", 1, 1.0, 0.03125),),
        "samples": (Sample("changed", 1, ("flights",), json.dumps(key), json.dumps(key["hour"]), *sides),),
        "audit": "not_run",
        "keys_counted": "differing_windows",
    }


def _payload(**parts: Any) -> dict[str, Any]:
    """The document of a comparison, by the function that the command prints with."""
    read = Read("Delta, version 3"), Read("Delta, version 7")
    return comparison_payload(Comparison(**parts), ("./batch", "./stream"), read)


def _by_line(payload: dict[str, Any]) -> Iterator[str]:
    """A document with a line for each of its fields, and for each entry of an object that is long."""
    shown = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in payload.items()]
    yield "{"
    yield from (f"{line}," for line in shown[:-1])
    yield shown[-1]
    yield "}"


def _places() -> dict[str, str]:
    """Where each attribute of a comparison stands in the document, found by planting numbers that occur once."""
    example = _example()
    planted = {name: 1_000 + n for n, (name, value) in enumerate(example.items()) if isinstance(value, int)}
    at = {value: place for place, value in _leaves(_payload(**{**example, **planted})) if isinstance(value, int)}
    places = {name: at[number] for name, number in planted.items() if number in at}
    named = {"counts": "rows_different", "keys_counted": "keys_repeated.among"}
    return {**places, **named, **{name: name for name in ("columns", "samples", "audit")}}


def _leaves(node: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
