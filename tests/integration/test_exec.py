# SPDX-License-Identifier: Apache-2.0
"""Programs that exec with an environment of their own are followed all the same."""

from __future__ import annotations

from harness import Record, target

LEAVES = """
    SELECT p.pid, sum(s.alloc_count), sum(s.alloc_bytes)
    FROM process p JOIN site s USING (pid) JOIN frame f USING (stack_id)
    WHERE f.depth = 0 AND f.function = 'exec_leaf' GROUP BY p.pid
"""


def test_every_way_to_exec(record: Record) -> None:
    """execl, execlp, execle, execveat, execve without any, and cleared environments."""
    run = record(target("execs")).expect(0)
    rows = run.rec.expect_whole().rows(LEAVES)
    assert len(rows) == int(run.words("children")[0][0])
    assert {tuple(row)[1:] for row in rows} == {(3, 1035)}
