# SPDX-License-Identifier: Apache-2.0
"""Every cmocka program of tests/unit: as built, and under the sanitizers."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "tests" / "unit").glob("test_*.c"))
TIMEOUT = 300
SANITIZERS = {
    # cmocka would turn a crash into a plain failure: the report says more.
    "ASAN_OPTIONS": "handle_segv=2:handle_abort=2:allocator_may_return_null=1"
    ":detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


def run(binary: Path) -> None:
    assert binary.exists(), f"{binary} is not built: run 'make check'"
    done = subprocess.run(
        [binary],
        cwd=ROOT,
        env={**os.environ, **SANITIZERS},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    ran = re.search(r"(\d+) test\(s\) run", output)
    assert done.returncode == 0, f"status {done.returncode}\n{output[-6000:]}"
    assert ran, f"no tests in it\n{output[-6000:]}"
    assert int(ran[1]) > 0, output


@pytest.mark.parametrize("name", NAMES)
def test_unit(name: str) -> None:
    run(ROOT / "build" / "tests" / "unit" / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_address_and_undefined(name: str) -> None:
    run(ROOT / "build" / "asan" / "tests" / "unit" / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_thread(name: str) -> None:
    run(ROOT / "build" / "tsan" / "tests" / "unit" / name)
