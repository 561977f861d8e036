# SPDX-License-Identifier: Apache-2.0
"""Programs of the world: the same output and status, and the counter's numbers."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from counter import check_counter, counted
from harness import (
    NEAPD,
    Record,
    clean_environment,
    collector_of,
    execute,
    wait_until,
)
from harness import Recording as Rec

SQL = """
CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, value REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
INSERT INTO t SELECT i, printf('name %d', i * 7919 % 3001), i * 0.5 FROM n;
CREATE INDEX by_name ON t (name);
SELECT count(*), sum(value), group_concat(substr(name, 6, 1)) FROM t WHERE id % 3 = 0;
SELECT a.name, b.value FROM t a JOIN t b ON a.id = b.id + 1 ORDER BY a.name LIMIT 20;
"""

PERL = """
my %h; for my $i (1 .. 4000) { push @{$h{$i % 97}}, "x" x ($i % 50) }
my $s = join ",", map { "$_=" . scalar @{$h{$_}} } sort { $a <=> $b } keys %h;
$s =~ s/(\\d+)=/<$1>/g; print length($s), " $s\\n"; exit 3;
"""

PYTHON = """
import collections, json, re, sys
words = [f"w{i * 7919 % 1009}" for i in range(6000)]
count = collections.Counter(words)
text = json.dumps(count, sort_keys=True)
print(len(text), len(re.findall(r"w(\\d)\\d*", text)), json.loads(text) == count)
sys.exit(4)
"""

C_SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct node { struct node *left, *right; int key; };
static struct node *insert(struct node *n, int key)
{
    if (!n) { n = calloc(1, sizeof(*n)); n->key = key; }
    else if (key < n->key) n->left = insert(n->left, key);
    else n->right = insert(n->right, key);
    return n;
}
int main(int argc, char **argv)
{
    struct node *root = 0;
    for (int i = 0; i < argc * 100; i++) root = insert(root, i * 7919 % 1009);
    return printf("%d %s\\n", root->key, argv[0]) < 0;
}
"""


def python3() -> str:
    return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


def git_repository(where: Path) -> None:
    who = {
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@b",
        "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
        "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    execute(["git", "init", "-q", "-b", "main", where], env=who).expect(0)
    for i in range(12):
        for name in ("one", "two", "three"):
            text = "\n".join(f"{name} {i * j % 17}" for j in range(200))
            (where / name).write_text(text)
        execute(["git", "-C", where, "add", "."], env=who).expect(0)
        message = ["-q", "-m", f"change {i}"]
        execute(["git", "-C", where, "commit", *message], env=who).expect(0)


@dataclass
class Program:
    argv: list[str]
    status: int = 0
    stdin: bytes = b""
    env: dict[str, str] | None = None
    prepare: Callable[[Path], object] | None = None
    least: int = 1000  # allocations, or it was not the program we meant


PROGRAMS = {
    "sqlite3": Program(["sqlite3", ":memory:"], stdin=SQL.encode(), least=300),
    "perl": Program(["perl", "-e", PERL], 3),
    "python3": Program([python3(), "-I", "-c", PYTHON], 4),
    "python3-malloc": Program(
        [python3(), "-c", PYTHON], 4, env={"PYTHONMALLOC": "malloc"}, least=50000
    ),
    "gcc": Program(
        ["gcc", "-O2", "-c", "x.c", "-o", "x.o"],
        prepare=lambda where: (where / "x.c").write_text(C_SOURCE),
    ),
    "git": Program(
        ["git", "--no-pager", "-C", "repo", "log", "-p", "--stat", "--graph"],
        prepare=lambda where: git_repository(where / "repo"),
    ),
    "xz": Program(["xz", "-9", "-c"], stdin=bytes(range(256)) * 400, least=5),
    "bash": Program(
        ["bash", "-c", "for i in {1..300}; do a[i]=$(echo $i); done; echo ${#a[@]}"],
        least=5000,
    ),
}


# Threads, C++ and an interpreter in one program; what it reads is its own affair.
GDB = Program(
    ["gdb", "-nx", "-batch", "-ex", "python print(sum(range(99)))", "-ex", "info line"]
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(record: Record, tmp_path: Path, name: str) -> None:
    program = PROGRAMS[name]
    if shutil.which(program.argv[0]) is None:
        pytest.skip(f"no {program.argv[0]} here")
    if program.prepare is not None:
        program.prepare(tmp_path)
    how: dict[str, Any] = {"stdin": program.stdin, "env": program.env, "cwd": tmp_path}
    bare = execute(program.argv, **how).expect(program.status)
    run = record(program.argv, **how).expect(program.status)
    assert run.raw_stdout == bare.raw_stdout
    assert run.stderr == bare.stderr
    run.rec.expect_whole()

    counts = tmp_path / "counts"
    counts.mkdir()
    run = record(counted(program.argv, counts), **how).expect(program.status)
    assert run.raw_stdout == bare.raw_stdout
    assert check_counter(run.rec.expect_whole(), counts) >= program.least


def test_gcc_children(record: Record, tmp_path: Path) -> None:
    """The compiler proper and the assembler are processes of their own."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    (tmp_path / "x.c").write_text(C_SOURCE)
    argv = ["gcc", "-O2", "-c", "x.c", "-o", "x.o"]
    rec = record(argv, cwd=tmp_path).expect(0).rec.expect_whole()
    names = [Path(row["exe"]).name for row in rec.processes()]
    assert "cc1" in names
    assert any(name.endswith("as") for name in names)
    assert (tmp_path / "x.o").exists()
    for row in rec.processes():
        assert row["exit_kind"] in ("exited", "exec")
        assert row["exit_code"] == 0 or row["exit_kind"] == "exec"


@pytest.mark.parametrize("name", ["sqlite3", "perl", "python3", "gcc", "git", "gdb"])
def test_verified_against_libunwind(record: Record, tmp_path: Path, name: str) -> None:
    """Every stack of real programs compared with a second unwinder's."""
    program = GDB if name == "gdb" else PROGRAMS[name]
    if shutil.which(program.argv[0]) is None:
        pytest.skip(f"no {program.argv[0]} here")
    if program.prepare is not None:
        program.prepare(tmp_path)
    env = {**(program.env or {}), "NEAP_VERIFY": "1"}
    run = record(program.argv, stdin=program.stdin, env=env, cwd=tmp_path)
    run.expect(program.status)
    verified = run.rec.one("SELECT sum(verified) FROM process")
    if verified == 0:
        pytest.skip("no libunwind.so.8 here to compare with")
    assert run.rec.one("SELECT sum(verify_differences) FROM process") == 0


def test_redis_server(tmp_path: Path) -> None:
    """A server with threads and its own allocator answers, and ends as asked."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("no redis-server here")
    path = tmp_path / "0.neap"
    address = tmp_path / "s"
    words = ["--port", "0", "--unixsocket", address, "--save", "", "--dir", tmp_path]
    argv = [NEAPD, "run", "--quiet", "-o", path, "--", server, *words]
    process = subprocess.Popen(
        [str(word) for word in argv],
        stdout=subprocess.DEVNULL,
        env=clean_environment(),
        start_new_session=True,
    )
    try:
        wait_until(address.exists, "the server's socket")
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(address))
            lines = peer.makefile("rb")
            for i in range(2000):
                value = b"v" * (i % 300)
                peer.sendall(b"SET k%d %s\r\n" % (i, value or b"-"))
                assert lines.readline() == b"+OK\r\n"
            peer.sendall(b"DBSIZE\r\n")
            assert lines.readline() == b":2000\r\n"
            peer.sendall(b"SHUTDOWN NOSAVE\r\n")
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
    wait_until(lambda: collector_of(path) is None, "the collector's end")
    rec = Rec(path).expect_whole()
    allocator = rec.process()["allocator"]
    count = rec.one("SELECT sum(alloc_count) FROM site")
    rec.close()
    assert count > 2000, f"{count} allocations seen over {allocator}"
