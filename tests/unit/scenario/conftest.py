"""Commands run here as in the tests of the other commands."""

from tests.unit.cli.conftest import project, run

__all__ = ["project", "run"]
