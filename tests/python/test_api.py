# SPDX-License-Identifier: Apache-2.0
"""import neaptide: every attribute of every class against known numbers."""

from pathlib import Path

import neaptide
import pytest
from made import Maker, make_sample


def test_recording(sample: Path) -> None:
    with neaptide.open(sample) as rec:
        assert rec.path == str(sample)
        assert rec.state == "finished"
        assert rec.recording == {
            "path": str(sample),
            "version": "0.1.0",
            "command": ["./app", "--flag", "two words"],
            "pid": 100,
            "start_ns": 1000,
            "duration_ns": 3_200_000_000,
            "on_ns": 3_200_000_000,
            "mode": "exact",
            "interval": 0,
            "allocator": "app",
            "exit": {"kind": "exited", "code": 0},
        }
        assert rec.loss == {"events": 0, "bytes": 0, "stacks": 0, "complete": True}
        assert [p["pid"] for p in rec.processes] == [100, 101, 101]
        assert [p["exit_kind"] for p in rec.processes] == ["exited", "exec", "signaled"]
        assert rec.processes[0]["command"] == ["./app"]
        view = rec.sql("SELECT * FROM process")
        assert tuple(rec.processes[0]) == view.columns
        assert repr(rec) == f"<Recording {str(sample)!r}>"


@pytest.mark.parametrize(
    ("metric", "total", "rows"),
    [
        ("peak", (1150, 13), [(1000, 10), (150, 3)]),
        ("live", (1431, 8), [(1024, 1), (400, 4), (7, 1), (0, 2)]),
        ("allocated", (11174, 106), [(10000, 100), (1024, 1), (150, 3), (0, 2)]),
        ("temporary", (40, 4), [(40, 4)]),
    ],
)
def test_metrics(
    sample: Path, metric: str, total: tuple[int, int], rows: list[tuple[int, int]]
) -> None:
    with neaptide.open(sample) as rec:
        answer = rec.report(metric=metric)
    assert (answer.total.value, answer.total.count) == total
    assert answer.total.ci95 == 0
    assert [(row.value, row.count) for row in answer] == rows
    assert answer.metric == metric
    assert answer.unit == "bytes"
    assert (answer.processes, answer.images, answer.stacks) == (2, 3, len(rows))
    assert answer.suppressed == (0, 0, 0)
    assert repr(answer) == (
        f"<Report {metric}: {total[0]} bytes, {len(rows)} of {len(rows)} stacks>"
    )


def test_frames(sample: Path) -> None:
    with neaptide.open(sample) as rec:
        row = rec.report()[0]
        nameless = rec.report("live")[3]
    assert repr(row) == "<Row 1000 bytes, count 10, allocated by leaf>"
    assert [f.function for f in row.frames] == ["leaf", "middle", "main"]
    assert not row.truncated
    frame = row.frames[0]
    assert (frame.file, frame.line, frame.module) == ("app.c", 10, "/bin/app")
    assert (frame.offset, frame.kind, frame.inlined) == (0x1000, "native", False)
    assert repr(frame) == "<Frame leaf at app.c:10>"
    assert nameless.truncated
    (frame,) = nameless.frames
    assert (frame.function, frame.file, frame.line) == (None, None, None)
    assert (frame.module, frame.offset) == ("/lib/libx.so", 0x1234)
    assert repr(frame) == "<Frame ? at /lib/libx.so+0x1234>"


def test_kinds_of_frames(tmp_path: Path) -> None:
    with Maker(tmp_path / "x.neap") as make:
        process = make.process(1)
        python = make.frame("f", "m.py", 3, None, 0, kind="python")
        inline = make.frame("g", inlined=1)
        nowhere = make.frame(None, None, None, None, -1)
        stack = make.stack(python, inline, nowhere)
        make.site(process, stack, peak=(1, 1))
    with neaptide.open(make.path) as rec:
        frames = rec.report()[0].frames
    assert [f.kind for f in frames] == ["python", "native", "native"]
    assert [f.inlined for f in frames] == [False, True, False]
    assert frames[2].module is None
    assert frames[2].offset == 2**64 - 1
    assert repr(frames[2]) == "<Frame ? at 0xffffffffffffffff>"


def test_limit_and_pid(sample: Path) -> None:
    with neaptide.open(sample) as rec:
        answer = rec.report("live", limit=1)
        assert len(answer) == 1
        assert (answer.total.value, answer.stacks) == (1431, 4)
        assert len(rec.report("live", limit=0)) == 0
        assert len(rec.report("live", limit=None)) == 4
        answer = rec.report("peak", pid=101)
        assert [(row.value, row.count) for row in answer] == [(400, 4), (50, 1)]
        assert (answer.total.value, answer.processes, answer.images) == (450, 1, 2)
        with pytest.raises(neaptide.UsageError, match="choose one of 100, 101"):
            rec.report(pid=99)
        with pytest.raises(ValueError, match="limit must be 0 or more"):
            rec.report(limit=-1)
        with pytest.raises(neaptide.UsageError, match="unknown metric 'x'"):
            rec.report("x")
        with pytest.raises(neaptide.UsageError, match="does not hold"):
            rec.report("resident")


def test_ties_are_broken_by_stack(tmp_path: Path) -> None:
    with Maker(tmp_path / "x.neap") as make:
        process = make.process(1)
        stacks = [make.stack(f"f{i}") for i in range(9)]
        for stack in reversed(stacks):
            make.site(process, stack, peak=(8, 1))
    with neaptide.open(make.path) as rec:
        assert [row.stack_id for row in rec.report()] == stacks


def test_leaks(sample: Path) -> None:
    with neaptide.open(sample) as rec:
        answer = rec.leaks()
        assert [row.value for row in answer] == [400, 7, 0]
        assert answer.metric == "live"
        assert answer.suppressed == (1024, 0, 1)
        answer = rec.leaks(builtin=False)
        assert [row.value for row in answer] == [1024, 400, 7, 0]
        answer = rec.leaks(suppressions="leak:^middle$\n", limit=1)
        assert [row.value for row in answer] == [7]
        assert answer.total == (7, 0, 3)
        assert answer.suppressed == (1424, 0, 5)
        answer = rec.leaks(suppressions="leak:libx.so")
        assert [row.value for row in answer] == [400, 7]
        with pytest.raises(neaptide.UsageError, match="line 2"):
            rec.leaks(suppressions="# fine\nrace:this")


def test_views(sample: Path) -> None:
    with neaptide.open(sample) as rec:
        live, maps = rec.live(), rec.map_events()
        threads, modules = rec.threads(), rec.modules()
        small = rec.report("live")[2].stack_id
    columns = ("pid", "address", "size", "weight", "stack_id", "tid", "ts_ns")
    assert live.columns == (*columns, "interval")
    assert list(live) == [(100, 0x7000, 7, 7, small, 100, 77, 0)]
    assert len(maps) == 1
    assert dict(zip(maps.columns, maps[0], strict=True))["op"] == "mmap"
    assert list(threads) == [(100, 100, "app", 1, 2)]
    assert [row[1] for row in modules] == ["/bin/app", "/lib/libc.so.6", "/lib/libx.so"]


def test_errors_are_paired() -> None:
    assert issubclass(neaptide.MissingFileError, FileNotFoundError)
    assert issubclass(neaptide.UsageError, ValueError)
    for name in ("Missing", "Foreign", "Damaged", "Newer"):
        assert issubclass(getattr(neaptide, f"{name}FileError"), neaptide.Error)
    assert issubclass(neaptide.SqlError, neaptide.Error)
    assert neaptide.Error.__module__ == "neaptide"


def test_closed(sample: Path) -> None:
    with neaptide.open(sample) as rec:
        answer = rec.report()
        row = answer[0]
    rec.close()
    assert row.frames[0].function == "leaf"
    del answer, row
    for ask in (
        rec.report,
        rec.leaks,
        rec.live,
        lambda: rec.loss,
        rec.__enter__().maps,
    ):
        with pytest.raises(neaptide.UsageError, match="closed"):
            ask()


def test_nothing_is_made_by_hand() -> None:
    for name in ("Recording", "Report", "Row", "Frame", "Table"):
        with pytest.raises(TypeError):
            getattr(neaptide, name)()


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    with Maker(tmp_path / "x.neap") as make:
        process = make.process(1)
        make.db.text_factory = bytes
        make.db.execute("INSERT INTO raw_module VALUES (7, CAST(x'2fff' AS TEXT), '')")
        make.db.execute(
            "INSERT INTO raw_frame VALUES (7, NULL, NULL, NULL, 7, 0, 'native', 0)"
        )
        make.db.execute("INSERT INTO raw_stack VALUES (7, '[ 7 ]', 0)")
        make.site(process, 7, peak=(1, 1))
    with neaptide.open(make.path) as rec:
        answer = rec.report()
    assert answer[0].frames[0].module == "/\udcff"
    assert answer.collapsed() == "\udcff+0x0 1\n"


def test_collapsed(sample: Path, tmp_path: Path) -> None:
    with neaptide.open(sample) as rec:
        assert (
            rec.report().collapsed() == "main;middle;leaf 1000\nmain;other_leaf 150\n"
        )
        assert "[truncated];libx.so+0x1234 0\n" in rec.report("live").collapsed()
        assert rec.report(limit=0).collapsed() == ""
    with Maker(tmp_path / "x.neap") as make:
        process = make.process(1)
        make.site(process, make.stack("a;b\n\\c", "d e"), peak=(5, 1))
    with neaptide.open(make.path) as rec:
        assert rec.report().collapsed() == "d e;a\\x3bb\\x0a\\x5cc 5\n"


def test_a_path_of_any_kind(tmp_path: Path) -> None:
    for name in ("with space.neap", "per%cent?.neap", "ü#.neap", "quote'.neap"):
        path = make_sample(tmp_path / name)
        for given in (path, str(path), str(path).encode()):
            with neaptide.open(given) as rec:
                assert rec.report().total.value == 1150
