# SPDX-License-Identifier: Apache-2.0
"""The peak and who made it, temporaries."""

from __future__ import annotations

import pytest
from harness import Record, Recording, Result, check_sites, neap_json, target


def check_shares(run: Result, rec: Recording) -> None:
    lines = run.words("peak")
    assert lines
    for name, size, blocks in lines:
        found = rec.site(name)
        assert (found["peak_bytes"], found["peak_count"]) == (int(size), int(blocks)), (
            f"share of {name}"
        )


@pytest.mark.parametrize("mode", ["phases", "recursion", "threads"])
def test_peak(record: Record, mode: str) -> None:
    run = record(target("peak", mode)).expect(0)
    rec = run.rec.expect_whole()
    check_sites(run, rec)
    check_shares(run, rec)
    process = rec.process()
    assert process["peak_bytes"] == rec.one("SELECT sum(peak_bytes) FROM site")
    assert process["peak_count"] == rec.one("SELECT sum(peak_count) FROM site")
    answer = neap_json("report", run.path)
    assert answer["metric"] == "peak"
    assert answer["total"]["value"] == process["peak_bytes"]
    assert sum(row["value"] for row in answer["rows"]) <= process["peak_bytes"]


def test_peak_is_not_allocated_or_live(record: Record) -> None:
    """Nothing but the two phases is in a program without libraries."""
    rec = record(target("peak", "phases")).expect(0).rec
    assert rec.process()["peak_bytes"] == 220000
    assert rec.process()["peak_count"] == 8
    assert rec.process()["live_bytes"] == 200000
    assert rec.process()["live_count"] == 1


def test_crowd(record: Record) -> None:
    run = record(target("threads", "crowd", "150")).expect(0)
    check_sites(run, run.rec.expect_whole())
    check_shares(run, run.rec)


def test_temporaries(record: Record) -> None:
    run = record(target("peak", "temporaries")).expect(0)
    check_sites(run, run.rec.expect_whole())
    for name, count in run.words("temporary"):
        assert run.rec.site(name)["temporary_count"] == int(count), name
    answer = neap_json("report", run.path, "--metric", "temporary")
    assert answer["total"]["count"] == run.rec.one(
        "SELECT sum(temporary_count) FROM site"
    )
