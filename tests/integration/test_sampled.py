# SPDX-License-Identifier: Apache-2.0
"""Samples against what an exact recording of the same program says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from harness import NEAPD, Record, Recording, execute, neap_json, target

METRICS = {
    "allocated": "sum(alloc_bytes), sum(alloc_variance)",
    "live": "sum(live_bytes), sum(live_variance)",
    "peak": "sum(peak_bytes), sum(peak_variance)",
    "temporary": "sum(temporary_bytes), sum(temporary_variance)",
}
Z = 1.959963984540054


def totals(rec: Recording) -> dict[str, tuple[float, float]]:
    """Each metric's total and its variance."""
    return {
        metric: tuple(x or 0 for x in rec.rows(f"SELECT {columns} FROM site")[0])
        for metric, columns in METRICS.items()
    }


def half_width(variance: float, interval: int) -> float:
    """As schema/base/weigh.h has it."""
    return Z * math.sqrt(variance + Z * Z * interval**2 / 4) + Z * Z * interval / 2


def sampled(path: Path, interval: int, seed: int, *command: str) -> Recording:
    path.unlink(missing_ok=True)
    execute(
        [NEAPD, "run", "-q", "-o", path, "--interval", interval, "--", *command],
        env={"NEAP_SEED": str(seed)},
    ).expect(0)
    return Recording(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "interval"),
    [("small", 8 << 10), ("large", 512 << 10), ("mixed", 64 << 10)],
)
def test_totals_are_covered(
    record: Record, tmp_path: Path, sizes: str, interval: int
) -> None:
    """By their 95 % interval in at least 93 of 100 runs with different samples."""
    exact = totals(record(target("sizes", sizes)).expect(0).rec.expect_whole())
    missed = dict.fromkeys(METRICS, 0)
    for seed in range(1, 101):
        rec = sampled(tmp_path / "s.neap", interval, seed, *target("sizes", sizes))
        assert rec.loss() == {}
        assert rec.one("SELECT mode FROM recording") == "sampled"
        for metric, (value, variance) in totals(rec).items():
            width = half_width(variance, interval)
            missed[metric] += abs(value - exact[metric][0]) > width
        rec.close()
    assert max(missed.values()) <= 7, missed


def test_one_seed_one_recording(tmp_path: Path) -> None:
    """The same samples with the same seed, others with another.

    Not the peak: which half a sample is in hangs on its address.
    """
    seen = []
    for seed in (7, 7, 8):
        rec = sampled(tmp_path / "s.neap", 32 << 10, seed, *target("sizes", "mixed"))
        found = totals(rec)
        seen.append([found[m][0] for m in ("allocated", "live", "temporary")])
        rec.close()
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_interval_of_one_byte_is_nearly_exact(record: Record, tmp_path: Path) -> None:
    """Blocks of some bytes do not escape: sums to a fraction of a percent."""
    exact = totals(record(target("sizes", "large")).expect(0).rec)
    got = totals(sampled(tmp_path / "s.neap", 1, 1, *target("sizes", "large")))
    for metric in METRICS:
        assert got[metric][0] == pytest.approx(exact[metric][0], rel=1e-3), metric


def test_report_says_how_sure_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.neap"
    sampled(path, 64 << 10, 3, *target("sizes", "mixed")).close()
    answer = neap_json("report", path, "--metric", "allocated")
    assert answer["recording"]["mode"] == "sampled"
    assert answer["recording"]["interval"] == 64 << 10
    assert 0 < answer["total"]["ci95"] < answer["total"]["value"]
    assert all(row["ci95"] > 0 for row in answer["rows"])


def test_killed(record: Record) -> None:
    """What was live when the kernel killed it, and nothing that was freed."""
    run = record(target("ends", "kill"), options=["--interval", "1"], settle=True)
    assert run.rec.process()["exit_kind"] == "signaled"
    assert run.rec.loss() == {}
    for name, allocs, _, frees, _ in run.words("site"):
        found = run.rec.site(name)
        assert found["alloc_count"] == int(allocs), name
        assert found["live_count"] == int(allocs) - int(frees), name


def test_adapt_raises_the_interval(record: Record) -> None:
    """And the sums stay where they are: each sample knows its own interval."""
    command = target("steady", "3", "1000000", "0")
    options = ["--interval", "64", "--policy", "adapt"]
    rec = record(command, options=options).expect(21).rec
    exact = record(command, options=["--max-size", "0"]).expect(21).rec
    process = rec.process()
    assert rec.one("SELECT interval FROM recording") == 64
    assert process["interval"] > 64
    assert process["interval"] % 64 == 0
    # Lanes that were full before it was raised: counted, and the totals say so.
    lost = rec.one("SELECT coalesce(sum(bytes), 0) FROM loss")
    value, variance = totals(rec)["allocated"]
    width = half_width(variance, process["interval"])
    assert abs(value - totals(exact)["allocated"][0]) <= 1.5 * width + 64 * lost


def test_drop_keeps_frees(record: Record) -> None:
    """Samples that find no room are counted; what is live at the end is right."""
    options = ["--interval", "16", "--policy", "drop"]
    run = record(target("steady", "2", "400000", "0"), options=options).expect(21)
    ((_, allocs, size, frees, freed),) = run.words("site")
    found = run.rec.site("steady_block")
    live = int(size) - int(freed)
    if not run.rec.loss():
        assert found["alloc_bytes"] == pytest.approx(int(size), rel=0.05)
        assert found["live_bytes"] == pytest.approx(live, rel=0.05)
    else:
        assert found["live_bytes"] <= live * 1.05
    assert int(allocs) > int(frees)
