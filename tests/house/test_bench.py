# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run, and their page says what the numbers say. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests/bench"


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


def samples(*seconds: tuple[float, float], **more: float) -> list[dict[str, Any]]:
    """One a round: CPU of the target, CPU in all."""
    return [
        {"round": i, "target_s": target, "whole_s": whole, **more}
        for i, (target, whole) in enumerate(seconds)
    ]


def program(name: str, group: str = "suite", **more: Any) -> dict[str, Any]:
    return {"name": name, "group": group, **more}


CANNED = {
    "when": "2026-01-02",
    "machine": "2 CPUs",
    "versions": {"heaptrack": "1.4.0"},
    "quick": False,
    "tools": ["plain", "dormant", "exact", "heaptrack"],
    "missing": {"memray": "not installed"},
    "programs": [
        program(
            "loop, depth 40",
            pairs=1_000_000,
            loop=True,
            samples={
                "plain": samples((1.0, 1.0), (2.0, 2.0), (1.0, 1.0)),
                # Within each round 0.1 s more, though the rounds differ.
                "exact": samples(
                    (1.1, 1.3), (2.1, 2.3), (1.1, 1.3), events=2e6, file_bytes=8e6
                ),
                "heaptrack": samples((1.8, 2.0), (2.8, 3.0), (1.8, 2.0)),
            },
        ),
        program(
            "malloc loop",
            pairs=100_000_000,
            samples={
                "plain": samples((1.0, 1.0), (1.0, 1.0), (1.0, 1.0)),
                "dormant": samples((1.1, 1.1), (1.12, 1.12), (1.3, 1.3)),
            },
        ),
        program(
            "sqlite3",
            samples={"plain": samples((1.0, 1.0)), "dormant": samples((1.02, 1.02))},
            failed={"heaptrack": "ended with status 134"},
        ),
        *(
            program(
                f"{millions} M events",
                "events",
                pairs=millions * 500_000,
                point=millions * 1_000_000,
                samples={
                    "plain": samples((0.0, 0.0)),
                    "exact": samples(
                        (millions * 0.02, millions * 0.07), events=millions * 1e6
                    ),
                },
            )
            for millions in (1, 200)
        ),
    ],
    "answers": [
        {
            "events": 10_000_000,
            "question": "report --metric peak",
            "seconds": [0.2, 0.9, 0.1],
            "file_bytes": 1,
        }
    ],
}


def test_page(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(CANNED))
    text = run("page.py", str(path))
    rows: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows.setdefault(cells[0], cells[1:])
    target = "exact, CPU added in the target, depth 40, over heaptrack's"
    assert rows[target] == ["≤ 0.200", "0.125 (loop, depth 40)", "yes"]
    whole = "exact, CPU added in all with the collector, over heaptrack's"
    assert rows[whole] == ["≤ 0.250", "0.300 (loop, depth 40)", "**no**"]
    assert rows["dormant, malloc loop, added to a pair"][1:] == [
        "1.20 ± 0.20 ns",
        "yes",
    ]
    assert rows["dormant, sqlite3, over plain"][1:] == ["1.020 ± 0.000", "**no**"]
    assert rows["dormant, gcc -O2, over plain"][1:] == ["-", "not measured"]
    size = rows["file, bytes an event over the suite"]
    assert size[1:] == ["4.00 (at most 4.00, loop, depth 40)", "**no**"]
    rate = rows["collector, events in a second of one core, sustained"]
    assert rate[1:] == ["20.0 M (200 M events)", "yes"]
    growth = rows["growth, cost of an event in the target, with events"]
    assert growth[1].startswith("1.00 (20 ns with 1 M events")
    assert rows["`report --metric peak` on 10 M events"][1:] == ["0.20 s", "yes"]
    assert "- Without memray: not installed." in text
    assert "- sqlite3: heaptrack failed: ended with status 134" in text


def test_run(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    words = ["--quick", "--rounds", "1", "--programs", "loop,C++"]
    text = run("bench.py", *words, "--tools", "plain,exact", "--json", str(path))
    results = json.loads(path.read_text())
    assert results["programs"]
    for found in results["programs"]:
        assert found["failed"] == {}
        assert [len(s) for s in found["samples"].values()] == [1, 1]
        if found["pairs"]:
            assert found["samples"]["exact"][0]["events"] >= 2 * found["pairs"]
        assert f"| {found['name']} |" in text
