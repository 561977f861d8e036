# SPDX-License-Identifier: Apache-2.0
"""Stacks: every frame's function, file and line, and the paths off the straight."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness import Record, Recording, check_sites, neap_json, target

ROOTS = {
    "__libc_start_call_main",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_main@@GLIBC_2.34",
    "_start",
}


def only_stack(rec: Recording, size: int) -> int:
    rows = rec.rows("SELECT stack_id FROM live WHERE size = ?", size)
    assert len(rows) == 1, f"{len(rows)} blocks of {size} bytes"
    return int(rows[0]["stack_id"])


def test_every_frame(record: Record) -> None:
    run = record(target("stacks")).expect(0)
    rec = run.rec.expect_whole()
    for size, *expected in run.words("frames"):
        frames = rec.frames(only_stack(rec, int(size)))
        found = []
        for frame in frames[: len(expected)]:
            assert frame["file"].endswith("tests/targets/stacks.c")
            assert frame["module"] == target("stacks")[0]
            assert frame["kind"] == "native"
            star = "*" if frame["inlined"] else ""
            found.append(f"{frame['function']}{star}:{frame['line']}")
        assert found == expected
        assert {frame["function"] for frame in frames[len(expected) :]} <= ROOTS
    assert rec.process()["truncated_stacks"] == 0


def test_report_frames(record: Record) -> None:
    run = record(target("stacks")).expect(0)
    answer = neap_json("report", run.path, "--metric", "live", "--limit", "100")
    rows = {row["value"]: row for row in answer["rows"]}
    frames = rows[7013]["frames"]
    assert [f["function"] for f in frames[:3]] == ["inlined", "host", "main"]
    assert [f["inlined"] for f in frames[:3]] == [True, False, False]
    assert frames[0]["module"] == target("stacks")[0]


@pytest.mark.parametrize("mode", ["throw", "longjmp", "coroutines", "signals", "timer"])
def test_off_the_straight(record: Record, mode: str) -> None:
    run = record(target("control_flow", mode)).expect(0)
    check_sites(run, run.rec.expect_whole())


def test_coroutine_stacks(record: Record) -> None:
    """A coroutine's stack ends in its own start, not in another's frames."""
    rec = record(target("control_flow", "coroutines")).expect(0).rec
    rows = rec.rows(
        "SELECT DISTINCT stack_id FROM frame "
        "WHERE function = 'coroutine_step' AND depth = 0"
    )
    assert rows
    for row in rows:
        functions = rec.functions(row["stack_id"])
        assert functions[:2] == ["coroutine_step", "coroutine_main"]
        assert "main" not in functions


def test_through_signal_frame(record: Record) -> None:
    """From a handler on another stack back to what was interrupted, or marked."""
    rec = record(target("control_flow", "signals")).expect(0).rec
    rows = rec.rows(
        "SELECT f.stack_id, s.truncated FROM frame f "
        "JOIN raw_stack s ON s.id = f.stack_id "
        "WHERE f.function = 'in_handler' AND f.depth = 0"
    )
    assert rows
    for row in rows:
        functions = rec.functions(row["stack_id"])
        assert row["truncated"] or "raises_here" in functions
        assert row["truncated"] or "main" in functions


def test_deep_recursion(record: Record) -> None:
    """5000 levels: to the root where it fits, marked where it does not."""
    run = record(target("control_flow", "recursion")).expect(0)
    rec = run.rec.expect_whole()
    check_sites(run, rec)
    rows = rec.rows(
        "SELECT s.id, s.truncated, l.size FROM live l JOIN raw_stack s "
        "ON s.id = l.stack_id WHERE l.size BETWEEN 1100 AND 6000"
    )
    assert len(rows) == 50
    marked = 0
    for row in rows:
        functions = rec.functions(row["id"])
        level = row["size"] - 1000
        if row["truncated"]:
            marked += 1
            assert level > 900
            assert set(functions) == {"deep"}
        else:
            assert functions.count("deep") == level
            assert "main" in functions
    assert rec.process()["truncated_stacks"] >= (1 if marked else 0)


def test_call_at_a_functions_end(record: Record) -> None:
    """A return address past its function's end still names the caller."""
    run = record(target("control_flow", "noreturn")).expect(0)
    rec = run.rec.expect_whole()
    check_sites(run, rec)
    rows = rec.rows(
        "SELECT DISTINCT stack_id FROM frame "
        "WHERE function = 'never_returns' AND depth = 0"
    )
    for row in rows:
        assert rec.functions(row["stack_id"])[1] == "ends_in_a_call"


def test_thread_stacks_end_at_their_start(record: Record) -> None:
    rec = record(target("handoff", "queue")).expect(0).rec
    rows = rec.rows("SELECT DISTINCT stack_id FROM frame WHERE function = 'produce'")
    assert rows
    for row in rows:
        functions = rec.functions(row["stack_id"])
        assert functions[:2] == ["produce_block", "produce"]
        assert set(functions[2:]) <= {"start_thread", "clone3", "__clone3", "clone"}


def test_from_python(record: Record) -> None:
    """A block that a script takes by name from libc."""
    script = "import ctypes; ctypes.CDLL(None).malloc(ctypes.c_size_t(123457))"
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    rec = record([python, "-I", "-c", script]).expect(0).rec.expect_whole()
    stack = only_stack(rec, 123457)
    modules = [Path(f["module"] or "?").name for f in rec.frames(stack)]
    assert any("ffi" in name for name in modules), modules
    # Debian's python3 has no name for its main, which is but a jump.
    assert {"main", "Py_BytesMain"} & set(rec.functions(stack)[-2:])


@pytest.mark.parametrize("name", ["entry_points_cxx", "lifetimes", "peak"])
def test_verified_against_libunwind(record: Record, name: str) -> None:
    """Every stack compared with a second unwinder's."""
    words = target(name, "recursion") if name == "peak" else target(name)
    rec = record(words, env={"NEAP_VERIFY": "1"}).expect(0).rec
    process = rec.process()
    if process["verified"] == 0:
        pytest.skip("no libunwind.so.8 here to compare with")
    assert process["verify_differences"] == 0


@pytest.mark.parametrize("words", [("100",), ("100", "dlclose")])
def test_stress_verified(record: Record, words: tuple[str, ...]) -> None:
    """Exceptions, long jumps, coroutines, handlers, odd frames: all of them at once."""
    run = record(target("stress", *words), env={"NEAP_VERIFY": "1"}).expect(0)
    process = run.rec.expect_whole().process()
    # Realigned frames and handlers have no plain rule.
    assert process["fallbacks"] > 1000
    if process["verified"] == 0:
        pytest.skip("no libunwind.so.8 here to compare with")
    assert process["verify_differences"] == 0


def test_plain_frames_need_no_fallback(record: Record) -> None:
    rec = record(target("peak", "recursion")).expect(0).rec
    assert rec.process()["fallbacks"] == 0
