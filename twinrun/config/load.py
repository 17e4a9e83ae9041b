"""Read a configuration: ``--set`` over the environment over the YAML file over the files that it extends."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import PydanticBaseSettingsSource

from twinrun.config.kafka import SecretReader
from twinrun.config.layers import Layer, read_env, read_overrides, read_yaml
from twinrun.config.model import Config
from twinrun.config.problems import Loc, Problem, annotation_at, config_error, dotted, from_validation
from twinrun.config.secrets import needs_reference

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
