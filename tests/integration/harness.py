# SPDX-License-Identifier: Apache-2.0
"""What the integration tests share: where things are, how to record, how to look.

A test runs a program under `neapd run`, opens the recording with Python's own
sqlite3, and holds it against what the program says of itself (tests/targets/target.h)
or against an independent counter. No test asserts a time; a timeout only turns a hang
into a failure.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("NEAP_BUILD", ROOT / "build")).resolve()
TARGETS = ROOT / "build" / "targets"
NEAPD = BUILD / "bin" / "neapd"
NEAP = BUILD / "bin" / "neap"
LIBNEAP = BUILD / "lib" / "libneap.so"
TIMEOUT = 120.0

SITE_COLUMNS = ("alloc_count", "alloc_bytes", "free_count", "free_bytes")


@dataclass
class Result:
    """A command that has ended."""

    argv: list[str]
    status: int
    stdout: str
    stderr: str
    raw_stdout: bytes

    def expect(self, status: int) -> Self:
        assert self.status == status, (
            f"{self.argv} ended with {self.status}, not {status}\n"
            f"stdout: {self.stdout[-2000:]}\nstderr: {self.stderr[-2000:]}"
        )
        return self

    def words(self, first: str) -> list[list[str]]:
        """The lines of standard output that begin with a word, split."""
        lines = [line.split() for line in self.stdout.splitlines()]
        return [line[1:] for line in lines if line and line[0] == first]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NEAP_", "LD_"))}
    env["LC_ALL"] = "C"
    env["PYTHONHASHSEED"] = "0"
    env.update(extra or {})
    return env


def kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def execute(
    argv: Sequence[object],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = b"",
    timeout: float = TIMEOUT,
    cwd: Path | None = None,
    preexec: Callable[[], None] | None = None,
    own_session: bool = True,
) -> Result:
    """Run a command to its end, by default in a process group of its own."""
    words = [str(word) for word in argv]
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(env),
        cwd=cwd,
        start_new_session=own_session,
        preexec_fn=preexec,
    )
    try:
        out, err = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        kill_group(process) if own_session else process.kill()
        out, err = process.communicate()
        pytest.fail(
            f"{words} still ran after {timeout} s\nstdout: {out[-2000:]!r}\n"
            f"stderr: {err[-2000:]!r}"
        )
    return Result(
        words,
        process.returncode,
        out.decode(errors="replace"),
        err.decode(errors="replace"),
        out,
    )


class Recording:
    """A recording, seen through nothing but SQLite."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self.db.row_factory = sqlite3.Row

    def close(self) -> None:
        self.db.close()

    def rows(self, query: str, *args: Any) -> list[sqlite3.Row]:
        return self.db.execute(query, args).fetchall()

    def one(self, query: str, *args: Any) -> Any:
        return self.db.execute(query, args).fetchone()[0]

    @property
    def main_pid(self) -> int:
        return int(self.one("SELECT pid FROM recording"))

    def processes(self) -> list[sqlite3.Row]:
        return self.rows("SELECT id, * FROM raw_process ORDER BY id")

    def process(self, pid: int | None = None) -> sqlite3.Row:
        """The last image of a pid."""
        rows = self.rows(
            "SELECT * FROM raw_process WHERE pid = ? ORDER BY id DESC LIMIT 1",
            self.main_pid if pid is None else pid,
        )
        assert rows, f"process {pid} is not in the recording"
        return rows[0]

    def loss(self) -> dict[str, int]:
        rows = self.rows("SELECT what, sum(count) FROM loss GROUP BY what")
        return {row[0]: row[1] for row in rows if row[1]}

    def expect_whole(self) -> Recording:
        """Ended in good order and nothing lost."""
        assert self.loss() == {}
        assert self.one("SELECT finished FROM recording") == 1
        assert self.one("SELECT mode FROM recording") == "exact"
        return self

    def site(self, function: str, pid: int | None = None) -> dict[str, int]:
        """Sums over all stacks that a function is in, of one process or of all."""
        sums = (*SITE_COLUMNS, "live_count", "live_bytes", "peak_count", "peak_bytes")
        columns = ", ".join(
            f"coalesce(sum({c}), 0) AS {c}" for c in (*sums, "temporary_count")
        )
        row = self.rows(
            f"SELECT {columns} FROM site WHERE stack_id IN "
            "(SELECT stack_id FROM frame WHERE function = ?) "
            "AND (? IS NULL OR pid = ?)",
            function,
            pid,
            pid,
        )[0]
        return dict(row)

    def totals(self, image: int) -> dict[str, int]:
        """Sums over all stacks of one program image (raw_process.id)."""
        columns = ", ".join(f"coalesce(sum({c}), 0) AS {c}" for c in SITE_COLUMNS)
        return dict(
            self.rows(f"SELECT {columns} FROM raw_site WHERE process = ?", image)[0]
        )

    def frames(self, stack: int) -> list[sqlite3.Row]:
        return self.rows("SELECT * FROM frame WHERE stack_id = ? ORDER BY depth", stack)

    def functions(self, stack: int) -> list[str]:
        return [row["function"] for row in self.frames(stack)]


@dataclass
class Run(Result):
    """A recorded command."""

    path: Path = field(default_factory=Path)
    recording: Recording | None = None

    @property
    def rec(self) -> Recording:
        if self.recording is None:
            self.recording = Recording(self.path)
        return self.recording


def check_sites(
    run: Result, rec: Recording, pid: int | None = None, at_least: int = 1
) -> None:
    """Hold every "site" line of a target against the recording."""
    wrong = []
    lines = run.words("site")
    assert len(lines) >= at_least, f"{run.argv} said nothing of its sites"
    for name, *numbers in lines:
        found = rec.site(name, pid)
        for column, number in zip(SITE_COLUMNS, map(int, numbers), strict=True):
            if number >= 0 and found[column] != number:
                wrong.append(f"{name}: {column} is {found[column]}, not {number}")
        if found["live_count"] != found["alloc_count"] - found["free_count"]:
            wrong.append(f"{name}: live_count is {found['live_count']}")
        if found["live_bytes"] != found["alloc_bytes"] - found["free_bytes"]:
            wrong.append(f"{name}: live_bytes is {found['live_bytes']}")
    assert not wrong, "\n".join(wrong)


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    """Wait for something that must come to pass."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"in vain waited for {what}")
        time.sleep(0.02)
    return value


def collector_of(path: Path) -> int | None:
    """The neapd that writes a recording: it alone holds the file open for that."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text() != "neapd\n":
                continue
            for fd in (comm.parent / "fd").iterdir():
                if os.readlink(fd) == str(path):
                    return int(comm.parent.name)
        except OSError:
            continue
    return None


Record = Callable[..., Run]


def target(name: str, *words: str) -> list[str]:
    path = TARGETS / name
    assert path.exists(), f"{path} is not built: make targets"
    return [str(path), *words]


def neap_json(*words: object) -> Any:
    """What a command says with --json."""
    result = execute([NEAP, *words, "--json"])
    assert result.status == 0, result.stderr
    return json.loads(result.stdout)


def require_root(why: str) -> None:
    if os.geteuid() != 0:
        pytest.skip(f"needs root: {why}")
