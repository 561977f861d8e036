# SPDX-License-Identifier: Apache-2.0
"""The allocator benchmark runs, and its page says what the numbers say. No time is
asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests/bench"
HEAP = ROOT / "build/bench/heap"


def run(script: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCH / script), *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def runs(
    *seconds: float, peak: int = 1000, **said: list[float]
) -> list[dict[str, Any]]:
    return [
        {
            "round": i,
            "seconds": value,
            "cpu_s": value,
            "wall_s": value,
            "peak_kib": peak,
            "said": said,
        }
        for i, value in enumerate(seconds)
    ]


def program(name: str, group: str = "one thread", **more: Any) -> dict[str, Any]:
    return {"name": name, "group": group, "time": "CPU", **more}


CANNED = {
    "when": "2026-01-02",
    "machine": "2 CPUs",
    "versions": {"glibc": "2.36"},
    "quick": False,
    "allocators": ["glibc", "mimalloc", "neaptide"],
    "missing": {"jemalloc": "its library is not installed"},
    "programs": [
        program(
            "mixed",
            runs={
                # Each round has its own speed; the ratio is the same in all.
                "glibc": runs(1.0, 2.0, 4.0, pairs=[1e8]),
                "mimalloc": runs(0.5, 1.0, 2.0, pairs=[1e8]),
                "neaptide": runs(0.6, 1.2, 2.4, peak=1210, pairs=[1e8]),
            },
        ),
        program(
            "perl",
            "real",
            runs={
                "glibc": runs(2.0),
                "mimalloc": runs(4.0),
                "neaptide": runs(0.3),
            },
        ),
        program(
            "short threads",
            "threads",
            runs={"neaptide": runs(1.0, round_kib=[50, 100, 90, 95.0])},
            failed={"mimalloc": "ended with status -11"},
        ),
        program(
            "give back, together",
            "give back",
            runs={"neaptide": runs(1.0, later=[4.2], at_once=[90.0], peak_kib=[2048])},
        ),
    ],
}


def test_page(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(CANNED))
    text = run("heap_page.py", str(path))
    rows: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows.setdefault(cells[0], cells[1:])
    # The root of 0.6 * 0.15; mimalloc's is that of 0.5 * 2.
    time = rows["geometric mean of time against glibc"]
    assert time[1:] == ["0.300, place 1 of 3 (glibc 1.000)", "yes"]
    memory = rows["geometric mean of peak RSS against glibc"]
    assert memory[1:] == ["1.100", "yes"]
    worst = rows["worst single program against the best peer"]
    assert worst[1:] == ["1.20 (mixed, against mimalloc)", "**no**"]
    assert rows["mixed sizes, 20 000 live"][1:] == ["12.0 ns", "yes"]
    assert rows["1 000 short threads with cross frees"][1:] == [
        "-5.0 % from the second quarter to the last",
        "yes",
    ]
    back = rows["resident after freeing all but 1 % of 1 GiB, 2 s later"]
    assert back[1:] == ["4.2 %", "yes"]
    assert "- Without jemalloc: its library is not installed." in text
    assert "- short threads: mimalloc failed: ended with status -11" in text


def test_run(tmp_path: Path) -> None:
    if not (HEAP / "mixed").exists():
        pytest.skip("its programs are not built: make heap-programs")
    path = tmp_path / "results.json"
    words = ["--quick", "--rounds", "1", "--programs", "fifo of 10 k of 16,batches"]
    words += ["--json", str(path), "--allocators", "glibc", "--compare"]
    text = run("heap.py", *words)
    results = json.loads(path.read_text())
    assert [found["name"] for found in results["programs"]] == [
        "fifo of 10 k of 16 B",
        "batches",
    ]
    for found in results["programs"]:
        assert found["failed"] == {}
        (one,) = found["runs"]["glibc"]
        assert one["peak_kib"] > 0
        assert one["said"]["pairs"][0] > 0
        assert f"\n{found['name']} " in text


def test_trace(tmp_path: Path) -> None:
    if not (HEAP / "replay").exists():
        pytest.skip("its programs are not built: make heap-programs")
    calls, trace = tmp_path / "calls", tmp_path / "trace"
    env = {**os.environ, "TRACE_OUT": str(calls), "PYTHONMALLOC": "malloc"}
    env["LD_PRELOAD"] = str(HEAP / "libtrace.so")
    script = "import threading; t = threading.Thread(target=list); t.start(); t.join()"
    subprocess.run([sys.executable, "-c", script], env=env, check=True, timeout=60)
    subprocess.run([HEAP / "fold", calls, trace], check=True, timeout=60)
    done = subprocess.run(
        [HEAP / "replay", trace, "3"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "\npairs " in done.stderr
