# SPDX-License-Identifier: Apache-2.0
"""Modes, the program's side: which blocks are recorded, and their ends.

With an interval of one byte a block of some dozen bytes is missed once in 10^5 years:
then a sampled recording must say what an exact one says, by quite another way.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from harness import (
    NEAP,
    NEAPD,
    Record,
    Recording,
    Result,
    clean_environment,
    collector_of,
    execute,
    target,
    wait_until,
)
from test_allocators import LIBRARIES, library

EVERY_BLOCK = ("--interval", "1")


def whole(rec: Recording) -> Recording:
    assert rec.loss() == {}
    assert rec.one("SELECT mode FROM recording") == "sampled"
    return rec


def check_counts(run: Result, rec: Recording) -> None:
    """Blocks as they are; bytes too, but that weights are whole and even numbers."""
    for name, allocs, allocated, frees, freed in run.words("site"):
        found = rec.site(name)
        for what, count, size in (
            ("alloc", int(allocs), int(allocated)),
            ("free", int(frees), int(freed)),
        ):
            if count >= 0:
                assert found[f"{what}_count"] == count, name
                assert abs(found[f"{what}_bytes"] - size) <= count, name


@pytest.mark.parametrize(
    "words",
    [
        ("handoff", "queue"),
        ("handoff", "race"),
        ("threads", "names"),
        ("threads", "short", "300"),
        ("control_flow", "throw"),
        ("control_flow", "coroutines"),
        ("control_flow", "signals"),
        ("stacks",),
        ("dlreuse",),
        ("lifetimes",),
    ],
    ids="-".join,
)
def test_every_block_is_as_exact(record: Record, words: tuple[str, ...]) -> None:
    run = record(target(*words), options=EVERY_BLOCK).expect(0)
    rec = whole(run.rec)
    check_counts(run, rec)
    assert rec.process()["foreign_free_count"] == 0


@pytest.mark.parametrize("mode", [("handoff", "race"), ("entry_points_cxx", "forms")])
@pytest.mark.parametrize("name", LIBRARIES)
def test_over_another_allocator(
    record: Record, name: str, mode: tuple[str, ...]
) -> None:
    """One sample a call, whatever the allocator calls in turn."""
    env = {"LD_PRELOAD": library(name)}
    run = record(target(*mode), options=EVERY_BLOCK, env=env).expect(0)
    rec = whole(run.rec)
    check_counts(run, rec)
    assert name in rec.process()["allocator"]


def test_stacks_are_the_programs(record: Record) -> None:
    """A sample's stack begins with the program's call, like an exact event's."""
    run = record(target("stacks"), options=EVERY_BLOCK).expect(0)
    rec = whole(run.rec)
    for size, first, *_ in run.words("frames"):
        rows = rec.rows("SELECT stack_id FROM live WHERE size = ?", int(size))
        assert len(rows) == 1
        frame = rec.frames(rows[0]["stack_id"])[0]
        assert f"{frame['function']}:{frame['line']}" == first.replace("*", "")


def test_verified(record: Record) -> None:
    env = {"NEAP_VERIFY": "1"}
    run = record(target("stress", "20"), options=EVERY_BLOCK, env=env).expect(0)
    process = whole(run.rec).process()
    if process["verified"] == 0:
        pytest.skip("no libunwind.so.8 here to compare with")
    assert process["verify_differences"] == 0


def test_a_seed_repeats_a_run(record: Record) -> None:
    """The same blocks of the same program, and others with another seed."""
    found = []
    for seed in ("7", "7", "8"):
        rec = record(
            target("peak", "recursion"),
            options=["--interval", "3000"],
            env={"NEAP_SEED": seed},
        ).rec
        found.append(
            [
                tuple(row)
                for row in whole(rec).rows(
                    "SELECT alloc_count, alloc_bytes, live_bytes FROM site "
                    "ORDER BY 1, 2, 3"
                )
            ]
        )
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("way", ["vfork", "spawn", "popen"])
def test_children(record: Record, way: str) -> None:
    run = record(target("processes", way), options=EVERY_BLOCK).expect(0)
    ((pid, count),) = run.words("leaf")
    assert whole(run.rec).site("leaf_work", int(pid))["live_count"] == int(count)


def test_a_forked_child_samples_for_itself(record: Record) -> None:
    """Blocks of its parent are none of its own, freed or not; the parent keeps them."""
    run = record(target("processes", "forks", "100"), options=EVERY_BLOCK).expect(0)
    rec = whole(run.rec)
    for pid, count in run.words("leaf"):
        assert rec.site("leaf_work", int(pid))["live_count"] == int(count)
        assert rec.process(int(pid))["foreign_free_count"] == 0
    assert rec.site("busy_block")["live_count"] == 0


def watched(path: Path, *words: str, **env: str) -> list[str]:
    """Run `phases`, dormant but in its second phase; what the switch said."""
    argv = [NEAPD, "run", "-q", "--dormant", "-o", path, *words]
    process = subprocess.Popen(
        [str(word) for word in argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(env),
    )
    said = []
    assert process.stdin is not None
    assert process.stdout is not None
    for wish in ("on", "off"):
        assert process.stdout.readline() == b"ready\n"
        said.append(execute([NEAP, "switch", path, wish]).expect(0).stdout)
        process.stdin.write(b".")
        process.stdin.flush()
    assert process.wait(60) == 0
    process.stdin.close()
    process.stdout.close()
    wait_until(lambda: collector_of(path) is None, "the collector's end")
    return said


@pytest.mark.parametrize("child", [(), ("fork",)], ids=["same", "child"])
@pytest.mark.parametrize("interval", ["exact", "1"])
@pytest.mark.parametrize("allocator", ["app", "neap"])
def test_switched_on_for_a_while(
    tmp_path: Path, allocator: str, interval: str, child: tuple[str, ...]
) -> None:
    """What was allocated meanwhile is followed to its end, and nothing else."""
    path = tmp_path / "w.neap"
    options = ("--interval", interval, "--allocator", allocator)
    watched(path, *options, "--", *target("phases", *child))
    rec = Recording(path)
    assert rec.loss() == {}
    assert rec.site("first_phase")["alloc_count"] == 0
    assert rec.site("third_phase")["alloc_count"] == 0
    second = rec.site("second_phase")
    assert second["alloc_count"] == 200
    assert abs(second["alloc_bytes"] - 200 * 1000 - 199 * 100) <= 200
    assert second["free_count"] == 200
    assert rec.rows("SELECT * FROM live") == []
    rec.close()


def test_dormant_to_the_end(record: Record) -> None:
    """Recorded: the process. Not recorded: anything it did."""
    run = record(target("threads", "names"), options=["--dormant"]).expect(0)
    rec = run.rec
    assert rec.loss() == {}
    assert rec.process()["exit_code"] == 0
    for table in ("site", "live", "map_event", "module"):
        assert rec.one(f"SELECT count(*) FROM {table}") == 0, table
