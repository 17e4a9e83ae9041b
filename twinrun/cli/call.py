"""One call of a command: the options that all commands have, and the configuration they lead to."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from twinrun.cli.output import Output
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.errors import InputError

DEFAULT_CONF = Path("conf/local.yaml")

Conf = Annotated[
    Path | None,
    typer.Option("--conf", envvar="TWINRUN_CONF", help=f"The YAML configuration. [default: {DEFAULT_CONF}]"),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.", hidden=True)]


@dataclass(frozen=True)
class Call:
    """What was asked: where to print, and which configuration.

    Attributes
    ----------
    conf : Path or None
        The file that was named; None where none was.
    overrides : tuple of str
        The texts of ``--set``, in order.
    """

    out: Output
    conf: Path | None = None
    overrides: tuple[str, ...] = ()

    @property
    def conf_file(self) -> Path:
        """The file that was named, or the usual one."""
        return self.conf or DEFAULT_CONF

    def config(self, more: tuple[str, ...] = ()) -> Config:
        """Read the configuration; from here on its secrets are masked in all that is printed.

        Parameters
        ----------
        more : tuple of str
            Further overrides, which win over those of the user.

        Raises
        ------
        ConfigError
            Every problem of the configuration.
        """
        cfg = load_config(self.conf_file, [*self.overrides, *more])
        self.out.secrets = cfg.secret_values()
        return cfg

    def config_if_any(self) -> Config | None:
        """The configuration, or None where none was named and the usual file is not there."""
        if self.conf is None and not DEFAULT_CONF.exists():
            if self.overrides:
                raise InputError(
                    f"--set changes a configuration, and there is no {DEFAULT_CONF} here.", fix="name one with --conf"
                )
            return None
        return self.config()


def command(app: typer.Typer, name: str, example: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Register a function as a command that also has ``--conf``, ``--set`` and ``--json``.

    Parameters
    ----------
    app : typer.Typer
        Where the command belongs.
    name : str
        What a user types.
    example : str
        A whole command line; stands at the end of its ``--help``.

    Returns
    -------
    function
        A decorator. The function takes a `Call` first, then its own parameters, and returns the exit code.
    """

    def register(function: Callable[..., int]) -> Callable[..., int]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @functools.wraps(function)
        def run(context: typer.Context, **given: Any) -> int:
            # --json and --debug are read before the command line is parsed, so that its errors obey them too.
            conf, overrides, _, _ = (given.pop(parameter.name) for parameter in _SHARED)
            return function(Call(context.obj, conf, tuple(overrides or ())), **given)

        parameters = [_CONTEXT, *own, *_SHARED]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, epilog=f"Example: {example}")(run)
        return function

    return register


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_CONTEXT = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
_SHARED = (
    _option("conf", Conf, None),
    _option("overrides", Overrides, None),
    _option("as_json", Json, False),
    _option("debug", Debug, False),
)
