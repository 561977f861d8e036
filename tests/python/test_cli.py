# SPDX-License-Identifier: Apache-2.0
"""neap report, leaks, sql, export: what people read, and the exit statuses."""

import csv
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import neaptide
import pytest
from made import ROOT, Maker

NEAP = str(ROOT / "build/bin/neap")
Run = Callable[..., subprocess.CompletedProcess[str]]

REPORT = """\
{path}: ./app --flag 'two words' (pid 100), exited with status 0 after 3.2 s
Peak: 1.1 KiB in 13 blocks, 2 processes, 3 programs by exec; peak is the sum of \
each program's own
exact: every event counted, nothing lost

  1000 B  10 blocks  leaf at app.c:10 (app)
                       middle at app.c:10 (app)
                       main at app.c:10 (app)
   150 B   3 blocks  other_leaf at app.c:10 (app)
                       main at app.c:10 (app)
"""

LEAKS = """\
{path}: ./app --flag 'two words' (pid 100), exited with status 0 after 3.2 s
Never freed: 407 B in 7 blocks, by 3 stacks, 2 processes, 3 programs by exec
suppressed: 1.0 KiB in 1 block
exact: every event counted, nothing lost

  400 B  4 blocks  leaf at app.c:10 (app)
                     middle at app.c:10 (app)
                     main at app.c:10 (app)
    7 B   1 block  other_leaf at app.c:10 (app)
                     main at app.c:10 (app)
    0 B  2 blocks  libx.so+0x1234
                     … outer frames missing
"""


def test_report(neap: Run, sample: Path) -> None:
    answer = neap("report", sample)
    assert answer.stdout == REPORT.format(path=sample)
    assert answer.stderr == ""
    assert answer.returncode == 0


def test_leaks(neap: Run, sample: Path) -> None:
    answer = neap("leaks", sample)
    assert answer.stdout == LEAKS.format(path=sample)
    assert answer.stderr == ""
    assert answer.returncode == 0


def test_the_package_runs_as_a_module(sample: Path) -> None:
    answer = subprocess.run(
        ["python3", "-m", "neaptide", "leaks", str(sample)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "build/python")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == LEAKS.format(path=sample)


def test_metric_limit_and_pid(neap: Run, sample: Path) -> None:
    out = neap("report", sample, "--metric", "allocated", "--limit", 1).stdout
    assert "Allocated: 10.9 KiB in 106 calls, 2 processes, 3 programs" in out
    assert "  9.8 KiB  100 calls  leaf at app.c:10 (app)\n" in out
    assert "  … 3 more stacks with 1.1 KiB: --limit 0 shows all\n" in out
    assert "other_leaf" not in out
    out = neap("report", sample, "--metric", "live", "--limit", 0).stdout
    assert "Still allocated at the end: 1.4 KiB in 8 blocks" in out
    assert "more stack" not in out
    out = neap("report", sample, "--pid", 101).stdout
    assert "Peak: 450 B in 5 blocks, process 101, 2 programs by exec" in out
    out = neap("report", sample, "--pid", 100, "--metric", "temporary").stdout
    assert "Temporary: 40 B in 4 calls, process 100\n" in out


def test_depth(neap: Run, tmp_path: Path) -> None:
    with Maker(tmp_path / "deep.neap") as make:
        process = make.process(1)
        stack = make.stack(*[f"f{i}" for i in range(30)])
        make.site(process, stack, peak=(5, 1))
        edge = make.stack(*[f"g{i}" for i in range(9)])
        make.site(process, edge, peak=(4, 1))
    out = neap("report", make.path).stdout
    assert "f7 at" in out
    assert "f8 at" not in out
    assert "… 22 more frames\n" in out
    assert "g8 at" in out
    out = neap("report", make.path, "--depth", 2).stdout
    assert "f1 at" in out
    assert "f2 at" not in out
    assert "… 28 more frames\n" in out
    out = neap("report", make.path, "--full").stdout
    assert "f29 at" in out
    assert "more frame" not in out
    rows = json.loads(neap("report", make.path, "--json").stdout)["rows"]
    assert len(rows[0]["frames"]) == 30


def test_frames_of_every_kind(neap: Run, tmp_path: Path) -> None:
    with Maker(tmp_path / "x.neap") as make:
        process = make.process(1)
        stack = make.stack(
            make.frame("inl", inlined=1),
            make.frame("py", "/x/m.py", 3, None, 0, kind="python"),
            make.frame("nofile", None, None, "/lib/liby.so", 0x77),
            make.frame("noline", "a.c", None),
            make.frame(None, None, None, None, 0x7F00),
            make.frame("evil\n\033[31m", "b.c"),
        )
        make.site(process, stack, peak=(5, 1))
        make.site(process, make.stack(), peak=(4, 1))
    lines = neap("report", make.path).stdout.split("\n")[4:-1]
    assert [line.strip() for line in lines] == [
        "5 B  1 block  inl at app.c:10 (app) [inlined]",
        "py at /x/m.py:3",
        "nofile (liby.so+0x77)",
        "noline at a.c (app)",
        "0x7f00",
        "evil\\n\\x1b[31m at b.c:10 (app)",
        "4 B  1 block  no stack",
    ]


def test_nothing_leaked(neap: Run, tmp_path: Path) -> None:
    with Maker(tmp_path / "clean.neap") as make:
        process = make.process(1)
        make.site(process, make.stack("f"), peak=(5, 1), allocated=(5, 1))
    assert neap("leaks", make.path).stdout == (
        f"{make.path}: nothing leaked, 1 process; suppressed: nothing; exact: every"
        " event counted, nothing lost\n"
    )
    answer = json.loads(neap("leaks", make.path, "--json").stdout)
    assert answer["total"] == {"value": 0, "ci95": 0, "count": 0}
    assert answer["rows"] == []


def test_losses_stand_beside_totals(neap: Run, tmp_path: Path) -> None:
    with Maker(tmp_path / "x.neap") as make:
        process = make.process(1, truncated_stacks=2, verify_differences=1)
        make.site(process, make.stack("f"), peak=(5, 1), live=(5, 1))
        make.loss(process, "events", 3, 2048)
        make.loss(process, "stacks", 1)
        make.loss(0, "process", 1)
    for command in ("report", "leaks"):
        out = neap(command, make.path).stdout
        assert (
            "lost: 3 events (2.0 KiB), 1 process that was not recorded, 1 stack;"
            " totals miss them\n"
        ) in out
        assert "2 stacks cut short: outer callers missing\n" in out
        assert "1 stack differed when checked\n" in out
        loss = json.loads(neap(command, make.path, "--json").stdout)["loss"]
        assert loss == {"events": 4, "bytes": 2048, "stacks": 1, "complete": True}


@pytest.mark.parametrize(
    ("what", "one", "many"),
    [
        ("events", "1 event", "2,026 events"),
        ("stacks", "1 stack", "2,026 stacks"),
        (
            "lanes",
            "1 event of a thread without a lane",
            "2,026 events of threads without a lane",
        ),
        ("corrupt", "1 corrupt record", "2,026 corrupt records"),
        (
            "order",
            "1 event that was waited for in vain",
            "2,026 events that were waited for in vain",
        ),
        (
            "store",
            "1 row that could not be stored",
            "2,026 rows that could not be stored",
        ),
        (
            "process",
            "1 process that was not recorded",
            "2,026 processes that were not recorded",
        ),
        ("news", "news: 1", "news: 2,026"),
    ],
)
def test_words_of_losses(
    neap: Run, tmp_path: Path, what: str, one: str, many: str
) -> None:
    for count, words in ((1, one), (2026, many)):
        with Maker(tmp_path / f"{count}.neap") as make:
            make.process(1)
            make.loss(0, what, count)
        out = neap("report", make.path).stdout
        assert f"\nlost: {words}; totals miss them\n" in out


def test_suppressions(neap: Run, fails: Callable[..., str], sample: Path) -> None:
    rules = sample.with_name("rules")
    rules.write_text("# known\n\n  leak:^leaf$  \nleak:libx*.so\n")
    out = neap("leaks", sample, "--suppressions", rules).stdout
    assert "Never freed: 7 B in 1 block, by 1 stack" in out
    assert "suppressed: 1.4 KiB in 7 blocks\n" in out
    rules.write_text("leak:*")
    assert "line 1" in fails("leaks", sample, "--suppressions", rules)
    assert "cannot read" in fails("leaks", sample, "--suppressions", "/nowhere")
    assert "cannot read" in fails("leaks", sample, "--suppressions", sample.parent)
    assert "suppress" in fails("leaks", sample, "--suppressions", sample)
    out = neap("leaks", sample, "--no-builtin").stdout
    assert "_IO_file_doallocate (libc.so.6+0x7a000)" in out
    assert "suppressed: nothing\n" in out


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("exited", 3, "exited with status 3 after"),
        ("signaled", 11, "killed by signal 11 (SIGSEGV) after"),
        ("signaled", 250, "killed by signal 250 after"),
        ("lost", None, "how it ended is unknown"),
    ],
)
def test_endings(
    neap: Run, tmp_path: Path, kind: str, code: int | None, words: str
) -> None:
    with Maker(tmp_path / "x.neap") as make:
        make.process(1, exit_kind=kind, exit_code=code)
    assert words in neap("report", make.path).stdout
    about = json.loads(neap("report", make.path, "--json").stdout)["recording"]
    assert about["exit"] == {"kind": kind, "code": code}


def start_of(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rsplit(")", 1)[1].split()[19])


def test_running_and_lost(neap: Run, tmp_path: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    pid, start = os.getpid(), start_of(os.getpid())
    cases = [
        ("running", {"boot_id": boot, "collector_pid": pid, "collector_start": start}),
        ("lost", {"boot_id": boot, "collector_pid": pid, "collector_start": start + 1}),
        ("lost", {"boot_id": "x", "collector_pid": pid, "collector_start": start}),
        ("lost", {"boot_id": boot, "collector_pid": 2**40, "collector_start": 1}),
    ]
    for i, (state, writer) in enumerate(cases):
        with Maker(tmp_path / f"{i}.neap", finished=0, **writer) as make:
            process = make.process(1, exit_kind="running", exit_code=None, end_ns=None)
            make.site(process, make.stack("f"), peak=(5, 1))
        with neaptide.open(make.path) as rec:
            assert rec.state == state
            assert rec.recording["exit"] == {"kind": state, "code": None}
            complete = state == "running"
            assert rec.loss == {
                "events": 0,
                "bytes": 0,
                "stacks": 0,
                "complete": complete,
            }
            assert rec.processes[0]["exit_kind"] == state
        for command in ("report", "leaks"):
            loss = json.loads(neap(command, make.path, "--json").stdout)["loss"]
            assert loss["complete"] is complete
        out = neap("report", make.path).stdout
        if state == "running":
            assert "(pid 1), still running; data up to 3.2 s\n" in out
            assert "exact: every event until 3.2 s counted, nothing lost\n" in out
        else:
            assert (
                "lost: the collector ended before the target; data up to 3.2 s\n" in out
            )
            assert "not exact: what happened after 3.2 s is missing\n" in out
            assert "nothing lost" not in out


def test_exec_is_followed_to_its_end(tmp_path: Path) -> None:
    with Maker(tmp_path / "x.neap") as make:
        make.process(7, exit_kind="exec", exit_code=None)
        make.process(8, exit_code=1)
        make.process(7, exit_kind="exec", exit_code=None)
        make.process(7, exit_code=42)
        make.process(7, exit_code=5)  # another process that got the same pid
    with neaptide.open(make.path) as rec:
        assert rec.recording["pid"] == 7
        assert rec.recording["exit"] == {"kind": "exited", "code": 42}


def test_cmd_that_was_never_seen(neap: Run, tmp_path: Path) -> None:
    with Maker(tmp_path / "x.neap", main_process=None) as make:
        pass
    answer = neap("report", make.path)
    assert "how it ended is unknown" in answer.stdout
    assert "no process was recorded" in answer.stdout
    assert "nothing is known about leaks" in neap("leaks", make.path).stdout
    about = json.loads(neap("report", make.path, "--json").stdout)["recording"]
    assert about["pid"] is None


def test_sql(neap: Run, sample: Path) -> None:
    words = ("sql", sample, "SELECT pid, exe, NULL AS n, x'ff' AS b FROM process")
    assert neap(*words).stdout == (
        "pid  exe         n     b\n"
        "---  ----------  ----  -----\n"
        "100  /bin/app    NULL  x'ff'\n"
        "101  /bin/app    NULL  x'ff'\n"
        "101  /bin/other  NULL  x'ff'\n"
    )
    answer = json.loads(neap(*words, "--json").stdout)
    assert answer["columns"] == ["pid", "exe", "n", "b"]
    assert answer["rows"][0] == [100, "/bin/app", None, "ff"]
    rows = list(csv.reader(neap(*words, "--csv").stdout.splitlines()))
    assert rows[0] == ["pid", "exe", "n", "b"]
    assert rows[3] == ["101", "/bin/other", "", "ff"]
    out = neap("sql", sample, "SELECT 1 AS one WHERE 0").stdout
    assert out == "one\n---\n"


def test_export(neap: Run, fails: Callable[..., str], sample: Path) -> None:
    words = ("export", sample, "--format", "collapsed")
    expected = "main;middle;leaf 1000\nmain;other_leaf 150\n"
    assert neap(*words).stdout == expected
    out = sample.with_name("out")
    out.write_text("old")
    assert neap(*words, "-o", out).returncode == 0
    assert out.read_text() == expected
    assert neap(*words, "-o", "/dev/null").returncode == 0
    assert neap(*words, "--metric", "temporary").stdout == "main;middle;leaf 40\n"
    assert "cannot write" in fails(*words, "-o", sample.parent)
    assert "cannot write" in fails(*words, "-o", "/nowhere/at/all")
    assert "invalid choice" in fails("export", sample, "--format", "svg")
    assert {p.name for p in sample.parent.iterdir()} == {sample.name, "out"}


def test_export_spares_recordings(fails: Callable[..., str], sample: Path) -> None:
    before = sample.read_bytes()
    words = ("export", sample, "--format", "collapsed", "-o")
    link, hard = sample.with_name("link"), sample.with_name("hard")
    link.symlink_to(sample)
    hard.hardlink_to(sample)
    other = sample.with_name("other.neap")
    other.write_bytes(before)
    for out in (sample, link, hard, f"{sample}-wal", f"{sample}-shm"):
        assert f"{out} is the recording, or a part of it" in fails(*words, out)
    assert "is a recording or another SQLite database" in fails(*words, other)
    names = {sample.name, "link", "hard", "other.neap"}
    assert {p.name for p in sample.parent.iterdir()} == names
    assert sample.read_bytes() == other.read_bytes() == before
    assert link.is_symlink()


@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_closed_standard_output(sample: Path, closed: str) -> None:
    def shell(words: str) -> tuple[int, str]:
        answer = subprocess.run(
            ["/bin/sh", "-c", f'"$0" {words} {closed}', NEAP, str(sample)],
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        return answer.returncode, answer.stderr

    before = sample.read_bytes()
    out = sample.with_name("out")
    for words in (
        'report "$1"',
        'report "$1" --json',
        'leaks "$1"',
        'sql "$1" "SELECT 1"',
        'export "$1" --format collapsed',
        "--help",
        "--version",
    ):
        status, line = shell(words)
        assert status == 2, words
        assert line.startswith("neap: cannot write the answer: standard output is")
        assert line.count("\n") == 1
    assert shell(f'export "$1" --format collapsed -o "{out}"') == (0, "")
    assert out.read_text().startswith("main;middle;leaf ")
    assert sample.read_bytes() == before


def test_help(neap: Run) -> None:
    alone = neap()
    assert alone.returncode == 0
    assert alone.stdout == neap("--help").stdout
    for command in ("run", "report", "leaks", "sql", "switch", "export", "doctor"):
        assert f"\n  {command} " in alone.stdout
        if command != "run":
            answer = neap(command, "--help")
            assert answer.returncode == 0
            assert f"usage: neap {command}" in answer.stdout
            assert f"example:\n  neap {command}" in answer.stdout
    assert neap("--version").stdout == f"neap {neaptide.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frobnicate"], "unknown command 'frobnicate': the commands are run, report"),
        (["--frob"], "unknown option '--frob'"),
        (["report"], "the following arguments are required: FILE"),
        (["report", "x", "--limit", "-1"], "'-1'"),
        (["report", "x", "--limit", "many"], "'many' is not a whole number"),
        (["report", "x", "--lim", "3"], "unrecognized arguments: --lim 3"),
        (["report", "x", "--at", "soon"], "'soon' is not a time: give seconds"),
        (["report", "x", "--at", "inf"], "'inf' is not a time"),
        (["report", "x", "--from", "1_0"], "'1_0' is not a time"),
        (["report", "x", "--size", "big"], "'big' is not a size: give bytes"),
        (["report", "x", "--size=-"], "'-' is not a range of sizes: give MIN-MAX"),
        (["report", "x", "--size", "1K-2X"], "'2X' is not a size"),
        (["report", "x", "--by", "module"], "choose from"),
        (["report", "x", "--tid", "main"], "'main' is not a whole number"),
        (["switch", "x"], "required: on|off|status"),
        (["switch", "x", "maybe"], "choose from"),
        (["sql", "x"], "required: STATEMENT"),
        (["export", "x"], "required: --format"),
    ],
)
def test_wrong_usage(fails: Callable[..., str], words: list[str], message: str) -> None:
    assert message in fails(*words)


def test_questions_of_later_releases(fails: Callable[..., str], sample: Path) -> None:
    for metric in ("resident", "swapped", "untouched"):
        assert "does not hold" in fails("report", sample, "--metric", metric)
    line = fails("report", sample, "--metric", "x")
    assert "live, peak, allocated or temporary" in line
    assert "choose one of 100, 101" in fails("report", sample, "--pid", "3")
    assert "choose one of 100, 101" in fails("leaks", sample, "--pid", "3")
