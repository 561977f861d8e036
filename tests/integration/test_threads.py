# SPDX-License-Identifier: Apache-2.0
"""Threads: hand-overs, races, short lives, names, the loader's lock."""

from __future__ import annotations

import os

import pytest
from harness import Record, check_sites, target


def test_freed_by_another_thread(record: Record) -> None:
    run = record(target("handoff", "queue")).expect(0)
    check_sites(run, run.rec.expect_whole())


@pytest.mark.parametrize("tcache", ["0", "7"])
def test_realloc_race(record: Record, tcache: str) -> None:
    """An address given up by one thread is at once another's: not one false leak."""
    env = {"GLIBC_TUNABLES": f"glibc.malloc.tcache_count={tcache}"}
    run = record(target("handoff", "race"), env=env).expect(0)
    rec = run.rec.expect_whole()
    check_sites(run, rec)
    for name in ("race_alloc", "race_realloc"):
        assert rec.site(name)["live_count"] == 0
    assert rec.process()["foreign_free_count"] == 0


def test_short_threads(record: Record) -> None:
    run = record(target("threads", "short", "1200")).expect(0)
    check_sites(run, run.rec.expect_whole())
    tids = run.rec.one("SELECT count(*) FROM thread WHERE pid = ?", run.rec.main_pid)
    assert tids == 1201


def test_lanes_are_used_again(record: Record) -> None:
    """Ten times as many threads as there are lanes, some at a time."""
    run = record(target("threads", "rounds", "10000")).expect(0)
    check_sites(run, run.rec.expect_whole())
    assert run.rec.process()["foreign_free_count"] == 0


def test_lanes_are_used_again_by_samples(record: Record) -> None:
    """The same, sampled: nothing is lost, and the estimates are about right."""
    run = record(
        target("threads", "rounds", "10000"),
        options=["--interval", "512"],
        env={"NEAP_SEED": "1"},
    ).expect(0)
    rec = run.rec
    assert rec.loss() == {}
    row = rec.rows(
        "SELECT sum(alloc_bytes) AS bytes, sum(alloc_variance) AS variance, "
        "sum(live_bytes) AS live, sum(live_variance) AS live_variance FROM site "
        "WHERE stack_id IN (SELECT stack_id FROM frame WHERE function = 'round_work')"
    )[0]
    (_, _, bytes_made, _, bytes_freed) = run.words("site")[0]
    live = int(bytes_made) - int(bytes_freed)
    # Which threads come first is the machine's affair: six standard deviations.
    assert abs(row["bytes"] - int(bytes_made)) < 6 * row["variance"] ** 0.5
    assert abs(row["live"] - live) < 6 * row["live_variance"] ** 0.5


def test_more_threads_than_lanes(record: Record) -> None:
    """What a thread without a lane does is counted as lost, not forgotten."""
    count = 1100
    limit = os.sysconf("SC_THREAD_THREADS_MAX")
    if 0 < limit < count + 100:
        pytest.skip(f"only {limit} threads are allowed here")
    run = record(target("threads", "crowd", str(count))).expect(0)
    rec = run.rec
    events = 2 * int(run.words("site")[0][1])
    found = rec.site("crowd_work")
    lost = sum(n for what, n in rec.loss().items() if what in ("events", "lanes"))
    # A thread that found a lane later gives back blocks that were never recorded.
    lost += rec.process()["foreign_free_count"]
    assert found["alloc_count"] + found["free_count"] + lost >= events
    if lost == 0:
        check_sites(run, rec)


def test_names(record: Record) -> None:
    run = record(target("threads", "names")).expect(0)
    rec = run.rec.expect_whole()
    check_sites(run, rec)
    names = {row["name"] for row in rec.rows("SELECT name FROM thread")}
    assert {f"worker-{i}" for i in range(5)} <= names
    assert "threads" in names


def test_loaders_lock(record: Record) -> None:
    """Allocations under dl_iterate_phdr beside first walks of fresh stacks."""
    run = record(target("dl_iterate"), timeout=90).expect(0)
    check_sites(run, run.rec.expect_whole())


def test_lives_edges(record: Record) -> None:
    """Constructors, destructors, atexit, thread-local destructors."""
    run = record(target("lifetimes")).expect(0)
    check_sites(run, run.rec.expect_whole(), at_least=10)
