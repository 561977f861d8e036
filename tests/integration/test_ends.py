# SPDX-License-Identifier: Apache-2.0
"""Every way to end, right after 1000 allocations: nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import (
    NEAPD,
    Record,
    Recording,
    clean_environment,
    collector_of,
    target,
    wait_until,
)

WAYS = {
    "return": ("exited", 5),
    "exit": ("exited", 6),
    "_exit": ("exited", 7),
    "_Exit": ("exited", 8),
    "quick_exit": ("exited", 9),
    "syscall": ("exited", 10),
    "thread_exit": ("exited", 7),
    "main_leaves": ("exited", 0),
    "exec_fails": ("exited", 6),
    "abort": ("signaled", signal.SIGABRT),
    "segv": ("signaled", signal.SIGSEGV),
    "kill": ("signaled", signal.SIGKILL),
    "kill_busy": ("signaled", signal.SIGKILL),
}


def check_last_words(rec: Recording) -> None:
    found = rec.site("last_words")
    assert found["alloc_count"] == found["live_count"] == 1000
    assert found["alloc_bytes"] == found["live_bytes"] == sum(range(97, 1097))


@pytest.mark.parametrize("way", WAYS)
def test_end(record: Record, way: str) -> None:
    kind, code = WAYS[way]
    run = record(target("ends", way))
    run.expect(code if kind == "exited" else 128 + code)
    rec = run.rec.expect_whole()
    check_last_words(rec)
    process = rec.process()
    assert (process["exit_kind"], process["exit_code"]) == (kind, code)
    assert process["end_ns"] >= process["start_ns"]


@pytest.mark.parametrize("way", ["exec", "exec_busy"])
def test_exec(record: Record, way: str) -> None:
    """One pid, two images, each with its own numbers."""
    rec = record(target("ends", way)).expect(3).rec.expect_whole()
    check_last_words(rec)
    first, second = rec.processes()
    assert first["pid"] == second["pid"] == rec.main_pid
    assert first["exit_kind"] == "exec"
    assert (second["exit_kind"], second["exit_code"]) == ("exited", 3)
    if way == "exec":
        assert rec.totals(first["id"])["alloc_count"] == 1000
    assert rec.site("after_exec")["alloc_count"] == 10
    assert rec.totals(second["id"])["alloc_count"] == 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signal_is_handed_on(
    tmp_path_factory: pytest.TempPathFactory, number: int
) -> None:
    """A signal to `neapd run` reaches CMD, whose end is the run's."""
    path = tmp_path_factory.mktemp("signal") / "0.neap"
    argv = [
        str(NEAPD),
        "run",
        "--quiet",
        "-o",
        str(path),
        "--",
        *target("steady", "100000", "4"),
    ]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        env=clean_environment(),
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    finally:
        if process.poll() is None:
            process.kill()
    wait_until(lambda: collector_of(path) is None, "the collector's end")
    rec = Recording(path).expect_whole()
    assert (rec.process()["exit_kind"], rec.process()["exit_code"]) == (
        "signaled",
        number,
    )
    rec.close()


class Ended:
    """A run whose CMD was ended by SIGTERM while its collector stood still."""

    def __init__(self, path: Path) -> None:
        self.path = path
        argv = [NEAPD, "run", "-o", path, "--", *target("steady", "100000", "4")]
        self.run = subprocess.Popen(
            [str(word) for word in argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            start_new_session=True,
        )
        assert self.run.stdout is not None
        assert self.run.stdout.readline() == b"started\n"
        self.collector = wait_until(lambda: collector_of(path), "a collector")
        os.kill(self.collector, signal.SIGSTOP)
        self.run.send_signal(signal.SIGTERM)
        wait_until(lambda: self.children() == [self.collector], "the command's end")

    def children(self) -> list[int]:
        place = Path(f"/proc/{self.run.pid}/task/{self.run.pid}/children")
        return [int(word) for word in place.read_text().split()]

    def end(self) -> str:
        """What it said; the collector runs again, to the recording's end."""
        os.kill(self.collector, signal.SIGCONT)
        _, said = self.run.communicate(timeout=60)
        assert self.run.returncode == 128 + signal.SIGTERM
        wait_until(lambda: collector_of(self.path) is None, "the collector's end")
        return said.decode()


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Ended]:
    run = Ended(tmp_path / "x.neap")
    yield run
    if run.run.poll() is None:
        os.kill(run.collector, signal.SIGCONT)
        run.run.kill()
        run.run.communicate()


def test_second_signal_at_once(ended: Ended) -> None:
    """timeout(1) ends CMD, then the group it is in: that is not impatience."""
    ended.run.send_signal(signal.SIGTERM)
    said = ended.end()
    assert "not waiting" not in said
    assert "neap report" in said, "the tally"


def test_second_signal_later(ended: Ended) -> None:
    """Who still sends signals when CMD has long ended does not want to wait."""
    while ended.run.poll() is None:
        ended.run.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # with less than a second between, no other patience ends
    assert f"not waiting for the collector, process {ended.collector}" in ended.end()
