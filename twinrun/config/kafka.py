"""How Kafka is reached: one set of options, read by two clients that spell security differently."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PrivateAttr, field_validator

from twinrun.config.problems import Problem, several
from twinrun.config.secrets import needs_reference, read_secret
from twinrun.config.values import Options, Servers, literal_secrets
from twinrun.errors import ConfigError

_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


@dataclass(frozen=True, repr=False)
class SecretReader:
    """Reads references at the moment of use. It has no repr, since it holds a whole environment."""

    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    root: Path = field(default_factory=Path.cwd)

    def read(self, section: str, options: Mapping[str, str]) -> dict[str, str]:
        """The options with every secret reference replaced by its value."""
        return {
            key: read_secret(value, f"{section}.{key}", self.env, self.root) if needs_reference(key, value) else value
            for key, value in options.items()
        }

    def secrets(self, section: str, options: Mapping[str, str]) -> tuple[str, ...]:
        """Values of the secret options that can be read now; for masking them in texts."""
        found = []
        for key, value in options.items():
            if needs_reference(key, value):
                try:
                    found.append(read_secret(value, f"{section}.{key}", self.env, self.root))
                except ConfigError:
                    continue
        return tuple(found)

    def __reduce__(self) -> tuple[type[SecretReader], tuple[()]]:
        # A pickled configuration must not carry the environment of this machine to another one.
        return (SecretReader, ())


class Kafka(BaseModel):
    """The brokers and the client options.

    Parameters
    ----------
    bootstrap_servers : str
        ``host:port``, several separated by commas.
    options : dict of str to str
        Kafka client options without the prefix ``kafka.``; secrets as ``${env:NAME}`` or ``file:/path``.
        ``sasl.username``, ``sasl.password`` and ``ssl.ca.location`` serve both clients.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap_servers: Servers
    options: Options = {}
    _reader: SecretReader = PrivateAttr(default_factory=SecretReader)

    @field_validator("options")
    @classmethod
    def _sound_options(cls, options: dict[str, str]) -> dict[str, str]:
        problems = literal_secrets("kafka.options", options)
        for key in options:
            name = f"kafka.options.{key}"
            if key.startswith("kafka."):
                short = f"kafka.options.{key.removeprefix('kafka.')}"
                problems.append(Problem((key,), f"{name} has the prefix of Spark", fix=f"write {short}"))
            if key in ("bootstrap.servers", "metadata.broker.list"):
                problems.append(Problem((key,), f"{name} has a key of its own", fix="write kafka.bootstrap_servers"))
            if key.removeprefix("kafka.") == "isolation.level":
                found = f"{name} would count for some commands and not for others; each source has its own"
                problems.append(Problem((key,), found, fix=f"write sources.NAME.isolation_level: {options[key]}"))
        if problems:
            raise several(problems)
        return options

    def client_options(self) -> dict[str, str]:
        """The options as declared, with ``bootstrap.servers`` and the secrets resolved.

        The result holds secrets: hand it to a client, never to a log.

        Raises
        ------
        ConfigError
            A reference cannot be resolved.
        """
        return {"bootstrap.servers": self.bootstrap_servers, **self._reader.read("kafka.options", self.options)}

    def spark_options(self) -> dict[str, str]:
        """The options for Spark's Kafka source and sink: Java names, each with the prefix ``kafka.``."""
        return {f"kafka.{key}": value for key, value in java_options(self.client_options()).items()}

    def confluent_options(self) -> dict[str, str]:
        """The options for confluent-kafka."""
        return librdkafka_options(self.client_options())

    def secret_values(self) -> tuple[str, ...]:
        """Values that must not be seen, as far as they can be read now; for ``redact_text``."""
        return self._reader.secrets("kafka.options", self.options)


def java_options(options: Mapping[str, str]) -> dict[str, str]:
    """Options for the Java client: user and password as a JAAS text, a PEM file of authorities as trust store."""
    made = dict(options)
    if "sasl.mechanisms" in made:
        made.setdefault("sasl.mechanism", made.pop("sasl.mechanisms"))
    user, password = made.pop("sasl.username", None), made.pop("sasl.password", None)
    if user is not None and password is not None and "sasl.jaas.config" not in made:
        module = _LOGIN_MODULES.get(made.get("sasl.mechanism", ""))
        if module is None:
            raise ConfigError(
                "kafka.options has sasl.username, but no sasl.mechanism that takes a user and a password",
                expected=f"one of {', '.join(_LOGIN_MODULES)}",
            )
        made["sasl.jaas.config"] = f"{module} required username={_quoted(user)} password={_quoted(password)};"
    authorities = made.pop("ssl.ca.location", None)
    if authorities is not None and "ssl.truststore.location" not in made:
        made |= {"ssl.truststore.location": authorities, "ssl.truststore.type": "PEM"}
    return made


def librdkafka_options(options: Mapping[str, str]) -> dict[str, str]:
    """Options for librdkafka, which refuses Java's spelling of logins and trust stores."""
    made = dict(options)
    jaas = made.pop("sasl.jaas.config", None)
    if jaas is not None and "sasl.username" not in made and made.get("sasl.mechanism") in _LOGIN_MODULES:
        raise ConfigError(
            "kafka.options has sasl.jaas.config, which confluent-kafka cannot read",
            fix="give kafka.options.sasl.username and kafka.options.sasl.password; Spark's text is made from them",
        )
    store, kind = made.pop("ssl.truststore.location", None), made.pop("ssl.truststore.type", "JKS")
    made.pop("ssl.truststore.password", None)
    if store is not None and "ssl.ca.location" not in made:
        if kind.upper() != "PEM":
            raise ConfigError(
                f"kafka.options has a trust store of type {kind}, which confluent-kafka cannot read",
                fix="give kafka.options.ssl.ca.location, a PEM file; Spark's trust store is made from it",
            )
        made["ssl.ca.location"] = store
    return made


def _quoted(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ConfigError("a Kafka user or password holds a line break, which a JAAS text cannot carry")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
