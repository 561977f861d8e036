# SPDX-License-Identifier: Apache-2.0
"""Events one by one: they add up to what the collector has added up by itself."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pytest
from harness import BUILD, NEAP, Record, Run, execute, neap_json, target

LIBRARY = BUILD.parent / "build" / "lib" / "libneapsql.so"
METRICS = ("live", "peak", "allocated", "temporary")

PYTHON = """
import json, threading
def work():
    for i in range(300):
        json.loads(json.dumps({str(k): [k] * 20 for k in range(20)}))
threads = [threading.Thread(target=work) for _ in range(3)]
for t in threads: t.start()
for t in threads: t.join()
"""
PERL = 'my %h; push @{$h{$_ % 97}}, "x" x ($_ % 50) for 1 .. 9000; print scalar %h'

# Sizes by chance, so that chunks stay large.
RETAINED = """
srand(1); my @a;
for my $i (1 .. 400000) { $a[rand 5000] = "x" x rand 3000; }
print scalar @a;
"""

PROGRAMS: dict[str, tuple[list[str], dict[str, str]]] = {
    "entry_points": (target("entry_points"), {}),
    "handoff": (target("handoff", "queue"), {}),
    "race": (target("handoff", "race"), {}),
    "forks": (target("processes", "forks", "9"), {}),
    "perl": (["perl", "-e", PERL], {}),
    "python": ([sys.executable, "-I", "-c", PYTHON], {"PYTHONMALLOC": "malloc"}),
}


def load(run: Run) -> None:
    """Have the view event in the recording's connection."""
    if not hasattr(run.rec.db, "enable_load_extension"):
        pytest.skip("this Python's sqlite3 cannot load extensions")
    run.rec.db.enable_load_extension(True)
    run.rec.db.load_extension(str(LIBRARY))


def check_numbers(run: Run) -> None:
    """Every event is there, with its number, in order."""
    for process in run.rec.processes():
        rows = run.rec.rows(
            "SELECT count(*), coalesce(min(number), 0), coalesce(max(number) + 1, 0),"
            " count(*) FILTER (WHERE size IS NULL) FROM neap_events WHERE process = ?",
            process["id"],
        )
        count, first, end, unknown = rows[0]
        assert count == end == process["event_count"]
        assert first == process["event_first"] == 0
        assert unknown == process["foreign_free_count"]


def check_sites(run: Run) -> None:
    """Sums over events are the rows of raw_site."""
    sums = run.rec.rows(
        "SELECT process, stack_id, count(*) FILTER (WHERE a), sum(size * a),"
        " count(*) FILTER (WHERE f) - count(*) FILTER (WHERE u),"
        " sum(size * (f - u)), sum(temporary * (f - u)),"
        " sum(temporary * size * (f - u))"
        " FROM (SELECT *, op IN ('alloc', 'realloc_alloc') AS a,"
        " op IN ('free', 'realloc_free') AS f, op = 'realloc_fail' AS u"
        " FROM (SELECT *, process FROM neap_events)) WHERE size IS NOT NULL"
        " GROUP BY process, stack_id ORDER BY process, stack_id"
    )
    sites = run.rec.rows(
        "SELECT process, stack, alloc_count, alloc_bytes, free_count, free_bytes,"
        " temporary_count, temporary_bytes FROM raw_site ORDER BY process, stack"
    )
    assert [tuple(row) for row in sums] == [tuple(row) for row in sites]


def check_peaks(run: Run) -> None:
    """The highest sum on the way through the events is the peak, and where it is."""
    height: dict[int, int] = defaultdict(int)
    peak: dict[int, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for process, ts, op, size, number in run.rec.db.execute(
        "SELECT process, ts_ns, op, size, number FROM neap_events"
    ):
        if size is None:
            continue
        height[process] += -size if op in ("free", "realloc_free") else size
        if height[process] > peak[process][0]:
            peak[process] = (height[process], ts, number + 1)
    for process in run.rec.processes():
        found = (process["peak_bytes"], process["peak_ns"], process["peak_event"])
        assert found == peak[process["id"]]
        assert process["live_bytes"] == height[process["id"]]


def rows_of(answer: dict[str, object]) -> list[str]:
    """The rows of a report, in an order that equal values leave open."""
    rows = answer["rows"]
    assert isinstance(rows, list)
    return sorted(map(str, rows))


def check_reports(run: Run) -> None:
    """At the end is what the aggregates say, and so are threads and sizes together."""
    end = run.rec.one("SELECT duration_ns FROM recording")
    for metric in METRICS:
        words = ("report", run.path, "--metric", metric, "--limit", "0")
        plain = neap_json(*words)
        at_end = neap_json(*words, "--at", f"{end / 1e9:.9f}")
        assert at_end["total"] == plain["total"]
        assert rows_of(at_end) == rows_of(plain)
        for by in ("thread", "size"):
            assert neap_json(*words, "--by", by)["total"] == plain["total"]
        assert (
            neap_json(*words, *FROM_START)["total"]["value"]
            == (plain["total"]["value"])
        )


@pytest.mark.parametrize("name", PROGRAMS)
def test_sums(record: Record, name: str) -> None:
    command, env = PROGRAMS[name]
    run = record(command, env=env)
    run.rec.expect_whole()
    load(run)
    check_numbers(run)
    check_sites(run)
    check_peaks(run)
    check_reports(run)


# A window that leaves nothing out, for which a peak is looked for in the events.
FROM_START = ("--from", "0.000000001")


@pytest.mark.parametrize("name", ["perl", "python", "forks"])
def test_samples(record: Record, name: str) -> None:
    """Of samples the events tell what the collector has worked out: the same sums."""
    command, env = PROGRAMS[name]
    run = record(command, env=env, options=["--interval", "2K"])
    load(run)
    check_numbers(run)
    assert run.rec.one("SELECT mode FROM recording") == "sampled"
    assert run.rec.one("SELECT sum(weight) > sum(size) FROM event") == 1
    words = ("report", run.path, "--limit", "0", "--metric")
    end = run.rec.one("SELECT duration_ns FROM recording")
    for metric in METRICS:
        plain = neap_json(*words, metric)
        assert plain["total"]["ci95"] > 0
        others = [("--at", f"{end / 1e9:.9f}"), ("--by", "thread"), ("--by", "size")]
        for more in [*others, FROM_START]:
            found = neap_json(*words, metric, *more)
            assert found["total"]["value"] == plain["total"]["value"], (metric, more)
            assert found["total"]["ci95"] == pytest.approx(plain["total"]["ci95"])
            # Counts of rows are rounded.
            spread = len(plain["rows"]) + len(found["rows"])
            difference = found["total"]["count"] - plain["total"]["count"]
            assert abs(difference) <= spread, (metric, more)
        at_end = neap_json(*words, metric, *others[0])
        assert [r["value"] for r in at_end["rows"]] == [
            r["value"] for r in plain["rows"]
        ]


def middle(run: Run) -> float:
    """A time with half of the events before it, in seconds."""
    ts = run.rec.one(
        "SELECT ts_ns FROM event ORDER BY number LIMIT 1 OFFSET"
        " (SELECT count(*) / 2 FROM event)"
    )
    return float(ts) / 1e9


def test_windows_add_up(record: Record) -> None:
    """What two halves allocate is what the whole does."""
    command, env = PROGRAMS["python"]
    run = record(command, env=env)
    load(run)
    half = f"{middle(run):.9f}"
    for metric in ("allocated", "temporary"):
        words = ("report", run.path, "--metric", metric)
        parts = [
            neap_json(*words, *more)["total"]
            for more in (["--to", half], ["--from", half], [])
        ]
        for key in ("value", "count"):
            assert parts[0][key] + parts[1][key] == parts[2][key]
    # What the first half leaves and the second adds and does not free.
    words = ("report", run.path, "--metric", "live", "--from", half)
    born = neap_json(*words)["total"]
    ((count, size),) = run.rec.rows(
        "SELECT count(*), coalesce(sum(size), 0) FROM live WHERE ts_ns > ?",
        round(float(half) * 1e9),
    )
    assert (born["count"], born["value"]) == (count, size)


def refused(path: Path, *words: str) -> str:
    result = execute([NEAP, "report", path, *words]).expect(2)
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("most", ["100K", "300K"])
def test_retention(record: Record, most: str) -> None:
    """The oldest events go, the totals stay, and what is gone is said."""
    run = record(["perl", "-e", RETAINED], options=["--max-size", most]).expect(0)
    load(run)
    process = run.rec.process()
    count = run.rec.one("SELECT count(*) FROM event")
    assert 0 < process["event_first"] == process["event_count"] - count
    totals = run.rec.totals(1)
    allocated = neap_json("report", run.path, "--metric", "allocated")["total"]
    assert allocated["value"] == totals["alloc_bytes"]
    assert totals["alloc_count"] + totals["free_count"] > count
    end = run.rec.one("SELECT duration_ns FROM recording") / 1e9
    words = ("report", run.path, "--metric", "live", "--limit", "0")
    plain = neap_json(*words)
    assert rows_of(neap_json(*words, "--at", f"{end:.9f}")) == rows_of(plain)
    held = process["event_first_ns"] / 1e9
    assert neap_json(*words, "--at", f"{held:.9f}")["total"]["value"] > 0
    line = refused(run.path, "--metric", "live", "--at", f"{held - 0.000001:.9f}")
    assert "no longer holds what process" in line
    assert f"{held:.9f}".rstrip("0") in line


def test_no_events_kept(record: Record) -> None:
    run = record(target("entry_points"), options=("--max-size", "0"))
    run.rec.expect_whole()
    assert run.rec.one("SELECT count(*) FROM raw_events") == 0
    assert neap_json("report", run.path)["total"]["value"] > 0
    start = run.rec.process()["start_ns"] / 1e9
    assert "--max-size" in refused(run.path, "--at", f"{start + 1e-6:.9f}")
