"""Java programs of engines/java and of the tests, compiled against a set of engines/jars.lock."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from twinrun.errors import MachineError
from twinrun.session.jars import fetch_set, read_lock
from twinrun.session.java import find_java

ROOT = Path(__file__).resolve().parents[2]


def compiled(jar_set: str, sources: list[str], classes: Path) -> str:
    """The class path of these programs; the test is skipped where they cannot be compiled or their jars not be had."""
    javac = find_java().binary.resolve().parent / "javac"
    if not javac.exists():
        pytest.skip(f"{javac} is not there: this needs a JDK, not only a JRE")
    try:
        jars = fetch_set(read_lock((ROOT / "engines/jars.lock").read_text(encoding="utf-8"))[jar_set])
    except MachineError as error:
        # A jar that is another than the lock's is no reason to skip.
        if "could not be downloaded" not in str(error):
            raise
        pytest.skip(error.sentence())
    path = os.pathsep.join(str(jar) for jar in jars)
    files = [str(ROOT / source) for source in sources]
    subprocess.run([str(javac), "-cp", path, "-d", str(classes), *files], check=True)
    return os.pathsep.join([str(classes), path])


def java_command(classpath: str, program: str, *arguments: str) -> list[str]:
    """A small program: 256 MiB, and warnings only where its logger is SLF4J's own."""
    options = ["-Xmx256m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return [str(find_java().binary), *options, "-cp", classpath, program, *arguments]
