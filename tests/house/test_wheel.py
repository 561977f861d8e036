# SPDX-License-Identifier: Apache-2.0
"""'pip install .' in a clean clone gives neap, neapd and the package, complete."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def run(
    *words: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NEAP", "PYTHON"))}
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=kept,
        cwd=cwd,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the package in it; its name has a space, as some do."""
    work = tmp_path_factory.mktemp("wheel here")
    # What git would give someone: the tracked files as they are now.
    names = run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            target = work / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(
        *pip, "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", work / "dist",
        work / "source",
    )  # fmt: skip
    (wheel,) = (work / "dist").iterdir()
    assert "-cp311-abi3-linux_" in wheel.name
    environment = work / "env"
    venv.create(environment, with_pip=False, symlinks=True)
    run(*pip, "--python", environment, "install", "-q", "--no-index", wheel)
    return environment


def test_commands_have_one_version(installed: Path) -> None:
    neap = run(installed / "bin" / "neap", "--version").stdout.split()
    neapd = run(installed / "bin" / "neapd", "--version").stdout.split()
    module = run(
        installed / "bin" / "python", "-c", "import neaptide as n; print(n.__version__)"
    ).stdout.strip()
    assert neap == ["neap", module]
    assert neapd == ["neapd", module]


def test_the_view_event_comes_along(installed: Path) -> None:
    (library,) = installed.glob("lib/python3*/site-packages/neaptide/lib/libneapsql.so")
    assert library.is_file()


def test_a_program_is_recorded_and_reported(installed: Path, tmp_path: Path) -> None:
    neap = installed / "bin" / "neap"
    file = tmp_path / "true.neap"
    run(neap, "run", "--quiet", "-o", file, "--", "sh", "-c", "exit 0")
    report = json.loads(run(neap, "report", file, "--json").stdout)
    assert report["recording"]["exit"] == {"kind": "exited", "code": 0}
    assert report["loss"] == {"events": 0, "bytes": 0, "stacks": 0, "complete": True}
