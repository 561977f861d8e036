# SPDX-License-Identifier: Apache-2.0
"""neap report at times, by thread and by size: words, keys, and what goes wrong."""

import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made import Maker, add_events

Run = Callable[..., subprocess.CompletedProcess[str]]

SECOND = 1_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """At 1 s 3000 bytes by a worker, at 2 s 40 by main; at 3 s the first is freed."""
    path = tmp_path / "app.neap"
    with Maker(path, duration_ns=3_500_000_000) as make:
        main = make.process(100, live_bytes=40, live_count=1, peak_event=2, start_ns=0)
        one, two = make.stack("one", "main"), make.stack("two", "main")
        make.site(main, one, peak=(3000, 1), allocated=(3000, 1))
        make.site(main, two, (40, 1), (40, 1), (40, 1))
        make.block(main, two, 0x2000, 40, 100)
        make.event_site(main, 0, one)
        make.event_site(main, 1, two)
        make.thread(main, 100, "app")
        make.thread(main, 101, "worker\n1")
    add_events(
        path,
        [
            "process 1",
            f"a {SECOND} 101 101 4096 3000 0 0",
            f"a {2 * SECOND} 100 100 8192 40 1 0",
            f"f {3 * SECOND} 100 101 4096 3000 0 0",
        ],
    )
    return path


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("--metric live", "Still allocated at the end: 40 B in 1 block, 1 process"),
        ("--metric live --at 1.5", "Live at 1.5 s: 2.9 KiB in 1 block, 1 process"),
        ("--metric live --to 1.5", "Live at 1.5 s: 2.9 KiB in 1 block, 1 process"),
        (
            "--metric live --from 1.5 --to 3",
            "Allocated after 1.5 s and still live at 3 s: 40 B in 1 block, 1 process",
        ),
        (
            "--metric live --from 0.5",
            "Allocated after 0.5 s and still live at the end: 40 B in 1 block, 1 proc",
        ),
        ("--at 1.5", "Peak up to 1.5 s: 2.9 KiB in 1 block, 1 process"),
        ("--from 2.5", "Peak after 2.5 s: 3.0 KiB in 2 blocks, 1 process"),
        ("--from 3 --to 3.5", "Peak from 3 s to 3.5 s: 40 B in 1 block, 1 process"),
        (
            "--metric allocated --from 1 --to 2",
            "Allocated from 1 s to 2 s: 40 B in 1 call, 1 process",
        ),
        ("--tid 101", "Peak: 2.9 KiB in 1 block, 1 process, thread 101"),
        (
            "--size 1K-4K",
            "Peak: 2.9 KiB in 1 block, 1 process, blocks of 1.0 KiB to 4.0",
        ),
        ("--size 40", "Peak: 40 B in 1 block, 1 process, blocks of 40 B"),
        ("--size 41B-", "Peak: 2.9 KiB in 1 block, 1 process, blocks of 41 B and more"),
        ("--size=-1KiB", "Peak: 40 B in 1 block, 1 process, blocks of up to 1.0 KiB"),
    ],
)
def test_titles(neap: Run, path: Path, words: str, title: str) -> None:
    answer = neap("report", path, *words.split())
    assert answer.stderr == ""
    assert answer.stdout.splitlines()[1].startswith(title)


def test_rows(neap: Run, path: Path) -> None:
    lines = neap("report", path, "--by", "thread").stdout.splitlines()
    assert lines[-2:] == [
        "  2.9 KiB  1 block  thread 101 worker\\n1 (process 100)",
        "     40 B  1 block  thread 100 app (process 100)",
    ]
    lines = neap("report", path, "--by", "size").stdout.splitlines()
    assert lines[-2:] == [
        "  2.9 KiB  1 block  blocks of 2.0 KiB up to 4.0 KiB",
        "     40 B  1 block  blocks of 32 to 63 B",
    ]
    lines = neap("report", path, "--by", "size", "--limit", "1").stdout.splitlines()
    assert lines[-1] == "  … 1 more size class with 40 B: --limit 0 shows all"
    out = neap("export", path, "--format", "collapsed", "--at", "1").stdout
    assert out == "main;one 3000\n"


def test_json(neap: Run, path: Path) -> None:
    def ask(*words: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(
            neap("report", path, "--json", *words).stdout
        )
        return found

    plain = ask()
    assert "by" not in plain
    found = ask("--by", "thread", "--at", "2.25", "--tid", "101")
    assert found["by"] == "thread"
    assert found["at_ns"] == 2_250_000_000
    assert found["tid"] == 101
    assert "from_ns" not in found
    assert set(plain) < set(found)
    assert found["rows"] == [
        {
            "value": 3000,
            "ci95": 0,
            "count": 1,
            "frames": [],
            "pid": 100,
            "tid": 101,
            "thread": "worker\n1",
        }
    ]
    found = ask("--by", "size", "--from", "1.5", "--to", "2", "--size", "1-64")
    assert (found["from_ns"], found["to_ns"]) == (1_500_000_000, 2_000_000_000)
    assert (found["min_size"], found["max_size"]) == (1, 64)
    assert found["rows"] == [
        {"value": 40, "ci95": 0, "count": 1, "frames": []}
        | {"min_size": 32, "max_size": 63}
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--at -1", "-1 s is outside the recording: {path} covers 0 to 3.5 s"),
        ("--at 3.6", "3.6 s is outside the recording: {path} covers 0 to 3.5 s"),
        ("--from 2 --to 1", "from 2 s to 1 s runs backwards"),
        ("--at 1 --to 2", "choose one of them"),
        ("--tid 7", "no thread 7 in {path}: choose one of 100, 101"),
        ("--size 9-8", "no block has at least 9 and at most 8 bytes"),
        ("--pid 7 --at 1", "no process 7 in {path}: choose one of 100"),
    ],
)
def test_nonsense(
    fails: Callable[..., str], path: Path, words: str, message: str
) -> None:
    assert message.format(path=path) in fails("report", path, *words.split())


@pytest.mark.parametrize(
    ("switches", "line"),
    [
        ([(0, "exact")], None),
        ([(0, "off")], "dormant: nothing was recorded"),
        (
            [(0, "off"), (SECOND, "exact"), (3 * SECOND, "off")],
            "switched on from 1 s to 3 s; what was allocated else is not known",
        ),
        (
            [(0, "exact"), (SECOND, "off"), (2 * SECOND, "exact")],
            "switched on from 0 s to 1 s, 2 s to 3.5 s; what was allocated else is"
            " not known",
        ),
    ],
)
def test_when_it_was_on(
    neap: Run, path: Path, switches: list[tuple[int, str]], line: str | None
) -> None:
    with sqlite3.connect(path) as db:
        db.executemany("INSERT INTO raw_switch (ts_ns, mode) VALUES (?, ?)", switches)
    lines = neap("report", path).stdout.splitlines()
    if switches == [(0, "off")]:  # then nothing else is worth a word
        assert lines[2] == line
        return
    on = " while it was on" if line else ""
    assert lines[2] == f"exact{on}: every event counted, nothing lost"
    assert lines[3] == (line or "")


def test_sampled(neap: Run, tmp_path: Path) -> None:
    """Estimates say how far off they may be, and how they were made."""
    path = tmp_path / "app.neap"
    interval = 512 << 10
    with Maker(path, mode="sampled", interval=interval) as make:
        main = make.process(100, interval=2 * interval, live_variance=9e12)
        stack = make.stack("one", "main")
        make.site(
            main,
            stack,
            live=(8 << 20, 3),
            allocated=(8 << 20, 3),
            live_variance=9e12,
        )
    answer = neap("report", path, "--metric", "live")
    lines = answer.stdout.splitlines()
    assert lines[1] == (
        "Still allocated at the end: 8.0 MiB ± 7.8 MiB in 3 blocks, 1 process"
    )
    assert lines[2] == (
        "sampled: one in every 512.0 KiB on average, up to 1.0 MiB later, nothing lost;"
        " ± is the 95 % interval"
    )
    assert lines[4] == "  8.0 MiB ± 7.8 MiB  3 blocks  one at app.c:10 (app)"
    found = json.loads(neap("report", path, "--metric", "live", "--json").stdout)
    assert found["recording"]["mode"] == "sampled"
    assert found["recording"]["interval"] == interval
    assert 7.7 < found["total"]["ci95"] / 2**20 < 7.9
    assert found["rows"][0]["ci95"] == found["total"]["ci95"]
    # Where nothing was sampled something may have been.
    empty = json.loads(neap("report", path, "--json").stdout)
    assert empty["rows"] == []
    assert 3.8 < empty["total"]["ci95"] / (2 * interval) < 3.9
    answer = neap("leaks", path, "--suppressions", "/dev/null")
    assert "Never freed: 8.0 MiB ± 7.8 MiB in 3 blocks, by 1 stack" in answer.stdout
