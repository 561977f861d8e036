# SPDX-License-Identifier: Apache-2.0
"""The programs of the allocator benchmark: those in heap/, which do little but
allocate, real ones, and traces that are recorded of real ones here."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from host import say
from measure import ToolError, drive_redis
from programs import JSON, PERL, SQL, Program, large_c_file, library

BUILD = Path(__file__).resolve().parents[2] / "build"
HEAP = BUILD / "bench" / "heap"
OURS = "neaptide"
BASE = "glibc"

# Which of a run's times is the program's: CPU of its process, user and system; or,
# where threads that wait for one another are the point, the wall time of the work.
CPU, WALL = "CPU", "wall"


@dataclass
class Work(Program):
    """One program; `group` is its kind."""

    time: str = CPU
    environment: dict[str, str] = field(default_factory=dict)
    warm: bool = False  # reads files: run once before it counts


@dataclass
class Allocator:
    name: str
    path: str  # to preload; "": what the program has by itself


def allocators() -> tuple[list[Allocator], dict[str, str]]:
    """Those that are here, and why others are not."""
    found, missing = [Allocator(BASE, "")], {}
    mimalloc = library("libmimalloc.so.2") or library("libmimalloc.so.3")
    for name, path in (
        ("jemalloc", library("libjemalloc.so.2")),
        ("tcmalloc", library("libtcmalloc_minimal.so.4")),
        ("mimalloc", mimalloc),
        (OURS, str(BUILD / "lib" / "libneapheap.so")),
    ):
        if path and Path(path).exists():
            found.append(Allocator(name, path))
        else:
            missing[name] = "its library is not " + ("built" if path else "installed")
    return found, missing


# ---- inputs ----

OBJECTS = """
class Point:
    def __init__(self, x, y):
        self.x, self.y, self.tags = x, y, ["tag%d" % (x % 7), str(y)]


for _ in range({times}):
    points = [Point(i, i * 7919 % 10007) for i in range(60000)]
    table = {{(p.x, p.y): p for p in points}}
    points.sort(key=lambda p: p.y)
    words = " ".join(t for p in points for t in p.tags).split(" ")
    kept = [p for p in points if p.x % 3]
    counts = {{}}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    del points[::2], table
"""

QUIET_GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_PAGER": "cat",
}


def scripts(work: Path, quick: bool) -> dict[str, str]:
    found = {}
    for name, text in (
        ("sql", SQL.format(rows=30_000 if quick else 150_000)),
        ("pl", PERL.format(lines=6_000 if quick else 25_000)),
        ("json.py", JSON.format(times=1 if quick else 3)),
        ("objects.py", OBJECTS.format(times=1 if quick else 3)),
    ):
        path = work / f"heap.{name}"
        path.write_text(text)
        found[name] = str(path)
    return found


def made_repository(work: Path, commits: int) -> Path:
    """A history of text files that grow and change, all loose ends packed."""
    place = work / "history.git"
    stream = []
    lines: dict[int, list[str]] = {}
    for i in range(commits):
        stream.append(
            f"commit refs/heads/main\ncommitter A <a@b> {1_600_000_000 + i} +0000\n"
            f"data 9\ncommit {i % 100:02}\n"
        )
        for j in range(4):
            number = (i * 7 + j * j) % 60
            text = lines.setdefault(number, [])
            text.insert(i * 31 % (len(text) + 1), f"line {i} of {j}, {i * 7919}")
            text += [f"more of {number}: {k * i % 997} words" for k in range(12)]
            data = "\n".join(text)
            path = f"room{number % 6}/file{number}"
            stream.append(f"M 100644 inline {path}\ndata {len(data)}\n{data}\n")
    env = {**os.environ, **QUIET_GIT}
    subprocess.run(
        ["git", "init", "-q", "--bare", "-b", "main", str(place)], check=True, env=env
    )
    subprocess.run(
        ["git", "-C", str(place), "fast-import", "--quiet"],
        input="".join(stream).encode(),
        check=True,
        env=env,
    )
    return place


# ---- kinds ----


def _heap(name: str, *words: object, kind: str = "one thread", time: str = CPU) -> Work:
    command = [str(HEAP / str(words[0])), *(str(word) for word in words[1:])]
    return Work(name, command, 1, kind, time=time)


def _loops(less: int) -> list[Work]:
    found = [_heap("pairs of 64 B", "loops", "pair", 64, 40_000_000 // less)]
    for size, count, rounds in (
        (16, 10_000, 1500),
        (64, 50_000, 300),
        (512, 10_000, 900),
    ):
        for order in ("fifo", "lifo"):
            name = f"{order} of {count // 1000} k of {size} B"
            found.append(_heap(name, "loops", order, size, count, rounds // less))
    return [
        *found,
        _heap("mixed", "mixed", 20_000, 12_000_000 // less),
        _heap("mixed, uniform", "mixed", 20_000, 10_000_000 // less, 1, "uniform"),
        _heap("calloc of 200 B", "loops", "calloc", 200, 10_000, 600 // less),
        _heap("calloc of 20 kB", "loops", "calloc", 20_000, 500, 100 // less),
        _heap("aligned to 64 B", "loops", "aligned", 64, 10_000, 500 // less),
        _heap("aligned to 4 KiB", "loops", "aligned", 4096, 2_000, 200 // less),
        _heap("large, grow", "large", "grow", 8 // min(less, 4)),
        _heap("large, 1 to 32 MiB", "large", "loop", 600 // less),
        _heap("large, 8 to 512 KiB", "large", "medium", 150_000 // less),
        _heap("C++ map", "objects", "map", 500_000 // less),
        _heap("C++ strings", "objects", "strings", 3_000_000 // less),
        _heap("C++ exceptions", "objects", "throw", 100_000 // less),
        _heap("C++ trees", "objects", "tree", 6_000 // less),
    ]


def _threads(work: Path, less: int) -> list[Work]:
    def threads(name: str, *words: object, time: str = WALL) -> Work:
        return _heap(name, *words, kind="threads", time=time)

    rounds = 10 if less > 1 else 20
    records = [str(work / "threads"), "2", str(300_000 // less)]
    return [
        threads("mixed, 2 threads", "mixed", 20_000, 12_000_000 // less, 2),
        threads("server", "server", 4, 5_000, 50_000, 100 // less),
        threads("passing, 1 to 1", "passing", "one", 1, 4_000_000 // less),
        threads("passing, crossing", "passing", "cross", 1, 2_000_000 // less),
        threads("passing, 4 to 4", "passing", "one", 4, 800_000 // less),
        Work("C++ records, passed on", records, 1, "threads", time=WALL),
        threads("batches", "batches", 4, 160_000 // less),
        # As many threads in the quick form; they do less.
        threads("short threads", "shorts", rounds, 1000 // rounds, 4_000 // less),
        threads(
            "cache lines, thrash", "lines", "thrash", 2, 2_000_000 // less, time=CPU
        ),
        threads(
            "cache lines, scratch", "lines", "scratch", 2, 2_000_000 // less, time=CPU
        ),
    ]


def _real(work: Path, quick: bool) -> list[Work]:
    script, python = scripts(work, quick), sys.executable
    cc1 = subprocess.run(
        ["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=True
    ).stdout.strip()
    source = str(large_c_file(work, 40 if quick else 120))
    malloc = {"PYTHONMALLOC": "malloc"}
    found = [
        Work("sqlite3", ["sqlite3", ":memory:", f".read {script['sql']}"], 1),
        Work("perl", ["perl", script["pl"]], 1),
        Work("gcc -O2", [cc1, "-quiet", "-O2", source, "-o", os.devnull], 1),
    ]
    for name in ("json", "objects"):
        command = [python, script[f"{name}.py"]]
        found.append(Work(f"CPython, {name}", command, 1))
        more = Work(f"CPython, {name}, all by malloc", command, 1, environment=malloc)
        found.append(more)
    if shutil.which("git"):
        place = made_repository(work, 300 if quick else 900)
        git = ["git", "-C", str(place), "-c", "pack.threads=1"]
        found += [
            Work("git log", [*git, "log", "-p", "--stat"], 1, environment=QUIET_GIT),
            Work("git repack", [*git, "repack", "-adfq"], 1, environment=QUIET_GIT),
        ]
    server, place = shutil.which("redis-server"), work / "redis.sock"
    if server and shutil.which("redis-benchmark"):
        words = [server, "--port", "0", "--unixsocket", str(place), "--save", ""]
        redis = Work("redis-server", [*words, "--appendonly", "no"], 1)
        redis.drive = drive_redis(place, 20_000 if quick else 80_000)
        found.append(redis)
    for program in found:
        program.group, program.warm = "real", True
    return [program for program in found if shutil.which(program.command[0])]


# So much of each is recorded: what is replayed is a trace of it over and over.
STEPS = 6_000_000


def record(program: Work, name: str, work: Path) -> Path:
    """A trace of what it allocates."""
    calls, trace = work / "calls", work / f"{name}.trace"
    env = {**os.environ, "LC_ALL": "C", "PYTHONHASHSEED": "0", **program.environment}
    env |= {"LD_PRELOAD": str(HEAP / "libtrace.so"), "TRACE_OUT": str(calls)}
    for words, environment in (
        (program.command, env),
        ([str(HEAP / "fold"), str(calls), str(trace)], None),
    ):
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise ToolError(done.stderr.decode(errors="replace").strip()[-200:])
    calls.unlink()
    return trace


def _traces(work: Path, quick: bool, recorded: list[Work]) -> list[Work]:
    found = []
    for program in recorded:
        name = program.name.replace(", all by malloc", "").replace("CPython, ", "")
        try:
            trace = record(program, name.split()[0], work)
        except (ToolError, OSError, subprocess.SubprocessError) as error:
            say(f"trace of {program.name}: {error}")
            continue
        with trace.open("rb") as file:
            steps = struct.unpack("<Q", file.read(8))[0]
        times = max(1, round(STEPS / (6 if quick else 1) / steps))
        found.append(_heap(f"trace of {name}", "replay", trace, times, kind="traces"))
    return found


def _gives_back(quick: bool) -> list[Work]:
    size = 256 if quick else 1024
    return [
        _heap(f"give back, {how}", "giveback", how, size, kind="give back")
        for how in ("together", "scattered", "ticking")
    ]


# What is recorded: not CPython's own allocator, which asks for whole arenas.
RECORDED = (
    "sqlite3",
    "perl",
    "gcc -O2",
    "CPython, json, all by malloc",
    "CPython, objects, all by malloc",
    "git log",
)


def heap_programs(work: Path, quick: bool, words: list[str]) -> list[Work]:
    """Those whose names begin with one of the words."""

    def wanted(name: str) -> bool:
        return any(name.startswith(word) for word in words)

    less = 5 if quick else 1
    found = [p for p in _loops(less) + _threads(work, less) if wanted(p.name)]
    if any(word == "" or word[0] in "scgrCpt" for word in words):
        inputs = work / "inputs"
        inputs.mkdir()
        found += [p for p in _real(inputs, quick) if wanted(p.name)]
        if wanted("trace") or any(word.startswith("trace") for word in words):
            small = work / "small"
            small.mkdir()
            recorded = [p for p in _real(small, True) if p.name in RECORDED]
            traces = _traces(small, quick, recorded)
            found += [p for p in traces if wanted(p.name)]
    return found + [p for p in _gives_back(quick) if wanted(p.name)]
