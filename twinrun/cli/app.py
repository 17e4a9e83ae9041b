"""The command ``twinrun``: its sub-commands, and the one place where an error becomes words and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from twinrun.cli import (
    advise,
    broker,
    compare,
    demo,
    doctor,
    gallery,
    heal,
    history,
    jobs,
    lint,
    maintain,
    measure,
    produce,
    project,
    quarantine,
    runs,
    scenario,
    schedule,
    show,
    topic,
    verify,
    whatif,
    whole,
)
from twinrun.cli.output import Output, in_words, standard_output
from twinrun.errors import EXIT_ERROR, EXIT_INTERRUPTED, InputError, TwinrunError

app = typer.Typer(
    name="twinrun",
    help="Run one job definition as batch and as stream on Spark, and prove why every differing row differs.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for each in (
    doctor,
    project,
    produce,
    scenario,
    lint,
    whole,
    runs,
    schedule,
    quarantine,
    verify,
    show,
    history,
    whatif,
    heal,
    compare,
    jobs,
    measure,
    advise,
    gallery,
    demo,
):
    app.add_typer(each.commands)
app.add_typer(broker.commands, name="broker", help="The development broker: a real Kafka on this machine.")
app.add_typer(topic.commands, name="topic", help="Kafka by hand: list, describe, read and write topics.")
app.add_typer(maintain.commands, name="maintain", help="Compact tables, remove old files and rows, erase a key.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code is 0, 1 (differs), 2 (error) or 130 (interrupted).

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; by default those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    debug = "--debug" in given or os.environ.get("TWINRUN_DEBUG") == "1"
    with standard_output(only_json=as_json) as stdout, _signals_interrupt():
        return guarded(Output(stdout, as_json=as_json, debug=debug), lambda out: _parsed(given, out))


def guarded(out: Output, work: Callable[[Output], int]) -> int:
    """The error boundary: do the work, and turn whatever it raises into words and an exit code."""
    try:
        code = work(out)
    except TwinrunError as error:
        out.error(error)
        return error.exit_code
    except typer.TyperException as error:
        out.error(_usage_error(error))
        return EXIT_ERROR
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except Exception as error:
        out.unexpected(in_words(error), error)
        return EXIT_ERROR
    if code == EXIT_INTERRUPTED:
        out.interrupted()
    return code


def _parsed(arguments: list[str], out: Output) -> int:
    program = typer.main.get_command(app)
    return int(program.main(arguments or ["--help"], prog_name="twinrun", standalone_mode=False, obj=out) or 0)


def _usage_error(error: typer.TyperException) -> InputError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "twinrun"
    said = error.format_message()
    return InputError(said if said.endswith(("?", ".")) else f"{said}.", fix=f"look at: {path} --help")


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does, so that what it started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    wanted = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        try:
            number = version("twinrun")
        except PackageNotFoundError:
            number = "not installed"
        context.obj.result({"version": number}, [f"twinrun {number}"])
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""
