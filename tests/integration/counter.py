# SPDX-License-Identifier: Apache-2.0
"""The independent counter: run with it, read it, compare it with a recording."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import LIBNEAP, TARGETS, Recording

HEADER = struct.Struct("=4q480s")


@dataclass
class Image:
    pid: int
    allocs: int
    bytes: int
    frees: int
    exe: str


def counted(command: Sequence[str], directory: Path) -> list[str]:
    """CMD with the counter behind libneap.so: both see the same calls."""
    return [
        "/usr/bin/env",
        f"LD_PRELOAD={LIBNEAP}:{TARGETS / 'libcount.so'}",
        f"COUNT_DIR={directory}",
        *command,
    ]


def read_counter(directory: Path) -> list[Image]:
    images = []
    for path in sorted(directory.glob("[0-9]*.[0-9]*")):
        data = path.read_bytes()
        if len(data) != HEADER.size:
            continue  # a recording, say
        pid, allocs, size, frees, exe = HEADER.unpack(data)
        name = exe.split(b"\0")[0].decode()
        images.append(Image(pid, allocs, size, frees, name))
    assert images, "the counter left nothing"
    return images


def check_counter(rec: Recording, directory: Path, bytes_too: bool = True) -> int:
    """Compare pid by pid; gives the number of allocations compared."""
    count: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    seen: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    names: dict[int, str] = {}
    for image in read_counter(directory):
        for i, value in enumerate((image.allocs, image.bytes, image.frees)):
            count[image.pid][i] += value
        names[image.pid] = image.exe
    for row in rec.processes():
        if row["exe"].endswith("/env"):
            continue  # it ran before the counter
        totals = rec.totals(row["id"])
        frees = totals["free_count"] + row["foreign_free_count"]
        values = (totals["alloc_count"], totals["alloc_bytes"], frees)
        for i, value in enumerate(values):
            seen[row["pid"]][i] += value
    wrong = []
    for pid in sorted(count.keys() | seen.keys()):
        ours, theirs = seen[pid], count[pid]
        if not bytes_too:
            ours[1] = theirs[1] = 0
        if ours != theirs:
            wrong.append(
                f"{names.get(pid, '?')} [{pid}]: recorded {ours}, counted {theirs} "
                "(allocations, bytes, frees)"
            )
    assert not wrong, "\n".join(wrong)
    return sum(values[0] for values in count.values())
