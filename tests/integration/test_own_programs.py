# SPDX-License-Identifier: Apache-2.0
"""Programs of the world over Neaptide's own allocator: as they are over another.

What is recorded of them over libc's is held against an independent counter in
test_real_programs.py; that counter stands where the allocator does, so here the two
recordings are compared.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from harness import Record, Recording, execute
from test_real_programs import PROGRAMS, Program

NAMES = ["sqlite3", "perl", "python3", "python3-malloc", "git", "gcc", "bash"]
# What it allocates hangs on the addresses that it is given.
BY_ADDRESS = {"cc1"}


def prepared(name: str, where: Path) -> tuple[Program, dict[str, Any]]:
    program = PROGRAMS[name]
    if shutil.which(program.argv[0]) is None:
        pytest.skip(f"no {program.argv[0]} here")
    if program.prepare is not None:
        program.prepare(where)
    return program, {"stdin": program.stdin, "cwd": where}


def numbers(rec: Recording) -> Counter[tuple[object, ...]]:
    """What each process did, by the name of its program."""
    found: Counter[tuple[object, ...]] = Counter()
    for row in rec.processes():
        name = Path(row["exe"]).name
        totals = rec.totals(row["id"])
        if name not in BY_ADDRESS:
            found[name, row["foreign_free_count"], *totals.values()] += 1
    return found


@pytest.mark.parametrize("level", ["0", "3"])
@pytest.mark.parametrize("name", NAMES)
def test_program(record: Record, tmp_path: Path, name: str, level: str) -> None:
    """Its output, its status and its numbers; and it makes no mistake."""
    # Not where recordings are: python3 reads the directory that it begins in.
    where = tmp_path / "work"
    where.mkdir()
    program, how = prepared(name, where)
    env = {**(program.env or {}), "PERL_HASH_SEED": "0"}
    bare = execute(program.argv, env=env, **how).expect(program.status)
    options = ["--allocator", "neap", "--heap-check", level]
    run = record(program.argv, options=options, env=env, **how).expect(program.status)
    assert run.raw_stdout == bare.raw_stdout
    assert run.stderr == bare.stderr
    rec = run.rec.expect_whole()
    assert {row["allocator"] for row in rec.processes()} == {"neap"}
    assert rec.one("SELECT count(*) FROM memory_error") == 0
    assert sum(rec.totals(row["id"])["alloc_count"] for row in rec.processes()) > 300

    # An environment as long as the one that the collector makes: programs copy it.
    env = {**env, "MEAP_ALLOCATOR": "neap", "MEAP_HEAP_CHECK": level}
    run = record(program.argv, env=env, **how).expect(program.status)
    assert numbers(rec) == numbers(run.rec.expect_whole())
