# SPDX-License-Identifier: Apache-2.0
"""No public name of the extension leaks, on its good paths and on its bad ones.

Each name is called often; afterwards neither Python's blocks nor the C library's bytes
may have grown by as much as a single block a call. A name without a test fails.
"""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made import add_events, make_sample
from neaptide import _neap

CALLS = 400
SLACK_BLOCKS = CALLS // 4
SLACK_BYTES = CALLS * 8


class MallInfo(ctypes.Structure):
    """struct mallinfo2 of <malloc.h>."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = MallInfo


def blocks_and_bytes() -> tuple[int, int]:
    """What is allocated now: Python's blocks, the C library's bytes."""
    gc.collect()
    info = mallinfo2()
    return sys.getallocatedblocks(), info.uordblks + info.hblkhd


def public_names() -> Iterator[str]:
    """Everything that the extension defines: f, Class and Class.member."""
    for name, value in vars(_neap).items():
        if name.startswith("_"):
            continue
        yield name
        if isinstance(value, type) and not issubclass(value, BaseException):
            for member in vars(value):
                if not member.startswith("__") or member in SPECIAL:
                    yield f"{name}.{member}"


SPECIAL = {
    "__enter__",
    "__exit__",
    "__getitem__",
    "__iter__",
    "__len__",
    "__repr__",
}


def failing(ask: Callable[..., object], *args: object, **kwargs: object) -> None:
    """Ask for what cannot be had."""
    try:
        ask(*args, **kwargs)
    except (_neap.Error, TypeError, IndexError, OverflowError, ValueError):
        return
    raise AssertionError("it worked")


def raised(directory: Path, name: str) -> None:
    """Have the extension raise its exception `name`."""
    files = {
        "MissingFileError": "missing",
        "ForeignFileError": "foreign",
        "DamagedFileError": "damaged",
        "NewerFileError": "newer",
        "Error": "directory",
    }
    try:
        if name in files:
            _neap.open(directory / files[name])
        else:
            with _neap.open(directory / "sample.neap") as rec:
                if name == "SqlError":
                    rec.sql("nonsense")
                else:
                    rec.report("nonsense")
    except getattr(_neap, name):
        return
    raise AssertionError(name)


def make_files(directory: Path) -> None:
    """One file for each exception."""
    path = make_sample(directory / "sample.neap")
    lines = ["process 1", *(f"a {i} 100 100 {16 * i} 8 3 0" for i in range(40))]
    add_events(path, lines, 10)
    data = bytearray(path.read_bytes())
    (directory / "foreign").write_text("text" * 1000)
    (directory / "damaged").write_bytes(data[: len(data) // 2])
    data[60:64] = (99).to_bytes(4, "big")  # user_version
    (directory / "newer").write_bytes(data)
    (directory / "directory").mkdir()


def attributes(name: str, value: object) -> dict[str, Callable[[], object]]:
    """To read each attribute of an object of the class `name`, and its repr."""
    members = [
        member
        for member, kind in vars(type(value)).items()
        if not member.startswith("__") and hasattr(kind, "__get__")
    ]
    actions: dict[str, Callable[[], object]] = {
        f"{name}.{member}": lambda member=member: getattr(value, member)  # type: ignore[misc]
        for member in members
    }
    return {**actions, f"{name}.__repr__": value.__repr__}


def sequence(name: str, value: Any) -> dict[str, Callable[[], object]]:
    """To use an object of the class `name` as a sequence."""
    return {
        f"{name}.__getitem__": lambda: (value[0], failing(value.__getitem__, 99)),
        f"{name}.__iter__": lambda: [row.frames for row in value],
        f"{name}.__len__": lambda: len(value),
        **attributes(name, value),
    }


def map_exercises(rec: _neap.Recording) -> dict[str, Callable[[], object]]:
    report = rec.maps()
    return {
        "MapReport": lambda: failing(_neap.MapReport),
        "MapRow": lambda: failing(_neap.MapRow),
        "MapBytes": lambda: _neap.MapBytes((1, 2, 3)),
        **sequence("MapReport", report),
        **attributes("MapRow", report[0]),
        "MapBytes.__repr__": report.total.file.__repr__,
        "MapBytes.grown": lambda: report.total.anonymous.grown,
        "MapBytes.returned": lambda: report.total.anonymous.returned,
        "MapBytes.kept": lambda: report.total.anonymous.kept,
    }


def error_exercises(rec: _neap.Recording) -> dict[str, Callable[[], object]]:
    report = rec.errors()
    bare = report[1]
    return {
        "ErrorReport": lambda: failing(_neap.ErrorReport),
        "ErrorRow": lambda: failing(_neap.ErrorRow),
        **sequence("ErrorReport", report),
        **attributes("ErrorRow", report[0]),
        "ErrorRow.block": lambda: (report[0].block, bare.block, bare.size),
    }


def exercises(directory: Path) -> dict[str, Callable[[], object]]:
    """What to do for each public name."""
    path = directory / "sample.neap"
    rec = _neap.open(path)
    threads = rec.report("live", end=1, by="thread")
    sizes = rec.report("live", at=1, by="size")
    report = rec.report("live")
    row, table, total = report[0], rec.live(), report.total
    frame = row.frames[0]

    def everything() -> None:
        with _neap.open(path) as other:
            rows = list(other.report())
        assert rows[0].frames[0].function == "leaf"

    def iterated() -> None:
        for each in report:
            assert each.frames

    def failing_row() -> None:
        failing(report.__getitem__, 99)

    actions: dict[str, Callable[[], object]] = {
        "open": everything,
        "Recording": lambda: failing(_neap.Recording),
        "Recording.path": lambda: rec.path,
        "Recording.state": lambda: rec.state,
        "Recording.recording": lambda: rec.recording,
        "Recording.processes": lambda: rec.processes,
        "Recording.loss": lambda: rec.loss,
        "Recording.report": lambda: (
            rec.report("peak", limit=1),
            rec.report("live", at=1, tid=100, min_size=3),
            rec.report("peak", start=0.00000001, end=0.00000003),
            rec.report("live", start=0.00000001, by="thread"),
            failing(rec.report, at=-1),
            failing(rec.report, at="x"),
            failing(rec.report, tid=7),
            failing(rec.report, by="x"),
            failing(rec.report, pid=12345),
            failing(rec.report, limit=-1),
            failing(rec.report, limit="x"),
        ),
        "Recording.leaks": lambda: (
            rec.leaks("leak:middle\n#\nleak:b*c$"),
            failing(rec.leaks, "nonsense"),
        ),
        "Recording.sql": lambda: (
            rec.sql("SELECT ?, ?, ?, ?", ["x" * 1000, 1, 2.5, b"y" * 1000]),
            failing(rec.sql, "SELECT ?", [object()]),
            failing(rec.sql, "SELECT ?"),
            failing(rec.sql, "SELECT 1; SELECT 2"),
            failing(rec.sql, "DELETE FROM raw_site"),
            failing(rec.sql, "SELECT abs(-9223372036854775808) FROM frame"),
        ),
        "Recording.events": lambda: (
            rec.events(0, 1, 100, 100),
            rec.events(),
            failing(rec.events, 2, 1),
            failing(rec.events, "x"),
        ),
        "Recording.live": rec.live,
        "Recording.map_events": rec.map_events,
        "Recording.maps": lambda: (
            rec.maps(),
            rec.maps("hook", 0, 100),
            failing(rec.maps, "kernel"),
            failing(rec.maps, pid=7),
            failing(rec.maps, limit=-1),
        ),
        "Recording.errors": lambda: (
            rec.errors(),
            rec.errors(limit=1, pid=100),
            failing(rec.errors, pid=7),
            failing(rec.errors, limit="x"),
        ),
        "Recording.threads": rec.threads,
        "Recording.modules": rec.modules,
        "Recording.close": lambda: _neap.open(path).close(),
        "Recording.__enter__": rec.__enter__,
        "Recording.__exit__": lambda: _neap.open(path).__exit__(None, None, None),
        "Recording.__repr__": rec.__repr__,
        "Report": lambda: failing(_neap.Report),
        "Report.metric": lambda: report.metric,
        "Report.by": lambda: (report.by, sizes.by),
        "Report.unit": lambda: report.unit,
        "Report.total": lambda: report.total,
        "Report.suppressed": lambda: report.suppressed,
        "Report.stacks": lambda: report.stacks,
        "Report.processes": lambda: report.processes,
        "Report.images": lambda: report.images,
        "Report.collapsed": report.collapsed,
        "Report.__getitem__": lambda: (report[0], report[-1], failing_row()),
        "Report.__iter__": iterated,
        "Report.__len__": lambda: len(report),
        "Report.__repr__": report.__repr__,
        "Row": lambda: failing(_neap.Row),
        "Row.value": lambda: row.value,
        "Row.count": lambda: row.count,
        "Row.ci95": lambda: row.ci95,
        "Row.stack_id": lambda: row.stack_id,
        "Row.truncated": lambda: row.truncated,
        "Row.frames": lambda: row.frames,
        "Row.pid": lambda: (row.pid, threads[0].pid),
        "Row.tid": lambda: (row.tid, threads[0].tid),
        "Row.thread": lambda: (row.thread, threads[0].thread),
        "Row.min_size": lambda: (row.min_size, sizes[0].min_size),
        "Row.max_size": lambda: (row.max_size, sizes[0].max_size),
        "Row.__repr__": lambda: (repr(row), repr(threads[0]), repr(sizes[0])),
        "Frame": lambda: failing(_neap.Frame),
        "Table": lambda: failing(_neap.Table),
        "Table.columns": lambda: table.columns,
        "Table.__getitem__": lambda: (table[0], failing(table.__getitem__, 9)),
        "Table.__iter__": lambda: list(table),
        "Table.__len__": lambda: len(table),
        "Table.__repr__": table.__repr__,
        "Total": lambda: _neap.Total((1, 2.0, 3)),
        "Total.__repr__": total.__repr__,
        "Total.value": lambda: total.value,
        "Total.ci95": lambda: total.ci95,
        "Total.count": lambda: total.count,
        "Frame.__repr__": frame.__repr__,
    }
    actions |= map_exercises(rec) | error_exercises(rec)
    for name in ["function", "file", "line", "module", "offset", "kind", "inlined"]:
        actions[f"Frame.{name}"] = lambda name=name: getattr(frame, name)  # type: ignore[misc]
    for member in ("n_fields", "n_sequence_fields", "n_unnamed_fields"):
        actions[f"Total.{member}"] = lambda m=member: getattr(_neap.Total, m)  # type: ignore[misc]
        actions[f"MapBytes.{member}"] = lambda m=member: getattr(_neap.MapBytes, m)  # type: ignore[misc]
    for name, value in vars(_neap).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            actions[name] = lambda name=name: raised(directory, name)  # type: ignore[misc]
    return actions


@pytest.fixture(scope="module")
def actions(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Callable[[], object]]:
    directory = tmp_path_factory.mktemp("memory")
    make_files(directory)
    return exercises(directory)


def test_every_public_name_is_exercised(
    actions: dict[str, Callable[[], object]],
) -> None:
    assert sorted(actions) == sorted(public_names())


@pytest.mark.parametrize("name", sorted(public_names()))
def test_no_leak(actions: dict[str, Callable[[], object]], name: str) -> None:
    act = actions[name]
    # Caches of Python, SQLite and the allocator fill in the first rounds.
    for _ in range(CALLS // 4):
        act()
    grown = []
    for _ in range(3):
        before = blocks_and_bytes()
        for _ in range(CALLS):
            act()
        after = blocks_and_bytes()
        grown.append((after[0] - before[0], after[1] - before[1]))
        if grown[-1][0] < SLACK_BLOCKS and grown[-1][1] < SLACK_BYTES:
            return
    pytest.fail(f"{CALLS} calls grew (blocks, bytes) by {grown}, time after time")
