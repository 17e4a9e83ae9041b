"""``twinrun broker start|stop|status``: the development broker."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from twinrun.broker.files import LOOPBACK, BrokerFiles
from twinrun.broker.process import BrokerInfo, broker_status, start_broker, stop_broker
from twinrun.cli.call import Call, command
from twinrun.cli.live import step
from twinrun.config.model import Config
from twinrun.errors import EXIT_DIFFERENT, EXIT_OK
from twinrun.session.settings import cache_dir

commands = typer.Typer()


@command(commands, "start", "twinrun broker start --port 9092")
def start(
    call: Call,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Client port. [default: that of the configuration]")
    ] = None,
) -> int:
    """Start the development broker on 127.0.0.1 and wait until it answers; one that runs already is left alone."""
    cfg = call.config()
    folder = data_dir(cfg)
    with step(call.out, "starting the broker"):
        info = start_broker(folder, port=port or _usual_port(cfg, folder))
    call.out.result({"running": True, **_payload(info)}, [f"broker at {info.bootstrap_servers}, process {info.pid}"])
    if info.bootstrap_servers != cfg.kafka.bootstrap_servers:
        call.out.note(
            f"note: {call.conf_file} says {cfg.kafka.bootstrap_servers}; "
            f"add --set kafka.bootstrap_servers={info.bootstrap_servers} to the commands that should use this broker"
        )
    return EXIT_OK


@command(commands, "stop", "twinrun broker stop")
def stop(call: Call) -> int:
    """Stop the development broker; its topics, port and log are kept."""
    with step(call.out, "stopping the broker"):
        was_running = stop_broker(data_dir(call.config()))
    call.out.result({"was_running": was_running}, ["broker stopped" if was_running else "no broker was running"])
    return EXIT_OK


@command(commands, "status", "twinrun broker status --json")
def status(call: Call) -> int:
    """Say whether the development broker runs; exit code 0 when it does, 1 when it does not."""
    info = broker_status(data_dir(call.config()))
    if info is None:
        call.out.result({"running": False}, ["no broker runs; start it with: twinrun broker start"])
        return EXIT_DIFFERENT
    lines = [
        f"broker at {info.bootstrap_servers}, process {info.pid}",
        f"  data  {info.data_dir}",
        f"  log   {info.log_file}",
    ]
    call.out.result({"running": True, **_payload(info)}, lines)
    return EXIT_OK


def data_dir(cfg: Config) -> Path:
    """The broker's folder: as configured, else in the user's cache."""
    return Path(cfg.broker.data_dir) if cfg.broker.data_dir else cache_dir() / "broker"


def _usual_port(cfg: Config, folder: Path) -> int | None:
    """The port of the configuration for a first start; later the broker keeps the one that it had."""
    host, _, port = cfg.kafka.bootstrap_servers.rpartition(":")
    first = not BrokerFiles(folder.absolute()).record.exists()
    return int(port) if first and host in (LOOPBACK, "localhost") else None


def _payload(info: BrokerInfo) -> dict[str, object]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(info).items()}
