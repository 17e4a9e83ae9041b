"""Read a configuration: its files, environment and ``--set`` laid over each other, then checked as one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import PydanticBaseSettingsSource

from twinrun.config.model import Config
from twinrun.config.problems import Loc, Problem, annotation_at, config_error, dotted, from_validation
from twinrun.config.secrets import is_reference, needs_reference
from twinrun.config.sections import SecretReader

# The three places that a configuration comes from, each read into nested keys that know their origin.


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
            return Layer(name, problems=(Problem((), "aliases (*name) are not allowed", fix=_QUOTES, origin=name),))
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
    return Problem((), f"it is not valid YAML: {what}", fix=_QUOTES if what.startswith(_STAR) else "", origin=origin)


_STAR = "expected alphabetic or numeric character"
_QUOTES = "put a value that begins with * or & in quotes"


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


# Read a configuration: ``--set`` over the environment over the YAML file over the files that it extends.


_EXTENDS = "extends"
_VARIABLE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
# Places whose relative value starts at the project: any relative one where the file is local, else only ./ and ../
_LOCAL = (("jobs", "*", "path"), ("report", "folder"), ("broker", "data_dir"), ("spark", "conf_file"))
_SPARK = (("warehouse",), ("checkpoints",), ("tables", "*", "path"), ("external", "*", "table"))


def load_config(path: Path, overrides: Sequence[str] = (), env: Mapping[str, str] = os.environ) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    path : Path
        A YAML file; its key ``extends`` names another one to start from.
    overrides : sequence of str
        ``key=value`` texts, as given to ``--set``; values are YAML. They win over everything.
    env : mapping of str to str
        The environment: ``TWINRUN__SECTION__KEY`` wins over YAML, ``${env:NAME}`` in a value reads it.

    Returns
    -------
    Config
        Frozen, with absolute local paths and unresolved secrets. Nothing is opened but the YAML files.

    Raises
    ------
    ConfigError
        Every problem of the configuration, each with its file and line, what is allowed and the nearest match.
    """
    path = Path(path)
    root = _project(path)
    given, files = [read_overrides(overrides, Config), read_env(env, Config)], _files(path)
    layers = [*given, *files]
    problems = [problem for layer in layers for problem in layer.problems]
    if any(layer.problems for layer in files):
        raise config_error(str(path), problems)
    sources = tuple(_LayerSource(layer, env, root, problems) for layer in layers)
    try:
        config = Config(_build_sources=(sources, {}))  # type: ignore[call-arg]  # mypy sees only the fields
    except ValidationError as error:
        known = {problem.loc for problem in problems}
        problems += [
            _located(problem, layers, path) for problem in from_validation(error, Config) if problem.loc not in known
        ]
        raise config_error(str(path), problems) from None
    if problems:
        raise config_error(str(path), problems)
    reader = SecretReader(env, root)
    config._file, config._root = path, root
    config.kafka._reader = config.spark._reader = reader
    return config


class _LayerSource(PydanticBaseSettingsSource):
    """One layer as pydantic-settings reads it: earlier sources win, key by key."""

    def __init__(self, layer: Layer, env: Mapping[str, str], root: Path, problems: list[Problem]) -> None:
        super().__init__(Config)
        self.layer, self.env, self.root, self.problems = layer, env, root, problems

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """The value of one top-level key; not used, since whole sections are handed over."""
        return self.layer.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """The values, with references filled in where no earlier source has the key."""
        return {key: self._filled(value, (key,), self.current_state) for key, value in self.layer.values.items()}

    def _filled(self, value: Any, loc: Loc, winners: Any) -> Any:
        """``winners`` is what earlier sources hold in the section of this key."""
        won = isinstance(winners, dict) and loc[-1] in winners
        if value is None and _is_section(loc):
            return {}
        if isinstance(value, dict):
            above = winners[loc[-1]] if won else {}
            return {key: self._filled(inner, (*loc, key), above) for key, inner in value.items()}
        if not isinstance(value, str) or won or _is_secret(loc, value):
            return value
        return _absolute(self._substituted(value, loc), loc, self.root)

    def _substituted(self, text: str, loc: Loc) -> str:
        origin = self.layer.origin(loc) or self.layer.name

        def value_of(match: re.Match[str]) -> str:
            found = self.env.get(match[1]) or match[2]
            if found is None:
                what = f"{dotted(loc)} needs the environment variable {match[1]}, which is not set"
                self.problems.append(Problem(loc, what, "", f"export {match[1]}=...", origin))
            return found or ""

        filled = _VARIABLE.sub(value_of, text)
        if "${env:" in _VARIABLE.sub("", text):
            what = f"{dotted(loc)} has a reference that cannot be read"
            self.problems.append(Problem(loc, what, "${env:NAME} or ${env:NAME:-default}", "", origin))
        return filled


def _files(path: Path) -> list[Layer]:
    """The file and those that it extends, nearest first."""
    layers: list[Layer] = []
    seen: set[Path] = set()
    while True:
        layer = read_yaml(path)
        base = layer.values.pop(_EXTENDS, None)
        layers.append(layer)
        seen.add(path.resolve())
        if base is None:
            return layers
        origin = layer.origins[(_EXTENDS,)]
        if not isinstance(base, str):
            return [*layers, Layer("", problems=(Problem((), "extends is not the name of a file", origin=origin),))]
        path = path.parent / base
        if path.resolve() in seen:
            return [*layers, Layer("", problems=(Problem((), f"extends leads back to {path}", origin=origin),))]


def _project(path: Path) -> Path:
    folder = path.absolute().parent
    return folder.parent if folder.name == "conf" else folder


def _located(problem: Problem, layers: Sequence[Layer], path: Path) -> Problem:
    origins = (layer.origin(problem.loc) for layer in layers)
    origin = next((found for found in origins if found), str(path))
    return Problem(problem.loc, problem.found, problem.expected, problem.fix, origin)


def _is_section(loc: Loc) -> bool:
    inner = annotation_at(Config, loc)
    return get_origin(inner) is dict or (isinstance(inner, type) and issubclass(inner, BaseModel))


def _is_secret(loc: Loc, value: str) -> bool:
    """Whether a value stays a reference until a client asks for it."""
    return loc[:2] in (("kafka", "options"), ("spark", "conf")) and needs_reference(loc[-1], value)


def _absolute(text: str, loc: Loc, root: Path) -> str:
    if _at(loc, _LOCAL) and text and "://" not in text:
        return str(Path(os.path.normpath(root / Path(text).expanduser())))
    if _at(loc, _SPARK) and text.startswith(("./", "../")):
        return os.path.normpath(root / text)
    return text


def _at(loc: Loc, places: Sequence[Loc]) -> bool:
    return any(len(loc) == len(place) and all(map(fnmatchcase, loc, place)) for place in places)
