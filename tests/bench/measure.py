# SPDX-License-Identifier: Apache-2.0
"""Running a program under a tool and counting CPU time: of the target by libcpu.c, of
everything by waiting for each process that the run started, orphans included."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


class ToolError(Exception):
    """A tool, or the program under it, failed."""


@dataclass
class Usage:
    target_s: float
    whole_s: float
    target_kib: int
    tool_kib: int
    rate: float
    said: str
    wall_s: float = 0.0


def prepare() -> None:
    """Orphans of what we run come to us, and none may eat the machine's memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (memory * 2 // 3, hard))


def _seconds(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def _reap_rest(deadline: float) -> float:
    """Wait for what the run left behind; its CPU seconds."""
    cpu = 0.0
    while True:
        try:
            pid, _, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return cpu
        if pid:
            cpu += _seconds(used)
        elif time.monotonic() > deadline:
            raise ToolError("its processes were still there at the end")
        else:
            time.sleep(0.002)


def run(
    command: list[str],
    target: str,
    work: Path,
    environment: dict[str, str] | None = None,
    drive: Callable[[], float] | None = None,
    timeout: float = 300,
) -> Usage:
    """Run it to its end; `drive` is called meanwhile, where a server needs work."""
    usage, errors = work / "usage", work / "stderr"
    usage.unlink(missing_ok=True)
    extra = dict(environment or {})
    preload = f"{extra.pop('LD_PRELOAD', '')}:{work / 'libcpu.so'}".lstrip(":")
    env = dict(os.environ, LC_ALL="C", PYTHONHASHSEED="0", **extra)
    env.update(BENCH_CPU=str(usage), LD_PRELOAD=preload)
    start = time.monotonic()
    deadline = start + timeout
    rate, late, done = 0.0, False, False
    with errors.open("wb") as said:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
    fd = os.pidfd_open(process.pid)
    try:
        if drive:
            rate = drive()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        late = not poll.poll(max(0, deadline - time.monotonic()) * 1000)
        done = not late
    finally:
        os.close(fd)
        if not done:
            os.killpg(process.pid, signal.SIGKILL)
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu = _seconds(used) + _reap_rest(time.monotonic() + 60)
    text = errors.read_text(errors="replace")
    if late:
        raise ToolError(f"not done after {timeout:.0f} s")
    if process.returncode != 0 or "terminate called" in text:
        lines = [line for line in text.splitlines() if line.strip()]
        raise ToolError(
            f"ended with status {process.returncode}: {' '.join(lines[-2:])}"
        )
    result = _read(usage, target, cpu, rate, text)
    result.wall_s = wall_s
    return result


def _read(usage: Path, target: str, whole: float, rate: float, said: str) -> Usage:
    result = Usage(0.0, whole, 0, 0, rate, said)
    lines = usage.read_text().splitlines() if usage.exists() else []
    for line in lines:
        name, cpu, kib = line.rsplit(" ", 2)
        if name == target:
            result.target_s += int(cpu) / 1e6
            result.target_kib = max(result.target_kib, int(kib))
        else:
            result.tool_kib = max(result.tool_kib, int(kib))
    if not result.target_s:
        raise ToolError(f"{target} did not say what it used")
    return result


def wall(command: list[str]) -> float:
    """Seconds that a command takes which must succeed."""
    start = time.monotonic()
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=300,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ToolError(said[-1] if said else f"ended with status {done.returncode}")
    return time.monotonic() - start


def drive_redis(path: Path, requests: int) -> Callable[[], float]:
    """Load for a redis-server on that socket, then its end; the requests a second."""

    def drive() -> float:
        _connect(path).close()
        client = ["redis-benchmark", "-s", str(path), "-t", "set,get,lpush,hset", "-q"]
        client += ["-n", str(requests), "-r", "50000"]
        client += ["-c", "20", "-P", "16", "-d", "100"]
        rate = 4 * requests / wall(client)
        with _connect(path) as connection:
            connection.sendall(b"SHUTDOWN NOSAVE\r\n")
            connection.recv(64)
        return rate

    return drive


def _connect(path: Path) -> socket.socket:
    deadline = time.monotonic() + 20
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        try:
            connection.connect(str(path))
            return connection
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline:
                raise ToolError(f"the server did not come up: {error}") from error
            time.sleep(0.01)
