# SPDX-License-Identifier: Apache-2.0
"""Every way to end, right after 1000 allocations: nothing is lost."""

from __future__ import annotations

import signal
import subprocess

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
