# SPDX-License-Identifier: Apache-2.0
"""What 'make demo' records: a plain Python program with a C extension that leaks.

Reads the sources of some modules of the standard library, counts their words, keeps
the counts as JSON and in SQLite, and enters each word in the extension's index.
"""

import argparse
import collections
import datetime
import gzip
import inspect
import json
import re
import sqlite3
import tarfile
import typing

import _index  # type: ignore[import-not-found]

MODULES = (argparse, collections, datetime, inspect, json, re, tarfile, typing)


def words_of(source: str) -> list[str]:
    return re.findall(r"[A-Za-z_]\w+", source)


def main() -> None:
    counts: collections.Counter[str] = collections.Counter()
    for module in MODULES:
        for word in words_of(inspect.getsource(module)):
            counts[word] += 1
            _index.put(word, counts[word])
    packed = gzip.compress(json.dumps(counts).encode())
    with sqlite3.connect(":memory:") as db:
        db.execute("CREATE TABLE word (word TEXT PRIMARY KEY, count INTEGER)")
        db.executemany("INSERT INTO word VALUES (?, ?)", counts.items())
        (top,) = db.execute("SELECT word FROM word ORDER BY count DESC").fetchone()
    _index.clear()
    print(f"{counts.total()} words, {len(counts)} different, most often: {top}")
    print(f"{len(packed)} bytes packed")


if __name__ == "__main__":
    main()
