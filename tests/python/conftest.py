# SPDX-License-Identifier: Apache-2.0
"""What the tests of the package share: a recording with known numbers, and neap."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made import ROOT, make_sample

PACKAGE = ROOT / "build/python"
Answer = subprocess.CompletedProcess[str]
sys.path.insert(0, str(PACKAGE))


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """See made.make_sample for its numbers."""
    return make_sample(tmp_path / "sample.neap")


@pytest.fixture
def neap() -> Callable[..., Answer]:
    """Run `neap WORDS`; standard output and error come back as text."""

    def run(*words: object, **environment: str) -> Answer:
        return subprocess.run(
            [str(ROOT / "build/bin/neap"), *map(str, words)],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def fails(neap: Callable[..., Answer]) -> Callable[..., str]:
    """Run `neap WORDS`, which must fail as bad input does; the line it says."""

    def run(*words: object, **environment: str) -> str:
        answer = neap(*words, **environment)
        assert answer.stdout == ""
        assert answer.stderr.startswith("neap: ")
        assert answer.stderr.count("\n") == 1
        assert answer.stderr.endswith("\n")
        assert "Traceback" not in answer.stderr
        assert "internal error" not in answer.stderr
        assert answer.returncode == 2
        return answer.stderr

    return run
