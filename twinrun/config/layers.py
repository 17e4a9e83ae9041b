"""The three places that a configuration comes from, each read into nested keys that know their origin."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel

from twinrun.config.problems import Loc, Problem, annotation_at
from twinrun.config.secrets import is_reference, needs_reference

ENV_PREFIX = "TWINRUN__"
Values = dict[str, Any]


class _Reader(yaml.SafeLoader):
    """Safe YAML without dates: an instant stays the text that was written."""


_Reader.yaml_implicit_resolvers = {
    sign: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Layer:
    """Values of one place. ``origins`` says for each key where exactly it was written."""

    name: str
    values: Values = field(default_factory=dict)
    origins: dict[Loc, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def origin(self, loc: Sequence[str]) -> str | None:
        """Where a key was written, or else the first key below it; None when it is not in this layer."""
        if not loc:
            return None
        below = (where for key, where in self.origins.items() if key[: len(loc)] == tuple(loc))
        return self.origins.get(tuple(loc)) or next(below, None)


def read_yaml(path: Path) -> Layer:
    """Read one file. Bad YAML, repeated keys, aliases and keys that are not text become problems, with their line."""
    name = str(path)
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _Reader)):
            return Layer(name, problems=(Problem((), "aliases (*name) are not allowed", origin=name),))
        node = yaml.compose(text, _Reader)
    except UnicodeDecodeError:
        return Layer(name, problems=(Problem((), "it is not UTF-8 text", origin=name),))
    except OSError as error:
        found = f"the configuration {path} cannot be read ({error.strerror})"
        return Layer(name, problems=(Problem((), found, fix="give another file, or run twinrun init"),))
    except yaml.YAMLError as error:
        return Layer(name, problems=(_bad_yaml(error, name),))
    if node is None:
        return Layer(name)
    if not isinstance(node, yaml.MappingNode):
        return Layer(name, problems=(Problem((), "it holds no keys", "lines such as warehouse: <path>", origin=name),))
    origins: dict[Loc, str] = {}
    problems: list[Problem] = []
    _walk(node, (), name, origins, problems)
    if problems:
        return Layer(name, problems=tuple(problems))
    try:
        return Layer(name, yaml.load(text, _Reader), origins)
    except (yaml.YAMLError, ValueError) as error:
        return Layer(name, problems=(_bad_yaml(error, name),))


def _bad_yaml(error: Exception, name: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    origin = f"{name} line {mark.line + 1}" if mark else name
    # What stands in quotes is taken from the file: it could be a secret.
    what = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", getattr(error, "problem", None) or "it cannot be parsed")
    return Problem((), f"it is not valid YAML: {what}", origin=origin)


def _walk(node: yaml.MappingNode, loc: Loc, name: str, origins: dict[Loc, str], problems: list[Problem]) -> None:
    for key, value in node.value:
        origin = f"{name} line {key.start_mark.line + 1}"
        if key.tag != "tag:yaml.org,2002:str":
            problems.append(Problem(loc, f"the key {key.value!r} is not text", fix="put it in quotes", origin=origin))
            continue
        inner = (*loc, key.value)
        if inner in origins:
            problems.append(Problem(inner, f"the key {'.'.join(inner)} stands twice", origin=origin))
        origins[inner] = origin
        if isinstance(value, yaml.MappingNode):
            _walk(value, inner, name, origins, problems)
        if isinstance(value, yaml.SequenceNode):
            for index, item in enumerate(value.value):
                if isinstance(item, yaml.MappingNode):
                    _walk(item, (*inner, str(index)), name, origins, problems)


def read_env(env: Mapping[str, str], model: type[BaseModel]) -> Layer:
    """Read variables such as ``TWINRUN__KAFKA__BOOTSTRAP_SERVERS``; a secret stays a reference to its variable."""
    layer = Layer("the environment")
    for variable in sorted(name for name in env if name.startswith(ENV_PREFIX)):
        parts = variable.removeprefix(ENV_PREFIX).split("__")
        loc = _env_loc(parts, model)
        value: str | None = env[variable]
        if value is not None and needs_reference(loc[-1], value) and not is_reference(value):
            value = f"${{env:{variable}}}"
        _put(layer, loc, None if value == "null" else value, f"the variable {variable}")
    return layer


def _env_loc(parts: list[str], model: type[BaseModel]) -> Loc:
    """Sections in lower case; an option keeps its spelling if it has a dot, else ``SASL_PASSWORD`` reads as dots."""
    loc: Loc = ()
    for index, part in enumerate(parts):
        if _is_free(model, loc):
            rest = "__".join(parts[index:])
            return (*loc, rest if "." in rest else rest.lower().replace("_", "."))
        loc = (*loc, part.lower())
    return loc


def read_overrides(overrides: Sequence[str], model: type[BaseModel]) -> Layer:
    """Read ``key=value`` texts of ``--set``, each value as YAML."""
    layer = Layer("--set")
    problems: list[Problem] = []
    for text in overrides:
        key, sign, written = text.partition("=")
        if not sign or not key.strip():
            problems.append(Problem((), "--set needs key=value", "such as --set stream.interval_ms=500"))
            continue
        loc = split_key(key.strip(), model)
        try:
            value = yaml.load(written, _Reader)
        except (yaml.YAMLError, ValueError):
            fix = "put the value in quotes"
            problems.append(Problem(loc, f"the value of {key.strip()} is not valid YAML", "", fix, "--set"))
            continue
        _put(layer, loc, value, f"--set {key.strip()}")
    return Layer(layer.name, layer.values, layer.origins, tuple(problems))


def split_key(key: str, model: type[BaseModel]) -> Loc:
    """A dotted key as parts; below a section of free options, such as ``kafka.options``, the rest is one part."""
    loc: Loc = ()
    parts = key.split(".")
    for index, part in enumerate(parts):
        if _is_free(model, loc):
            return (*loc, ".".join(parts[index:]))
        loc = (*loc, part)
    return loc


def _is_free(model: type[BaseModel], loc: Loc) -> bool:
    """Whether any key with a plain value may stand below this place."""
    inner = annotation_at(model, loc)
    return get_origin(inner) is dict and not isinstance(annotation_at(model, (*loc, "x")), type)


def _put(layer: Layer, loc: Loc, value: Any, origin: str) -> None:
    here = layer.values
    for part in loc[:-1]:
        inner = here.get(part)
        if not isinstance(inner, dict):
            inner = here[part] = {}
        here = inner
    here[loc[-1]] = value
    layer.origins[loc] = origin
