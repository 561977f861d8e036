# SPDX-License-Identifier: Apache-2.0
"""neap run: finds neapd and becomes it, with the words as they were given."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made import ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]

WORDS = ["-o", "a b.neap", "--policy=drop", "--", "prog", "--help", "", "ü\n", "--json"]


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A neapd that writes its words and its pid, and ends with 77."""
    path = tmp_path / "neapd"
    path.write_text(
        "#!/usr/bin/python3\n"
        "import json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.getpid()]))\n"
        "sys.exit(77)\n"
    )
    path.chmod(0o755)
    return path


def test_words_and_status_are_passed_through(neap: Run, fake: Path) -> None:
    answer = neap("run", *WORDS, NEAP_NEAPD=str(fake))
    assert answer.returncode == 77
    assert answer.stderr == ""
    words, _ = json.loads(answer.stdout)
    assert words == ["run", *WORDS]


def test_it_becomes_neapd(fake: Path) -> None:
    from test_cli import NEAP

    process = subprocess.Popen(
        [NEAP, "run", "--", "x"],
        env={"NEAP_NEAPD": str(fake), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = process.communicate(timeout=60)
    assert json.loads(out)[1] == process.pid


def test_no_neapd(neap: Run, tmp_path: Path) -> None:
    no_program = tmp_path / "text"
    no_program.write_text("text")
    for path in (tmp_path / "missing", tmp_path, no_program):
        answer = neap("run", "--", "true", NEAP_NEAPD=str(path))
        assert answer.returncode == 125
        assert answer.stdout == ""
        assert answer.stderr.startswith(f"neap: cannot start neapd: {path}: ")
        assert answer.stderr.endswith(
            "; set NEAP_NEAPD to its path, or unset it to use neap's own\n"
        )
        assert answer.stderr.count("\n") == 1


def test_wrong_usage_of_the_real_one(neap: Run) -> None:
    answer = neap("run", "--frobnicate", "--", "true")
    assert answer.returncode == 2
    assert answer.stderr.startswith("neap: ")
    assert answer.stderr.count("\n") == 1
    answer = neap("run", "--help")
    assert answer.returncode == 0
    assert answer.stdout.startswith("usage: neap run ")
    assert "example:\n  neap run" in answer.stdout


LAUNCHERS = {
    "build": [str(ROOT / "build/bin/neap")],
    "python": [sys.executable, "-m", "neaptide"],
}


def recorded(launcher: str, out: Path, script: str, **variables: str) -> str | int:
    """Record a shell script in a small environment; what it wrote, or its status."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "build/python")}
    answer = subprocess.run(
        [*LAUNCHERS[launcher], "run", "-q", "-o", out, "--", "/bin/sh", "-c", script],
        env=environment | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.stderr == ""
    return answer.stdout or answer.returncode


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_signals_and_environment_are_the_callers(tmp_path: Path, launcher: str) -> None:
    out = tmp_path / "x.neap"
    ignored = ["sh", "-c", "grep SigIgn /proc/self/status"]
    plain = subprocess.run(ignored, capture_output=True, text=True, check=True).stdout
    assert recorded(launcher, out, ignored[2]) == plain
    assert recorded(launcher, tmp_path / "y.neap", "kill -PIPE $$") == 141
    seen = recorded(launcher, tmp_path / "z.neap", "env", LANG="C", ODD="a=b ü")
    assert isinstance(seen, str)
    names = seen.splitlines()
    assert "LANG=C" in names
    assert "ODD=a=b ü" in names
    assert not [name for name in names if name.startswith("LC_")]


def test_launcher_needs_nothing_in_path(neap: Run, sample: Path) -> None:
    link = sample.with_name("neap link")
    link.symlink_to(ROOT / "build/bin/neap")
    for name in (str(ROOT / "build/bin/neap"), str(link)):
        answer = subprocess.run(
            [name, "report", str(sample)],
            env={**os.environ, "PATH": "/nonexistent"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert answer.stderr == ""
        assert answer.returncode == 0
        assert "Peak: 1.1 KiB" in answer.stdout
