# SPDX-License-Identifier: Apache-2.0
"""Children of all kinds: each under its own pid with its own numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Record, Recording, Result, check_sites, target

LEAF = 333


def check_leaves(run: Result, rec: Recording, expected: int) -> list[int]:
    """Every "leaf PID COUNT" line against the process of that pid."""
    leaves = [(int(pid), int(count)) for pid, count in run.words("leaf")]
    assert len(leaves) == expected
    for pid, count in leaves:
        found = rec.site("leaf_work", pid)
        assert (found["alloc_count"], found["alloc_bytes"]) == (count, count * LEAF), (
            f"pid {pid}"
        )
        assert found["live_count"] == count
    return [pid for pid, _ in leaves]


def test_forks_beside_busy_threads(record: Record) -> None:
    run = record(target("processes", "forks", "300")).expect(0)
    rec = run.rec.expect_whole()
    pids = check_leaves(run, rec, 300)
    check_sites(run, rec, rec.main_pid)
    for pid in pids:
        process = rec.process(pid)
        assert process["ppid"] == rec.main_pid
        assert (process["exit_kind"], process["exit_code"]) == ("exited", 0)
    assert rec.site("busy_block")["live_count"] == 0


def test_child_has_its_parents_blocks(record: Record) -> None:
    """What a child does to blocks it inherited leaves the parent's account alone."""
    run = record(target("processes", "fork_live")).expect(0)
    rec = run.rec.expect_whole()
    (child,) = check_leaves(run, rec, 1)
    check_sites(run, rec, rec.main_pid)
    assert rec.site("childs_realloc", child)["alloc_bytes"] == 909
    assert rec.site("parents_block", child)["free_count"] == 0
    assert rec.process(child)["foreign_free_count"] == 2
    assert rec.process()["foreign_free_count"] == 0


@pytest.mark.parametrize("interval", ["exact", "64"])
def test_another_thread_of_a_child_is_first(record: Record, interval: str) -> None:
    """The thread that forked has its parent's lane, and must not write into it."""
    run = record(
        target("processes", "fork_thread"), options=["--interval", interval]
    ).expect(0)
    rec = run.rec
    assert rec.loss() == {}
    ((pid, count),) = run.words("leaf")
    found = rec.site("leaf_work", int(pid))
    if interval == "exact":
        assert found["live_count"] == int(count)
    assert rec.process(int(pid))["exit_code"] == 0


@pytest.mark.parametrize("way", ["vfork", "spawn", "system", "popen"])
def test_child(record: Record, way: str) -> None:
    run = record(target("processes", way)).expect(0)
    rec = run.rec.expect_whole()
    (pid,) = check_leaves(run, rec, 1)
    assert pid != rec.main_pid
    assert rec.process(pid)["exe"].endswith("/processes")
    assert rec.process(pid)["exit_code"] == 0
    assert rec.process()["exit_kind"] == "exited"


def test_daemon(record: Record) -> None:
    """A child that outlives the command is recorded to its own end."""
    run = record(target("processes", "daemon")).expect(0)
    rec = run.rec.expect_whole()
    daemon, parent = check_leaves(run, rec, 2)
    assert parent == rec.main_pid
    assert rec.process(daemon)["end_ns"] > rec.process()["end_ns"]


SILENT = """
#include <stdlib.h>
#include <unistd.h>
int main(void)
{
    if (fork() > 0)
        return 0;
    sleep(4); /* longer than anybody is waited for who was only started with us */
    return malloc(12345) == NULL;
}
"""


@pytest.mark.parametrize("options", [(), ("--interval", "1")])
def test_daemon_that_is_silent_at_first(
    record: Record, compile_c: Callable[..., Path], options: tuple[str, ...]
) -> None:
    """A forked process says HELLO with its first allocation, however late."""
    program = compile_c(SILENT)
    rec = record([program], options=options).expect(0).rec
    assert rec.loss() == {}
    assert len(rec.processes()) == 2
    child = next(row for row in rec.processes() if row["pid"] != rec.main_pid)
    assert (child["exit_kind"], child["live_count"]) == ("exited", 1)


def test_no_follow(record: Record) -> None:
    run = record(target("processes", "spawn"), options=["--no-follow"]).expect(0)
    assert [row["pid"] for row in run.rec.processes()] == [run.rec.main_pid]
    run = record(target("processes", "forks", "3"), options=["--no-follow"]).expect(0)
    assert [row["pid"] for row in run.rec.processes()] == [run.rec.main_pid]
    check_sites(run, run.rec)


def test_pipeline(record: Record, tmp_path: Path) -> None:
    """A shell's children, in a pipe and in the background."""
    leaf = " ".join(target("processes", "leaf"))
    script = f"{leaf} 3 | cat; {leaf} 4 & wait; ({leaf} 5); exec {leaf} 6"
    run = record(["/bin/sh", "-c", script]).expect(0)
    check_leaves(run, run.rec.expect_whole(), 4)


def test_many_quick_children(record: Record) -> None:
    script = "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done; exit 4"
    run = record(["/bin/sh", "-c", script]).expect(4)
    rec = run.rec.expect_whole()
    assert rec.one("SELECT count(*) FROM process WHERE exe LIKE '%/true'") == 200
    bad = rec.one("SELECT count(*) FROM process WHERE exit_kind != 'exited'")
    assert bad == rec.one("SELECT count(*) FROM process WHERE exit_kind = 'exec'")
