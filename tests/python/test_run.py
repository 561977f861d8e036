# SPDX-License-Identifier: Apache-2.0
"""neap run: finds neapd and becomes it, with the words as they were given."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

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
