# SPDX-License-Identifier: Apache-2.0
"""The fuzzers: every kept input, then new ones for FUZZ_SECONDS in all (30)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "tests" / "fuzz").glob("fuzz_*.c"))
SECONDS = max(1, int(os.environ.get("FUZZ_SECONDS", "30")) // max(1, len(SOURCES)))

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", [source.stem for source in SOURCES])
def test_fuzz(name: str) -> None:
    fuzzer = ROOT / "build" / "fuzz" / name
    corpus = ROOT / "tests" / "fuzz" / "corpus" / name
    found = ROOT / "build" / "fuzz" / "found" / name
    assert fuzzer.exists(), f"{fuzzer} is not built: run 'make check'"
    assert corpus.is_dir(), f"{corpus} holds no seed"
    assert any(corpus.iterdir()), f"{corpus} holds no seed"
    found.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            fuzzer,
            f"-max_total_time={SECONDS}",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-max_len=65536",
            f"-artifact_prefix={found.parent}/{name}-",
            "-print_final_stats=1",
            found,
            corpus,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS + 120,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output[-6000:]
    assert "stat::number_of_executed_units" in output, output[-2000:]
