# SPDX-License-Identifier: Apache-2.0
"""Limits, namespaces, cleared environments: where a child cannot be recorded, it runs.

A program that cannot reach the collector goes on unrecorded, with the output and the
status it would have had.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import (
    NEAPD,
    Record,
    Recording,
    clean_environment,
    collector_of,
    execute,
    require_root,
    target,
    wait_until,
)

LEAF = " ".join(target("processes", "leaf"))
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


def leaves(rec: Recording) -> int:
    return rec.site("leaf_work")["alloc_count"]


def recorded_or_counted(rec: Recording, count: int) -> None:
    """All of the leaf's allocations are there, or it is counted as lost."""
    assert leaves(rec) == (0 if rec.loss().get("process") else count)


@pytest.mark.parametrize("count", [4, 5, 8])
def test_few_descriptors(record: Record, count: int) -> None:
    """Too few for the handshake, but enough for the program."""
    run = record(["/bin/sh", "-c", f"ulimit -n {count}; {LEAF} 7"]).expect(0)
    assert run.stderr == ""
    assert [word[1] for word in run.words("leaf")] == ["7"]
    recorded_or_counted(run.rec, 7)


@pytest.mark.parametrize("count", [5, 6])
def test_no_descriptor_is_left_behind(record: Record, count: int) -> None:
    script = f"ulimit -n {count}; exec {target('environment')[0]}"
    bare = execute(["/bin/sh", "-c", script]).expect(0)
    run = record(["/bin/sh", "-c", script]).expect(0)
    wanted = [x for x in bare.stdout.splitlines() if x.startswith(("fd", "next fd"))]
    assert [
        x for x in run.stdout.splitlines() if x.startswith(("fd", "next"))
    ] == wanted


@pytest.mark.parametrize("kib", [12000, 40000, 200000, 1000000])
def test_little_address_space(record: Record, kib: int) -> None:
    """Where the limit leaves no room for lanes, the program still has its own."""
    script = f"ulimit -v {kib}; {LEAF} 9; exit 2"
    bare = execute(["/bin/sh", "-c", script]).expect(2)
    assert [word[1] for word in bare.words("leaf")] == ["9"]
    run = record(["/bin/sh", "-c", script]).expect(2)
    assert run.stderr == ""
    assert [word[1] for word in run.words("leaf")] == ["9"]
    recorded_or_counted(run.rec, 9)


def test_address_space_is_the_programs(record: Record) -> None:
    """Recording takes nothing noticeable from what the limit lets a program map."""
    script = (
        "ulimit -v 2000000; exec "
        f"{PYTHON} -I -c 'import mmap; mmap.mmap(-1, 1 << 30); print(1)'"
    )
    bare = execute(["/bin/sh", "-c", script]).expect(0)
    run = record(["/bin/sh", "-c", script]).expect(0)
    assert run.stdout == bare.stdout


def test_file_size_limit_of_the_program(record: Record) -> None:
    """A limit for the program's own files is not one for what it sends us."""
    run = record(["/bin/sh", "-c", f"ulimit -f 0; {LEAF} 700"]).expect(0)
    assert leaves(run.rec.expect_whole()) == 700


def test_cleared_environment(record: Record) -> None:
    """`env -i` does not shake us off, and its child sees only what that takes."""
    script = f"env -i A=b {LEAF} 5; env -i A=b /usr/bin/env; unset LD_PRELOAD; {LEAF} 6"
    run = record(["/bin/sh", "-c", script]).expect(0)
    assert [word[1] for word in run.words("leaf")] == ["5", "6"]
    assert leaves(run.rec.expect_whole()) == 11
    names = [line.split("=")[0] for line in run.stdout.splitlines() if "=" in line]
    assert sorted(names) == ["A", "LD_PRELOAD", "NEAP_SOCKET"]


def test_all_descriptors_closed(record: Record) -> None:
    """Daemons close whatever they find; none of it was ours."""
    script = (
        "import os, ctypes; os.closerange(3, 1 << 16); libc = ctypes.CDLL(None)\n"
        "libc.malloc(ctypes.c_size_t(54321))\n"
        "pid = os.fork()\n"
        "if pid == 0: libc.malloc(ctypes.c_size_t(54322)); os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "libc.malloc(ctypes.c_size_t(54323))\n"
    )
    rec = record([PYTHON, "-I", "-c", script]).expect(0).rec.expect_whole()
    rows = rec.rows("SELECT size FROM live WHERE size BETWEEN 54321 AND 54323")
    assert sorted(row["size"] for row in rows) == [54321, 54322, 54323]


def test_privileges_dropped(record: Record) -> None:
    """A child of another user may not reach the socket; it runs all the same."""
    require_root("only root can become another user")
    script = (
        "import os, sys; os.setgid(65534); os.setuid(65534); pid = os.fork()\n"
        "if pid == 0: print('child', len([bytes(i) for i in range(999)])); "
        "sys.stdout.flush(); os._exit(3)\n"
        "print('parent', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    run = record([PYTHON, "-I", "-c", script]).expect(0)
    assert run.stdout == "child 999\nparent 3\n"
    assert run.stderr == ""
    assert run.rec.process()["exit_code"] == 0


def test_other_root(record: Record, tmp_path: Path) -> None:
    """Behind chroot the socket's path leads nowhere."""
    require_root("chroot")
    script = (
        f"import os; os.chroot({str(tmp_path)!r}); os.chdir('/'); pid = os.fork()\n"
        "if pid == 0: [bytes(i) for i in range(999)]; os._exit(3)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    run = record([PYTHON, "-I", "-c", script]).expect(0)
    assert (run.stdout, run.stderr) == ("3\n", "")


def test_pid_namespace(record: Record) -> None:
    """A container's first process is recorded under the pid that we know it by."""
    require_root("a pid namespace")
    words = ["unshare", "--pid", "--fork", "--kill-child"]
    if execute([*words, "true"]).status != 0:
        pytest.skip("no pid namespaces here")
    run = record([*words, *target("processes", "leaf", "8")]).expect(0)
    assert run.words("leaf") == [["1", "8"]]
    rec = run.rec.expect_whole()
    assert leaves(rec) == 8
    pids = [row["pid"] for row in rec.processes() if row["exe"].endswith("/processes")]
    assert pids
    assert 1 not in pids


def test_many_processes_with_threads(record: Record) -> None:
    """Many processes at once, each with several threads."""
    shares = " & ".join([f"{target('peak')[0]} threads >/dev/null"] * 12)
    run = record(["/bin/sh", "-c", f"{shares} & wait"]).expect(0)
    rec = run.rec.expect_whole()
    assert rec.site("thread_a")["alloc_count"] == 12 * 200
    assert rec.site("thread_a")["peak_bytes"] == 12 * 600000


def test_stopped_and_continued(tmp_path: Path) -> None:
    """Ctrl-Z and fg: the whole group stops and goes on."""
    path = tmp_path / "x.neap"
    words = target("steady", "60", "20", "5000")
    expected = execute(words).expect(21)
    argv = [str(w) for w in (NEAPD, "run", "--quiet", "-o", path, "--", *words)]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, env=clean_environment(), start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        os.killpg(process.pid, signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.killpg(process.pid, signal.SIGCONT)
        out, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 21
    assert b"started\n" + out == expected.raw_stdout
    wait_until(lambda: collector_of(path) is None, "the collector's end")
    rec = Recording(path).expect_whole()
    found = rec.site("steady_block")
    assert found["alloc_count"] == int(expected.words("site")[0][1])
    rec.close()
