"""Jars are taken only as they were locked, and the network is used only once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from twinrun.errors import InputError, MachineError
from twinrun.session import jars
from twinrun.session.jars import JarSet, LockedJar, locked_set, read_lock
from twinrun.session.java import JavaHome

JAVA = JavaHome(Path("/java"), Path("/java/bin/java"), "17.0.15", "PATH")
GOOD = {"one": b"first jar", "two": b"second jar"}


def locked(artifact: str) -> LockedJar:
    content = GOOD[artifact]
    return LockedJar("org.example", artifact, "1.0", hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a lock of two jars, and no way to any network."""
    monkeypatch.setenv("TWINRUN_CACHE", str(tmp_path / "cache"))
    small = JarSet("spark", (locked("one"), locked("two")), "d" * 64)
    monkeypatch.setattr(jars, "locked_set", lambda name: small)
    monkeypatch.setattr(jars, "download", no_network)
    monkeypatch.setattr(jars, "find_java", lambda: JAVA)
    return tmp_path / "cache" / "jars"


def no_network(*_: object) -> None:
    raise AssertionError("the network was used")


def offer(folder: Path, **contents: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for artifact, content in contents.items():
        (folder / f"{artifact}-1.0.jar").write_bytes(content)
    return folder


def serving(**contents: bytes) -> Callable[..., None]:
    """A download that gives these contents."""

    def download(wanted: Sequence[LockedJar], into: Path, *_: object) -> None:
        for jar in wanted:
            (into / jar.file_name).write_bytes(contents[jar.artifact])

    return download


def test_good_jars_are_kept_and_never_fetched_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "download", serving(**GOOD))
    first = jars.fetch_jars("spark")
    monkeypatch.setattr(jars, "download", no_network)
    assert jars.fetch_jars("spark") == jars.jar_paths("spark") == jars.verify_jars("spark") == first
    assert [path.read_bytes() for path in first] == list(GOOD.values())


@pytest.mark.parametrize("bad", [b"other jar", b"first jar and more", b""])
def test_a_jar_that_is_not_the_locked_one_is_refused_and_not_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes
) -> None:
    monkeypatch.setattr(jars, "download", serving(one=bad, two=GOOD["two"]))
    with pytest.raises(MachineError, match=r"org\.example:one:1\.0 is refused: it is not the jar that was locked"):
        jars.fetch_jars("spark")
    assert list(cache.rglob("*")) == []
    with pytest.raises(MachineError, match="not in the cache"):
        jars.jar_paths("spark")


def test_jars_can_come_from_a_folder(cache: Path, tmp_path: Path) -> None:
    paths = jars.fetch_jars("spark", from_dir=offer(tmp_path / "usb", **GOOD))
    assert [path.name for path in paths] == ["org.example_one-1.0.jar", "org.example_two-1.0.jar"]


def test_a_tampered_jar_in_a_folder_is_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="is refused"):
        jars.fetch_jars("spark", from_dir=offer(tmp_path / "usb", one=b"First jar", two=GOOD["two"]))
    assert list(cache.rglob("*.jar")) == []


def test_a_folder_that_lacks_a_jar_is_named(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"usb has no two-1\.0\.jar"):
        jars.fetch_jars("spark", from_dir=offer(tmp_path / "usb", one=GOOD["one"]))


def test_a_jar_of_another_size_or_none_is_found_without_hashing(cache: Path, tmp_path: Path) -> None:
    one, two = jars.fetch_jars("spark", from_dir=offer(tmp_path / "usb", **GOOD))
    one.write_bytes(b"short")
    with pytest.raises(MachineError, match=r"one-1\.0\.jar in the jar cache has 5 bytes, the lock says 9"):
        jars.jar_paths("spark")
    two.unlink()
    one.write_bytes(GOOD["one"])
    with pytest.raises(MachineError, match=r"two-1\.0\.jar is missing from the jar cache"):
        jars.jar_paths("spark")


def test_a_damaged_cache_is_replaced_as_a_whole(cache: Path, tmp_path: Path) -> None:
    usb = offer(tmp_path / "usb", **GOOD)
    one, _ = jars.fetch_jars("spark", from_dir=usb)
    one.unlink()
    jars.fetch_jars("spark", from_dir=usb)
    assert one.read_bytes() == GOOD["one"]
    assert [folder.name for folder in cache.iterdir()] == ["spark-dddddddddddd"]


def test_the_full_check_finds_what_the_cheap_one_cannot(cache: Path, tmp_path: Path) -> None:
    one, _ = jars.fetch_jars("spark", from_dir=offer(tmp_path / "usb", **GOOD))
    one.write_bytes(b"First jar")
    # The control: same size, same stamp.
    assert jars.jar_paths("spark")
    with pytest.raises(MachineError, match="is refused"):
        jars.verify_jars("spark")
    with pytest.raises(MachineError, match="not in the cache"):
        jars.jar_paths("spark")


def test_the_shell_command_ends_with_2_and_one_sentence(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jars.main(["--set", "spark", "--from-dir", str(tmp_path)]) == 2
    assert "has no one-1.0.jar" in capsys.readouterr().err
    assert jars.main(["--set", "spark", "--from-dir", str(offer(tmp_path / "usb", **GOOD))]) == 0


def test_the_lock_of_this_version_is_complete() -> None:
    spark, broker = locked_set("spark"), locked_set("broker")
    assert {"delta-spark_4.2_2.13", "spark-sql-kafka-0-10_2.13"} <= {jar.artifact for jar in spark.jars}
    assert "kafka_2.13" in {jar.artifact for jar in broker.jars}
    assert spark.digest != broker.digest
    with pytest.raises(InputError, match="no set of jars called 'sparks'"):
        locked_set("sparks")


def test_the_digest_names_the_content_not_the_order() -> None:
    lines = [f"org.example:{name}:1.0 {locked(name).sha256} {locked(name).size}" for name in GOOD]
    ordered = read_lock("\n".join(["# note", "[a]", *lines]))["a"]
    assert ordered.digest == read_lock("\n".join(["[a]", *reversed(lines)]))["a"].digest
    assert ordered.digest != read_lock("\n".join(["[a]", lines[0]]))["a"].digest
    assert ordered.jars == (locked("one"), locked("two"))


@pytest.mark.parametrize(
    "line", ["g:a:1 abc 5", "g:a " + "0" * 64 + " 5", "g:a:1 " + "0" * 64, "g:a:1 " + "0" * 64 + " x"]
)
def test_a_line_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(InputError, match="line 2 cannot be read"):
        read_lock(f"[a]\n{line}\n")


def test_ivy_is_given_no_address_but_the_mirror_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(jars.MIRROR_VARIABLE, raising=False)
    assert "://" not in jars._settings_xml(Path("/cache"))
    monkeypatch.setenv(jars.MIRROR_VARIABLE, "https://mirror.example/a&b")
    assert 'root="https://mirror.example/a&amp;b/"' in jars._settings_xml(Path("/cache"))


def test_what_cannot_be_downloaded_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def only_the_first(wanted: Sequence[LockedJar], into: Path, *_: object) -> None:
        (into / locked("one").file_name).write_bytes(b"x")

    monkeypatch.setattr(jars, "_run_ivy", only_the_first)
    absent = replace(locked("two"), version="2.0")
    with pytest.raises(
        MachineError, match=r"1 of 2 jars could not be downloaded, first org\.example:two:2\.0"
    ) as caught:
        jars.download([locked("one"), absent], tmp_path, JAVA, print)
    assert jars.MIRROR_VARIABLE in caught.value.fix
