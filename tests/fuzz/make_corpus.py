#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write seeds of the fuzzers: one small input for each kind of record of the wire,
unwind tables of all instructions, and chunks of events.

usage: tests/fuzz/make_corpus.py

The seeds are kept in tests/fuzz/corpus/NAME; this says what they are and makes them
anew after a change of the format (chunks with build/tests/make_events). What a fuzzer
finds of its own is added beside them.
"""

import os
import sqlite3
import struct
import sys
import tempfile
from pathlib import Path

HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = [  # in the order of NEAP_EV_KINDS
    *("pad", "time", "thread", "thread_end", "stack", "module", "alloc", "free"),
    *("realloc_free", "realloc_alloc", "realloc_fail", "sample", "sample_free"),
    *("realloc_done", "map", "exit", "memory_error"),
]


def head(kind: str, seq: int = 1, delta: int = 0) -> bytes:
    return struct.pack("<Q", KINDS.index(kind) + 1 | seq << 8 | delta << 32)


def records() -> dict[str, bytes]:
    build_id, path = bytes(range(20)), b"/usr/lib/libc.so.6"
    module = struct.pack("<QQQIHH", 0, 0x1000, 0x9000, 1, len(build_id), len(path))
    module += build_id + path
    module += bytes(-len(module) % 8)
    return {
        "pad": head("pad"),
        "time": head("time") + struct.pack("<QQ", 10**6, 10**9),
        "thread": head("thread") + struct.pack("<II24s", 77, 0, b"worker"),
        "thread_end": head("thread_end"),
        "stack": head("stack") + struct.pack("<QIHH3Q", 99, 1, 3, 0, 1, 2, 3),
        "stack_empty": head("stack") + struct.pack("<QIHH", 99, 1, 0, 1),
        "module": head("module") + module,
        "alloc": head("alloc") + struct.pack("<QQQ", 0x5000, 64, 99),
        "free": head("free") + struct.pack("<Q", 0x5000),
        "realloc_free": head("realloc_free") + struct.pack("<Q", 0x5000),
        "realloc_alloc": head("realloc_alloc") + struct.pack("<QQQ", 0x6000, 128, 99),
        "realloc_fail": head("realloc_fail") + struct.pack("<Q", 0x5000),
        "sample": head("sample")
        + struct.pack("<QQQQII", 0x5000, 64, 99, 512 << 10, 1, 0),
        "sample_free": head("sample_free") + struct.pack("<QII", 0x5000, 3, 0),
        "realloc_done": head("realloc_done"),
        "map": head("map")
        + struct.pack("<QQQQIIIiQII", 0x7000, 4096, 0, 0, 1, 3, 0x22, -1, 99, 1, 0),
        "exit": head("exit") + struct.pack("<q", 3),
        "memory_error": head("memory_error")
        + struct.pack("<QQQQQQII", 0x5008, 0x5000, 64, 99, 0, 98, 3, 0),
    }


def unwind_table(augmentation: bytes, program: bytes) -> bytes:
    """.eh_frame_hdr, one CIE and one FDE for the 256 bytes at 4096."""

    def entry(body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<I", len(body)) + body

    cie = struct.pack("<IB", 0, 1) + augmentation + b"\0\x01\x78\x10"
    cie = entry(cie + b"\x01\x1b" + b"\x0c\x07\x08\x90\x01")
    fde = 20 + len(cie)
    header = struct.pack("<4BiIii", 1, 0x1B, 3, 0x3B, 16, 1, 4096, fde)
    body = struct.pack("<IiIB", len(cie) + 4, 4096 - (fde + 8), 256, 0)
    return header + cie + entry(body + program)


def unwind_tables() -> dict[str, bytes]:
    frame = "41 0e10 8602 43 0d06 0230 0c0708 c6"
    saved = "10 03 03 770806 16 0c 04 7778 2308 0f 04 77083122"
    rules = "0a 050c04 110c7e 140702 15077f 0910 02 0b 0702 2e10"
    machine = "0f 08 3031 12 13 1a 24 29 06"
    return {
        "frame": unwind_table(b"zR", bytes.fromhex(frame)),
        "signal": unwind_table(b"zRS", bytes.fromhex(saved)),
        "rules": unwind_table(b"zR", bytes.fromhex(rules)),
        "stack_machine": unwind_table(b"zR", bytes.fromhex(machine)),
    }


def chunks() -> dict[str, bytes]:
    """Chunks as they are stored, and what their frames hold."""
    sys.path.insert(0, os.path.join(HERE, "../python"))
    from model import Model, make_process  # type: ignore[import-not-found]

    seeds = {}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "seed.neap"
        Model(make_process(100, 300, 1)).write(path, 60)
        with sqlite3.connect(path) as db:
            rows = db.execute(
                "SELECT count, data FROM raw_events ORDER BY id"
            ).fetchall()
    for i, (count, data) in enumerate(rows):
        seeds[f"stored_{i}"] = struct.pack("<HB", count, 0) + data
    # One allocation of 24 bytes at 0x1000, freed by the same thread.
    columns = [b"\2\1\4", b"\0\x41", b"\2\5", b"\1\x64\2\0", b"\2\0", b"\6", b"\0"]
    columns += [b"\x18", b"\x80\4", b"\1", b""]
    frame = b"".join(struct.pack("<I", len(c)) for c in columns) + b"".join(columns)
    seeds["columns"] = struct.pack("<HB", 2, 1) + frame
    return seeds


def write(fuzzer: str, seeds: dict[str, bytes]) -> None:
    folder = os.path.join(HERE, "corpus", fuzzer)
    os.makedirs(folder, exist_ok=True)
    for name, data in seeds.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)


def main() -> None:
    seeds = records()
    everything = b"".join(data for name, data in seeds.items() if name != "pad")
    write("fuzz_codec", {**seeds, "everything": everything + seeds["pad"]})
    steps = {
        name: struct.pack("<QQB", 0, len(data), len(data)) + data
        for name, data in seeds.items()
    }
    lap = 256 << 10
    end = seeds["alloc"] + seeds["pad"]
    steps["end_of_lap"] = struct.pack("<QQB", lap - len(end), len(end), len(end)) + end
    steps["too_far"] = struct.pack("<QQB", 0, lap + 8, 0)
    steps["backwards"] = struct.pack("<QQB", 4096, 2**64 - 8, 0)
    steps["odd"] = struct.pack("<QQB", 0, 3, 0)
    write("fuzz_ring", steps)
    write("fuzz_cfi", unwind_tables())
    write("fuzz_chunk", chunks())


if __name__ == "__main__":
    main()
