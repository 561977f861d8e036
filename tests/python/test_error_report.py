# SPDX-License-Identifier: Apache-2.0
"""neap errors and rec.errors(): what Neaptide's own allocator found."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import neaptide
import pytest
from made import Maker
from test_json import FRAME, REPORT, check

Run = Callable[..., subprocess.CompletedProcess[str]]

NONE = type(None)
TEXT = """\
{path}: ./app --flag 'two words' (pid 100), exited with status 0 after 3.2 s
Memory errors: 2, 2 processes, 3 programs by exec
lost: 3 events (2.0 KiB); totals miss them

double-free: a block was freed twice
  the block of 64 B at 0x5000; process 100, thread 100, at 0.000 s
  freed again:
    leaf at app.c:10 (app)
    middle at app.c:10 (app)
    main at app.c:10 (app)
  freed before:
    other_leaf at app.c:10 (app)
    main at app.c:10 (app)
  allocated:
    leaf at app.c:10 (app)
    middle at app.c:10 (app)
    main at app.c:10 (app)

invalid-free: what is no block was freed
  0x18, which is in no block; process 101, thread 100, at 0.000 s
  freed:
    other_leaf at app.c:10 (app)
    main at app.c:10 (app)
"""


def add_loss(path: Path) -> None:
    import sqlite3

    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO raw_loss VALUES (1, 'events', 5, 3, 2048)")


def test_text(neap: Run, sample: Path) -> None:
    add_loss(sample)
    answer = neap("errors", sample)
    assert answer.stdout == TEXT.format(path=sample)
    assert answer.stderr == ""
    assert answer.returncode == 0


def test_json(neap: Run, sample: Path) -> None:
    found = json.loads(neap("errors", sample, "--json").stdout)
    assert list(found) == ["recording", "loss", "total", "rows"]
    check(found["recording"], REPORT["recording"])
    check(found["loss"], REPORT["loss"])
    assert found["total"] == 2
    first, second = found["rows"]
    whole = {
        "kind": str,
        "ts_ns": int,
        "pid": int,
        "tid": int,
        "address": int,
        "block": int,
        "size": int,
        "alloc_frames": [FRAME],
        "free_frames": [FRAME],
        "frames": [FRAME],
    }
    check(first, whole)
    check(
        second,
        whole
        | dict.fromkeys(["block", "size"], (NONE,))
        | dict.fromkeys(["alloc_frames", "free_frames"], (NONE,)),
    )
    assert first["kind"] == "double-free"
    assert first["free_frames"][0]["function"] == "other_leaf"
    assert (first["address"], first["block"], first["size"]) == (0x5000, 0x5000, 64)


def test_limit_and_pid(neap: Run, sample: Path) -> None:
    out = neap("errors", sample, "--limit", 1).stdout
    assert "Memory errors: 2, " in out
    assert out.endswith("\n… 1 more error: --limit 0 shows all\n")
    assert "invalid-free" not in out
    out = neap("errors", sample, "--pid", 101, "--depth", 1).stdout
    assert "Memory errors: 1, process 101, 2 programs by exec\n" in out
    assert "double-free" not in out


def test_where_in_a_block(neap: Run, tmp_path: Path) -> None:
    path = tmp_path / "where.neap"
    with Maker(path) as make:
        main, stack = make.process(100), make.stack("f")
        make.memory_error(
            main, "interior-free", 0x5008, (0x5000, 64), None, None, stack
        )
        make.memory_error(main, "overflow", 0x5040, (0x5000, 64), None, None, None)
        make.memory_error(main, "write-after-free", 0x4FFF, (0x5000, 64), 1, 1, 1)
        make.memory_error(main, "size-mismatch", 0x5000, (0x5000, 64), 1, None, 1)
    out = neap("errors", path).stdout
    assert "  0x5008, +8 bytes into the block of 64 B at 0x5000; process" in out
    assert "  0x5040, +64 bytes from the start of the block of 64 B at 0x5000;" in out
    assert "  0x4fff, -1 bytes from the start of the block of 64 B at 0x5000;" in out
    assert "overflow: a block's end was written beyond\n" in out
    assert "  found:\n    no stack\n" in out


def test_none(neap: Run, tmp_path: Path) -> None:
    path = tmp_path / "none.neap"
    with Maker(path) as make:
        make.process(100)
    out = neap("errors", path).stdout
    assert "Nothing is known of memory errors: the program had its own allocator" in out
    path = tmp_path / "ours.neap"
    with Maker(path) as make:
        make.process(100, allocator="neap")
    out = neap("errors", path).stdout
    assert "No memory error was found, 1 process\n" in out
    assert json.loads(neap("errors", path, "--json").stdout)["total"] == 0


def test_wrong_use(fails: Callable[..., str], sample: Path) -> None:
    assert "no process 7" in fails("errors", sample, "--pid", 7)


def test_api(sample: Path) -> None:
    with neaptide.open(sample) as rec:
        report = rec.errors()
        assert len(rec.errors(limit=1)) == 1
        with pytest.raises(neaptide.UsageError, match="no process 7"):
            rec.errors(pid=7)
    assert (len(report), report.total, report.processes, report.images) == (2, 2, 2, 3)
    first, second = report
    assert (first.kind, first.ts_ns, first.pid, first.tid) == (
        "double-free",
        9,
        100,
        100,
    )
    assert [f.function for f in first.alloc_frames] == ["leaf", "middle", "main"]
    assert [f.function for f in first.free_frames] == ["other_leaf", "main"]
    assert (first.alloc_stack_id, first.free_stack_id, first.stack_id) == (1, 2, 1)
    assert (second.block, second.size, second.alloc_stack_id) == (None, None, None)
    assert second.alloc_frames == second.free_frames == ()
    assert repr(report) == "<ErrorReport 2 of 2 memory errors>"
    assert repr(first) == "<ErrorRow double-free at 0x5000>"
