"""Download exactly the jars of a lock with the Ivy that pyspark ships; no Maven is needed.

Each jar is asked for by name, without its POM and its dependencies: the lock already lists them all, and so
one request per jar is enough. The address of Maven Central is Ivy's own default.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

from twinrun.errors import MachineError
from twinrun.session.jarlock import LockedJar
from twinrun.session.java import JavaHome
from twinrun.session.trust import trust_options

MIRROR_VARIABLE = "TWINRUN_MAVEN_MIRROR"
_ATTEMPTS = 3
_LIMIT_S = 900
_REPORT_EVERY = 10
_FIX = (
    f"check the network and run it again, set {MIRROR_VARIABLE} to the address of a mirror, "
    "or copy the jars to a folder and run: python -m twinrun.session.jars --from-dir FOLDER"
)


def download(jars: Sequence[LockedJar], into: Path, java: JavaHome, progress: Callable[[str], None]) -> None:
    """Download ``jars`` to the folder ``into`` under their cache names; nothing is verified by SHA-256 here.

    Raises
    ------
    MachineError
        Some jar is still missing after three attempts. What was downloaded stays in ``into``.
    """
    with tempfile.TemporaryDirectory(prefix="ivy-", dir=into) as work:
        options = _proxy_options()
        for attempt in range(_ATTEMPTS):
            missing = _missing(jars, into)
            if not missing:
                return
            if attempt == 1:
                options += trust_options(Path(work))
            _run_ivy(missing, into, Path(work), [str(java.binary), *options], progress)
    missing = _missing(jars, into)
    if missing:
        raise MachineError(
            f"{len(missing)} of {len(jars)} jars could not be downloaded, first {missing[0].coordinate}.", fix=_FIX
        )


def _missing(jars: Sequence[LockedJar], folder: Path) -> list[LockedJar]:
    return [jar for jar in jars if not (folder / jar.file_name).exists()]


def _run_ivy(
    jars: Sequence[LockedJar], into: Path, work: Path, java: list[str], progress: Callable[[str], None]
) -> None:
    (work / "settings.xml").write_text(_settings_xml(work / "cache"), encoding="utf-8")
    (work / "ivy.xml").write_text(_module_xml(jars), encoding="utf-8")
    pattern = f"{into}/[organisation]_[artifact]-[revision].[ext]"
    command = [*java, f"-Divy.default.ivy.user.dir={work}", "-jar", str(_ivy_jar())]
    command += ["-settings", str(work / "settings.xml"), "-ivy", str(work / "ivy.xml")]
    command += ["-confs", "default", "-retrieve", pattern, "-types", "jar", "bundle"]
    done = 0
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            for line in process.stdout or ():
                if "[SUCCESSFUL ]" in line:
                    done += 1
                    if done % _REPORT_EVERY == 0:
                        progress(f"{done} of {len(jars)} jars")
            process.wait(timeout=_LIMIT_S)
        finally:
            process.kill()


def _ivy_jar() -> Path:
    import pyspark

    folder = Path(pyspark.__file__).parent / "jars"
    found = sorted(folder.glob("ivy-*.jar"))
    if not found:
        raise MachineError("pyspark has no Ivy jar.", expected=f"ivy-*.jar in {folder}", fix="install pyspark again")
    return found[-1]


def _settings_xml(cache: Path) -> str:
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    root = f" root={quoteattr(mirror.rstrip('/') + '/')}" if mirror else ""
    return (
        '<ivysettings><settings defaultResolver="central"/>'
        f"<caches defaultCacheDir={quoteattr(str(cache))}/>"
        f'<resolvers><ibiblio name="central" m2compatible="true" usepoms="false" '
        f'useMavenMetadata="false" checksums="sha1"{root}/></resolvers></ivysettings>\n'
    )


def _module_xml(jars: Sequence[LockedJar]) -> str:
    wanted = "".join(
        f"<dependency org={quoteattr(jar.group)} name={quoteattr(jar.artifact)} rev={quoteattr(jar.version)} "
        'transitive="false" conf="default->default"/>'
        for jar in jars
    )
    return (
        '<ivy-module version="2.0"><info organisation="twinrun" module="jars"/>'
        f'<configurations><conf name="default"/></configurations><dependencies>{wanted}</dependencies>'
        "</ivy-module>\n"
    )


def _proxy_options() -> list[str]:
    """Java does not read the proxy variables that every other tool reads."""
    options = []
    for scheme in ("http", "https"):
        value = os.environ.get(f"{scheme}_proxy") or os.environ.get(f"{scheme.upper()}_PROXY") or ""
        address = urlsplit(value if "//" in value else f"//{value}")
        if address.hostname:
            options += [f"-D{scheme}.proxyHost={address.hostname}", f"-D{scheme}.proxyPort={address.port or 3128}"]
    return options
