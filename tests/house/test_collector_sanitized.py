# SPDX-License-Identifier: Apache-2.0
"""Integration tests once more, with a neapd that was built with the sanitizers.

libneap.so in the target is the plain one: a sanitizer's run-time would have to come
before it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build" / "asan"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["exact", "ends", "processes", "threads", "modules"])
def test_integration(name: str, tmp_path: Path) -> None:
    assert (TREE / "bin" / "neapd").exists(), "not built: run 'make check'"
    environment = {
        **os.environ,
        "NEAP_BUILD": str(TREE),
        "ASAN_OPTIONS": f"log_path={tmp_path}/report:handle_segv=2:handle_abort=2",
        "UBSAN_OPTIONS": f"log_path={tmp_path}/report:print_stacktrace=1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"tests/integration/test_{name}.py"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
        check=False,
    )
    reports = [path.read_text() for path in sorted(tmp_path.glob("report*"))]
    assert not reports, "\n".join(reports)[:8000]
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output[-6000:]
    assert re.search(r"\d+ passed", output), output[-2000:]
