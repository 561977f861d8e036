# SPDX-License-Identifier: Apache-2.0
"""The collector dies, stops, or has no disk: the program never notices.

Its output and status stay its own, what was committed opens, and what was lost is
counted and shown.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import (
    NEAP,
    NEAPD,
    Recording,
    Result,
    clean_environment,
    collector_of,
    execute,
    neap_json,
    require_root,
    target,
    wait_until,
)


@dataclass
class Day:
    """A steady program under a collector that something happens to."""

    path: Path
    process: subprocess.Popen[bytes]
    expected: Result

    @property
    def collector(self) -> int:
        return int(wait_until(lambda: collector_of(self.path), "a collector"))

    def committed(self) -> None:
        """Until the file holds numbers."""

        def has_sites() -> bool:
            rec = Recording(self.path)
            try:
                return bool(rec.one("SELECT count(*) FROM raw_site"))
            except Exception:  # the schema may not be there yet
                return False
            finally:
                rec.close()

        wait_until(has_sites, "the first commit")

    def end(self) -> str:
        """The program's end, as if nothing had happened; gives what was said."""
        out, err = self.process.communicate(timeout=90)
        assert self.process.returncode == self.expected.status == 21
        assert b"started\n" + out == self.expected.raw_stdout
        assert "Traceback" not in err.decode()
        return err.decode()


Start = Callable[..., Day]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    days: list[Day] = []

    def call(*words: str, path: Path = tmp_path / "x.neap", **how: object) -> Day:
        command = target("steady", *words)
        expected = execute(command)
        argv = [str(w) for w in (NEAPD, "run", "-o", path, "--", *command)]
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            start_new_session=True,
            bufsize=0,
        )
        day = Day(path, process, expected)
        days.append(day)
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        return day

    yield call
    for day in days:
        if day.process.poll() is None:
            os.killpg(day.process.pid, signal.SIGKILL)
            day.process.wait()


def events(rec: Recording) -> int:
    """Of the one process, which has but one site; names may be missing."""
    found = rec.totals(rec.process()["id"])
    return found["alloc_count"] + found["free_count"]


def made(day: Day) -> tuple[int, int]:
    """Allocations and frees the program made."""
    ((_, allocs, _, frees, _),) = day.expected.words("site")
    return int(allocs), int(frees)


def test_killed(start: Start) -> None:
    day = start("400", "20", "10000")
    day.committed()
    os.kill(day.collector, signal.SIGKILL)
    said = day.end()
    assert "collector" in said, said
    rec = Recording(day.path)
    assert rec.one("PRAGMA integrity_check") == "ok"
    assert 0 < events(rec) < sum(made(day))
    assert rec.one("SELECT finished FROM recording") == 0
    answer = neap_json("report", day.path, "--metric", "allocated")
    assert answer["recording"]["exit"]["kind"] == "lost"
    assert answer["total"]["value"] == rec.one("SELECT sum(alloc_bytes) FROM site")
    text = execute([NEAP, "report", day.path]).expect(0)
    assert "lost" in text.stdout + text.stderr
    rec.close()


def test_killed_at_once(start: Start) -> None:
    """Before anything is committed the file may be empty, but it says so plainly."""
    day = start("100", "20", "5000")
    os.kill(day.collector, signal.SIGKILL)
    day.end()
    result = execute([NEAP, "report", day.path])
    assert result.status in (0, 2)
    assert "Traceback" not in result.stderr
    if result.status == 2:
        assert len(result.stderr.splitlines()) == 1


def test_children_start_after_the_collector_died(tmp_path: Path) -> None:
    """A child that finds nobody at the socket goes on unrecorded."""
    path = tmp_path / "x.neap"
    leaf = " ".join(target("processes", "leaf"))
    script = f"echo ready; read x; {leaf} 5 >/dev/null && echo done; exit 8"
    argv = [
        str(NEAPD),
        "run",
        "--quiet",
        "-o",
        str(path),
        "--",
        "/bin/sh",
        "-c",
        script,
    ]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(),
        start_new_session=True,
        bufsize=0,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.kill(wait_until(lambda: collector_of(path), "a collector"), signal.SIGKILL)
    out, _ = process.communicate(b"go\n", timeout=60)
    assert (out, process.returncode) == (b"done\n", 8)


def test_stopped_with_little_to_say(start: Start) -> None:
    """What fits into a lane waits there: nothing is lost."""
    day = start("500", "4", "10000")
    day.committed()
    os.kill(day.collector, signal.SIGSTOP)
    time.sleep(4)
    os.kill(day.collector, signal.SIGCONT)
    day.end()
    wait_until(lambda: collector_of(day.path) is None, "the collector's end")
    rec = Recording(day.path).expect_whole()
    found = rec.site("steady_block")
    assert (found["alloc_count"], found["free_count"]) == made(day)
    rec.close()


def test_stopped_in_a_storm(start: Start) -> None:
    """What does not fit is lost, and every lost event is counted."""
    day = start("300", "4000", "15000")
    day.committed()
    os.kill(day.collector, signal.SIGSTOP)
    time.sleep(4)
    os.kill(day.collector, signal.SIGCONT)
    day.end()
    wait_until(lambda: collector_of(day.path) is None, "the collector's end")
    rec = Recording(day.path)
    lost = rec.loss()
    assert lost.get("events", 0) > 0, f"nothing lost in four seconds: {lost}"
    foreign = rec.process()["foreign_free_count"]
    seen = events(rec) + foreign + lost["events"]
    # A block whose free was lost and whose address came back was freed unseen.
    assert seen == sum(made(day))
    answer = neap_json("report", day.path)
    assert answer["loss"]["events"] == lost["events"]
    text = execute([NEAP, "report", day.path]).expect(0)
    assert "lost" in text.stdout + text.stderr
    rec.close()


def test_stopped_for_ever(start: Start) -> None:
    """The program ends while the collector is stopped; later the rest is read."""
    day = start("60", "50", "10000")
    collector = day.collector
    day.committed()
    os.kill(collector, signal.SIGSTOP)
    try:
        assert day.process.stdout is not None
        steady = wait_until(lambda: child_named(day.process.pid, "steady"), "steady")
        wait_until(lambda: gone(steady), "the program's end")
    finally:
        os.kill(collector, signal.SIGCONT)
    day.end()
    wait_until(lambda: collector_of(day.path) is None, "the collector's end")
    rec = Recording(day.path).expect_whole()
    found = rec.site("steady_block")
    assert (found["alloc_count"], found["free_count"]) == made(day)
    rec.close()


def child_named(parent: int, name: str) -> int | None:
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        try:
            if Path(f"/proc/{pid}/comm").read_text() == f"{name}\n":
                return int(pid)
        except OSError:
            continue
    return None


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state in ("Z", "X")


def check_full_disk(day: Day) -> None:
    said = day.end()
    wait_until(lambda: collector_of(day.path) is None, "the collector's end")
    complaints = [x for x in said.splitlines() if str(day.path) in x or "disk" in x]
    assert complaints, said
    rec = Recording(day.path)
    assert rec.one("PRAGMA integrity_check") == "ok"
    assert events(rec) > 0
    whole = events(rec) == sum(made(day))
    assert whole or rec.loss() or not rec.one("SELECT finished FROM recording"), (
        "rows are missing and nothing says so"
    )
    rec.close()
    result = execute([NEAP, "report", day.path]).expect(0)
    assert "Traceback" not in result.stderr


def test_file_size_limit(start: Start) -> None:
    """No byte more may be written from the middle of the recording on."""
    day = start("300", "50", "10000")
    day.committed()
    resource.prlimit(day.collector, resource.RLIMIT_FSIZE, (4096, 4096))
    check_full_disk(day)


def test_disk_full(start: Start, tmp_path: Path) -> None:
    require_root("mounts a small file system")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small]
    if execute(mount).status != 0:
        pytest.skip("cannot mount a tmpfs here")
    try:
        day = start("300", "50", "10000", path=small / "x.neap")
        day.committed()
        with (small / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                pass
        check_full_disk(day)
    finally:
        execute(["umount", "-l", small])


def test_disk_full_from_the_start(tmp_path: Path) -> None:
    """Said before the program starts."""
    require_root("mounts a small file system")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", small]
    if execute(mount).status != 0:
        pytest.skip("cannot mount a tmpfs here")
    try:
        argv = [NEAPD, "run", "-o", small / "x.neap", "--", *target("ends", "return")]
        result = execute(argv).expect(125)
        assert result.stdout == ""
        assert str(small / "x.neap") in result.stderr
        assert len(result.stderr.splitlines()) == 1
    finally:
        execute(["umount", "-l", small])


def test_launcher_killed(start: Start) -> None:
    """Without the launcher, program and collector go on to their own ends."""
    day = start("150", "20", "10000")
    os.kill(day.process.pid, signal.SIGKILL)
    assert day.process.stdout is not None
    rest = day.process.stdout.read()
    assert b"started\n" + rest == day.expected.raw_stdout
    wait_until(lambda: collector_of(day.path) is None, "the collector's end")
    rec = Recording(day.path)
    assert rec.loss() == {}
    found = rec.site("steady_block")
    assert (found["alloc_count"], found["free_count"]) == made(day)
    rec.close()
