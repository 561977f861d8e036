# SPDX-License-Identifier: Apache-2.0
"""Libraries that come and go, and the growth of the address space."""

from __future__ import annotations

import re
from pathlib import Path

from harness import TARGETS, Record, Recording, check_sites, execute, target

# In the order they were recorded, which equal times would not tell.
MAPS = """
    SELECT p.pid, m.tid, m.op, m.address, m.size, m.old_address, m.old_size, m.prot,
           m.flags, m.stack AS stack_id
    FROM raw_map m JOIN raw_process p ON p.id = m.process ORDER BY m.id
"""


def check_libraries(rec: Recording) -> None:
    """Every block of libreuse_a.so and libreuse_b.so is the right one's."""
    for letter in "ab":
        rows = rec.rows(
            "SELECT DISTINCT f.module FROM live l JOIN frame f "
            "ON f.stack_id = l.stack_id AND f.depth = 0 WHERE l.size = ?",
            500 + (letter == "b"),
        )
        assert [Path(r["module"]).name for r in rows] == [f"libreuse_{letter}.so"]


def test_address_used_again(record: Record) -> None:
    """Two libraries take turns at one address: each block has the right one's name."""
    run = record(target("dlreuse")).expect(0)
    check_sites(run, run.rec.expect_whole())
    assert int(run.words("reused")[0][0]) > 0, "no address was used again"
    check_libraries(run.rec)


def test_libraries_churn(record: Record) -> None:
    """The same from two threads, beside threads that throw exceptions."""
    run = record(target("dlchurn")).expect(0)
    check_sites(run, run.rec.expect_whole())
    check_libraries(run.rec)
    assert run.rec.process()["truncated_stacks"] == 0


def test_modules_and_build_ids(record: Record) -> None:
    """Frames lead to files, whose build-ids are those that readelf shows."""
    rec = record(target("dlreuse")).expect(0).rec
    modules = {row["path"]: row["build_id"] for row in rec.rows("SELECT * FROM module")}
    for name in ("dlreuse", "libreuse_a.so", "libreuse_b.so"):
        path = str(TARGETS / name)
        assert path in modules
        notes = execute(["readelf", "-n", path]).expect(0).stdout
        match = re.search(r"Build ID: ([0-9a-f]+)", notes)
        assert modules[path] == (match.group(1) if match else "")


def test_maps(record: Record) -> None:
    """Each call of the mmap family, in order, with its numbers and its caller."""
    run = record(target("maps")).expect(0)
    rec = run.rec.expect_whole()
    callers = {line[-1] for line in run.words("map")} | {"fails"}
    found = []
    for row in rec.rows(MAPS):
        functions = rec.functions(row["stack_id"])
        if functions[0] in callers:
            found.append((row, functions[0]))
    lines = run.words("map")
    shown = [(row["op"], name) for row, name in found]
    assert shown == [(line[0], line[5]) for line in lines]
    for (row, _), line in zip(found, lines, strict=True):
        assert row["address"] == int(line[1]), line
        if line[0] != "brk":  # whose two addresses say it all
            assert row["size"] == int(line[2]), line
        if line[0] in ("mremap", "brk"):
            assert row["old_address"] == int(line[3]), line
        if int(line[4]) > 0:
            assert row["old_size"] == int(line[4]), line
        assert (row["pid"], row["tid"]) == (rec.main_pid, rec.main_pid)
    anonymous, file = found[0][0], found[1][0]
    assert (anonymous["prot"], anonymous["flags"]) == (3, 0x22)
    assert (file["prot"], file["flags"]) == (1, 0x2)
