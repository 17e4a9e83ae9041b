"""Every error that twinrun raises on purpose.

TwinrunError            exit code 2; says what was found, what was expected, what to do
├── ConfigError         conf/*.yaml, --set or the environment
├── JobError            a job file or its definition (all problems together)
├── MachineError   Java, jars, ports, disk
├── BrokerError         Kafka cannot be reached, a topic is missing
├── TableError          a Delta or Parquet table is missing or has another shape
├── CheckpointError     a checkpoint is held, foreign, damaged or incompatible
├── DataLossError       offsets that should be there are not
├── QueryError          a Spark query or job failed; the Java cause in one sentence
└── InputError          a command-line value
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_DIFFERENT = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


class TwinrunError(Exception):
    """A failure that the user can act on.

    Parameters
    ----------
    found : str
        What is wrong, in one plain sentence.
    expected : str, optional
        What would have been right.
    fix : str, optional
        What to do next, ideally a command.
    """

    exit_code = EXIT_ERROR

    def __init__(self, found: str, *, expected: str = "", fix: str = "") -> None:
        self.found = found
        self.expected = expected
        self.fix = fix
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The message as shown to a user, one part per line."""
        parts = [self.found]
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.fix:
            parts.append(f"to fix: {self.fix}")
        return "\n  ".join(parts)


class ConfigError(TwinrunError):
    """A configuration file, ``--set`` or environment value is wrong."""


class JobError(TwinrunError):
    """A job file or its definition is wrong; ``found`` lists every problem."""


class MachineError(TwinrunError):
    """The machine lacks something: Java, jars, a free port, disk space."""


class BrokerError(TwinrunError):
    """Kafka cannot be reached or lacks what the job needs."""


class TopicError(BrokerError):
    """Kafka answers, and has no such topic."""


class TableError(TwinrunError):
    """A table is missing or has another shape than expected."""


class CheckpointError(TwinrunError):
    """A checkpoint is held by another run, foreign, damaged or incompatible."""


class DataLossError(TwinrunError):
    """Offsets that should be readable are gone."""


class QueryError(TwinrunError):
    """Spark failed; the Java cause is reduced to one sentence."""


class InputError(TwinrunError):
    """A command-line value cannot be used."""
