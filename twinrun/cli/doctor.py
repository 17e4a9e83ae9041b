"""``twinrun doctor``: is everything there, and if not, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.health import Finding, config_findings, machine_findings
from twinrun.cli.live import step
from twinrun.cli.output import columns
from twinrun.errors import EXIT_ERROR, EXIT_OK, TwinrunError

commands = typer.Typer()


@command(commands, "doctor", "twinrun doctor --conf conf/kafka.yaml")
def doctor(call: Call) -> int:
    """Check Java, jars, Python, packages, ports, disk, jobs, warehouse, broker and topics, and say what to do."""
    with step(call.out, "looking"):
        findings = [*machine_findings(), *_configured(call)]
    healthy = all(finding.ok for finding in findings)
    rows = [("ok" if finding.ok else "problem", finding.name, finding.found) for finding in findings]
    fixes = [f"  to fix {finding.name}: {finding.fix}" for finding in findings if not finding.ok and finding.fix]
    payload = {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}
    call.out.result(payload, [*columns(rows, indent=""), *fixes])
    return EXIT_OK if healthy else EXIT_ERROR


def _configured(call: Call) -> Iterator[Finding]:
    try:
        cfg = call.config()
    except TwinrunError as error:
        yield Finding("configuration", False, error.found, error.fix)
        return
    yield Finding("configuration", True, str(cfg.file))
    yield from config_findings(cfg)
