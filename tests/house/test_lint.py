# SPDX-License-Identifier: Apache-2.0
"""What 'make lint' says, one test a tool."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("tool", ["format", "tidy", "ruff", "mypy", "stub"])
def test_lint(tool: str) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "-k", f"-j{os.cpu_count()}", f"lint-{tool}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=1200,
        check=False,
    )
    lines = done.stdout.decode(errors="replace").splitlines()
    said = [line for line in lines if not line.startswith(("  TIDY", "  CC"))]
    assert done.returncode == 0, "\n".join(said[-200:])
