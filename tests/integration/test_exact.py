# SPDX-License-Identifier: Apache-2.0
"""Counts and bytes, entry point by entry point."""

from __future__ import annotations

from pathlib import Path

import pytest
from counter import check_counter, counted, read_counter
from harness import (
    LIBNEAP,
    TARGETS,
    Record,
    check_sites,
    execute,
    neap_json,
    target,
)


def test_counter_counts(tmp_path: Path) -> None:
    """The counter itself, on a program whose whole heap is known."""
    env = {"LD_PRELOAD": str(TARGETS / "libcount.so"), "COUNT_DIR": str(tmp_path)}
    execute(target("ends", "kill"), env=env).expect(-9)
    (image,) = read_counter(tmp_path)
    size = sum(range(97, 97 + 1000))
    assert (image.allocs, image.bytes, image.frees) == (1000, size, 0)


def test_c_entry_points(record: Record) -> None:
    run = record(target("entry_points")).expect(0)
    check_sites(run, run.rec.expect_whole(), at_least=20)
    assert "c23_free_sized" in run.stdout, "free_sized is not to be had by name"
    for name in ("lib_getline", "lib_asprintf", "lib_memstream"):
        found = run.rec.site(name)
        assert found["alloc_count"] >= 1, name
        assert found["live_count"] == 0, name
        assert found["live_bytes"] == 0, name


def test_cxx_entry_points(record: Record) -> None:
    run = record(target("entry_points_cxx", "forms")).expect(0)
    check_sites(run, run.rec.expect_whole(), at_least=7)
    assert run.rec.process()["foreign_free_count"] == 0
    answer = neap_json("report", run.path, "--metric", "live", "--limit", "100")
    callers = {row["value"]: row["frames"][0]["function"] for row in answer["rows"]}
    assert callers[2003] == "cx_plain", "new's caller is who people look for"
    assert callers[2017] == "cx_array"


def test_no_record_of_failures(record: Record) -> None:
    """Sizes that nobody can have been given are nowhere; handlers run as ever."""
    bare = execute(target("entry_points_cxx", "failures")).expect(0)
    run = record(target("entry_points_cxx", "failures")).expect(0)
    assert run.stdout == bare.stdout
    check_sites(run, run.rec.expect_whole())
    rec = run.rec
    assert rec.one("SELECT count(*) FROM live WHERE size > 1 << 40") == 0
    assert rec.one("SELECT count(*) FROM site WHERE alloc_bytes > 1 << 40") == 0


@pytest.mark.parametrize("mode", ["queue", "race"])
def test_against_counter_with_threads(
    record: Record, tmp_path: Path, mode: str
) -> None:
    run = record(counted(target("handoff", mode), tmp_path)).expect(0)
    check_counter(run.rec.expect_whole(), tmp_path)


@pytest.mark.parametrize("name", ["entry_points", "entry_points_cxx", "lifetimes"])
def test_against_counter(record: Record, tmp_path: Path, name: str) -> None:
    run = record(counted(target(name), tmp_path)).expect(0)
    # Aligned new rounds its size up on the way to aligned_alloc.
    check_counter(
        run.rec.expect_whole(), tmp_path, bytes_too=name != "entry_points_cxx"
    )


def test_live_rows(record: Record) -> None:
    """Each block that is left has a row with its size, thread and stack."""
    rec = record(target("ends", "return")).expect(5).rec.expect_whole()
    rows = rec.rows("SELECT * FROM live WHERE pid = ? ORDER BY size", rec.main_pid)
    ours = [row for row in rows if "last_words" in rec.functions(row["stack_id"])]
    assert [row["size"] for row in ours] == list(range(97, 97 + 1000))
    assert len({row["address"] for row in ours}) == 1000
    assert {row["tid"] for row in ours} == {rec.main_pid}
    assert all(row["weight"] == row["size"] for row in ours)


def test_report_says_the_same(record: Record) -> None:
    """The command's totals are the views' totals."""
    run = record(target("ends", "return")).expect(5)
    total = run.rec.one("SELECT sum(live_bytes) FROM site")
    for verb in (["report", run.path, "--metric", "live"], ["leaks", run.path]):
        answer = neap_json(*verb)
        assert answer["total"]["value"] == total
        assert answer["total"]["ci95"] == 0
        assert answer["loss"] == {
            "events": 0,
            "bytes": 0,
            "stacks": 0,
            "complete": True,
        }
        assert answer["recording"]["mode"] == "exact"
        assert answer["recording"]["exit"] == {"kind": "exited", "code": 5}
        row = answer["rows"][0]
        assert (row["value"], row["count"]) == (596500, 1000)
        assert row["frames"][0]["function"] == "last_words"
    answer = neap_json("report", run.path, "--metric", "allocated")
    assert answer["total"]["value"] == run.rec.one("SELECT sum(alloc_bytes) FROM site")
    assert answer["total"]["count"] == run.rec.one("SELECT sum(alloc_count) FROM site")


def test_library_is_whole() -> None:
    """libneap.so alone, without a collector to talk to, changes nothing."""
    bare = execute(target("entry_points")).expect(0)
    with_it = execute(target("entry_points"), env={"LD_PRELOAD": str(LIBNEAP)})
    lines = [x for x in with_it.stdout.splitlines() if "c23_free_sized" not in x]
    assert lines == bare.stdout.splitlines()
    assert with_it.stderr == ""
    nowhere = {"LD_PRELOAD": str(LIBNEAP), "NEAP_SOCKET": "/nonexistent/socket"}
    assert execute(target("entry_points"), env=nowhere).expect(0).stderr == ""
