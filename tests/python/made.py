# SPDX-License-Identifier: Apache-2.0
"""Recordings made by code: the real schema, filled with numbers a test knows.

with Maker(path) as make:
    main = make.process(100)
    stack = make.stack("leaf", "main")
    make.site(main, stack, live=(10, 2), peak=(30, 3))
"""

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
APPLICATION_ID = 0x4E656170
VERSION = 1

Pair = tuple[int, int]  # bytes, count


def schema() -> Iterable[str]:
    """The migrations in their order, then the views."""
    for path in sorted((ROOT / "schema/sql").glob("0*.sql")):
        yield path.read_text()
    yield (ROOT / "schema/sql/views.sql").read_text()


class Maker:
    """Fills a new recording; leaving the context commits and closes it."""

    def __init__(self, path: Path, **recording: Any) -> None:
        self.path = path
        self.db = sqlite3.connect(path)
        self.db.execute("PRAGMA page_size = 8192")
        self.db.execute("PRAGMA journal_mode = WAL")
        for script in schema():
            self.db.executescript(script)
        self.db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self.db.execute(f"PRAGMA user_version = {VERSION}")
        self.recording = {
            "id": 1,
            "version": "0.1.0",
            "command": json.dumps(["./app", "--flag", "two words"]),
            "start_utc": "2025-01-02T03:04:05.000006Z",
            "duration_ns": 3_200_000_000,
            "host": "host",
            "kernel": "6.1.0",
            "machine": "x86_64",
            "mode": "exact",
            "interval": 0,
            "policy": "block",
            "boot_id": "none",
            "collector_pid": 1,
            "collector_start": 1,
            "main_process": 1,
            "finished": 1,
        } | recording
        self.frames: dict[tuple[Any, ...], int] = {}
        self.modules: dict[str, int] = {}

    def __enter__(self) -> "Maker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.insert("raw_recording", self.recording)
        self.db.commit()
        self.db.execute("PRAGMA journal_mode = DELETE")
        self.db.close()

    def insert(self, table: str, values: dict[str, Any]) -> int:
        """One row; its rowid."""
        assert re.fullmatch(r"\w+", table)
        marks = ", ".join("?" * len(values))
        cursor = self.db.execute(
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})",
            list(values.values()),
        )
        return cursor.lastrowid or 0

    def process(self, pid: int, **values: Any) -> int:
        """A program image; its id."""
        return self.insert(
            "raw_process",
            {
                "pid": pid,
                "ppid": 1,
                "exe": "/bin/app",
                "command": json.dumps(["./app"]),
                "start_ns": 1000,
                "end_ns": 3_000_000_000,
                "exit_kind": "exited",
                "exit_code": 0,
                "allocator": "glibc",
                "interval": 0,
                "unwinder": "cfi",
            }
            | values,
        )

    def module(self, path: str) -> int:
        """A file; its id."""
        if path not in self.modules:
            self.modules[path] = self.insert(
                "raw_module", {"path": path, "build_id": "ab12"}
            )
        return self.modules[path]

    def frame(
        self,
        function: str | None,
        file: str | None = "app.c",
        line: int | None = 10,
        module: str | None = "/bin/app",
        offset: int = 0x1000,
        kind: str = "native",
        inlined: int = 0,
    ) -> int:
        """A frame; its id. The same frame twice is one row."""
        key = (function, file, line, module, offset, kind, inlined)
        if key not in self.frames:
            self.frames[key] = self.insert(
                "raw_frame",
                {
                    "function": function,
                    "file": file,
                    "line": line,
                    "module": None if module is None else self.module(module),
                    "offset": offset,
                    "kind": kind,
                    "inlined": inlined,
                },
            )
        return self.frames[key]

    def stack(self, *frames: str | int, truncated: int = 0) -> int:
        """A stack of frames' ids or functions' names, innermost first; its id."""
        ids = [self.frame(f) if isinstance(f, str) else f for f in frames]
        return self.insert(
            "raw_stack", {"frames": json.dumps(ids), "truncated": truncated}
        )

    def memory_error(
        self,
        process: int,
        kind: str,
        address: int,
        block: tuple[int, int] | None,
        alloc_stack: int | None,
        free_stack: int | None,
        stack: int | None,
    ) -> int:
        """A memory error at 9 ns; block is its start and size."""
        start, size = block or (None, None)
        return self.insert(
            "raw_memory_error",
            {
                "ts_ns": 9,
                "process": process,
                "tid": 100,
                "kind": kind,
                "address": address,
                "block": start,
                "size": size,
                "alloc_stack": alloc_stack,
                "free_stack": free_stack,
                "stack": stack,
            },
        )

    def map(self, process: int, op: str, stack: int | None, **values: int | str) -> int:
        """A change of the address space; what is not said is 0, the source hook."""
        numbers = ("address", "size", "old_address", "old_size", "prot", "flags")
        row = {"ts_ns": 5, "process": process, "tid": 100, "op": op, "stack": stack}
        row |= dict.fromkeys(numbers, 0)
        return self.insert("raw_map", row | {"source": "hook"} | values)

    def site(
        self,
        process: int,
        stack: int,
        live: Pair = (0, 0),
        peak: Pair = (0, 0),
        allocated: Pair = (0, 0),
        temporary: Pair = (0, 0),
        **values: Any,
    ) -> None:
        """A stack's numbers in a process."""
        self.insert(
            "raw_site",
            {
                "process": process,
                "stack": stack,
                "alloc_bytes": allocated[0],
                "alloc_count": allocated[1],
                "free_bytes": allocated[0] - live[0],
                "free_count": allocated[1] - live[1],
                "live_bytes": live[0],
                "live_count": live[1],
                "peak_bytes": peak[0],
                "peak_count": peak[1],
                "temporary_bytes": temporary[0],
                "temporary_count": temporary[1],
            }
            | values,
        )

    def thread(self, process: int, tid: int, name: str = "app") -> None:
        """A thread."""
        self.insert(
            "raw_thread",
            {"process": process, "tid": tid, "name": name, "start_ns": 1, "end_ns": 2},
        )

    def block(
        self, process: int, stack: int, address: int, size: int, tid: int, **values: Any
    ) -> None:
        """A block that was never freed."""
        row = {"process": process, "address": address, "size": size, "weight": size}
        row |= {"stack": stack, "tid": tid, "ts_ns": 77}
        self.insert("raw_live", row | values)

    def event_site(self, process: int, site: int, stack: int) -> None:
        """Which stack the events of a site have."""
        self.insert(
            "raw_event_site", {"process": process, "site": site, "stack": stack}
        )

    def loss(self, process: int, what: str, count: int, lost_bytes: int = 0) -> None:
        """Something that was lost."""
        self.insert(
            "raw_loss",
            {
                "process": process,
                "what": what,
                "ts_ns": 5,
                "count": count,
                "bytes": lost_bytes,
            },
        )


def add_events(path: Path, lines: Iterable[str], chunk: int = 16384) -> None:
    """Put events into a recording: lines as tests/unit/make_events.c has them."""
    subprocess.run(
        [str(ROOT / "build/tests/make_events"), str(path), str(chunk)],
        input="".join(f"{line}\n" for line in lines),
        text=True,
        timeout=60,
        check=True,
    )


def make_sample(path: Path) -> Path:
    """Two processes, the second of which execs; known numbers everywhere."""
    with Maker(path) as make:
        main = make.process(100, peak_bytes=700)
        child = make.process(101, exit_kind="exec", exit_code=None, peak_bytes=50)
        image = make.process(
            101, exe="/bin/other", exit_kind="signaled", exit_code=9, peak_bytes=400
        )
        big = make.stack("leaf", "middle", "main")
        small = make.stack("other_leaf", "main")
        libc = make.frame(
            "_IO_file_doallocate", None, None, "/lib/libc.so.6", offset=0x7A000
        )
        stdio = make.stack(libc, "main")
        nameless = make.frame(None, None, None, "/lib/libx.so", offset=0x1234)
        cut = make.stack(nameless, truncated=1)
        make.site(main, big, (300, 3), (600, 6), (6000, 60), (40, 4))
        make.site(image, big, (100, 1), (400, 4), (4000, 40))
        make.site(child, small, (0, 0), (50, 1), (50, 1))
        make.site(main, small, (7, 1), (100, 2), (100, 2))
        make.site(main, stdio, (1024, 1), (0, 0), (1024, 1))
        make.site(main, cut, (0, 2), (0, 0), (0, 2))
        make.insert(
            "raw_live",
            {
                "process": main,
                "address": 0x7000,
                "size": 7,
                "weight": 7,
                "stack": small,
                "tid": 100,
                "ts_ns": 77,
            },
        )
        make.insert(
            "raw_thread",
            {"process": main, "tid": 100, "name": "app", "start_ns": 1, "end_ns": 2},
        )
        make.map(main, "mmap", small, address=0x10000, size=4096, prot=3, flags=34)
        make.memory_error(main, "double-free", 0x5000, (0x5000, 64), big, small, big)
        make.memory_error(image, "invalid-free", 0x18, None, None, None, small)
    return path
