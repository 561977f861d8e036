# SPDX-License-Identifier: Apache-2.0
"""Sampled recordings, the program's side: which blocks are samples, and their ends.

With an interval of one byte a block of some dozen bytes is missed once in 10^5 years:
then a sampled recording must say what an exact one says, by quite another way.
"""

from __future__ import annotations

import pytest
from harness import Record, Recording, Result, target

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
