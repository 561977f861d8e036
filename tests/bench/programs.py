# SPDX-License-Identifier: Apache-2.0
"""What is run: the programs, with the inputs they need, and the tools round them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from measure import ToolError, drive_redis

HERE = Path(__file__).resolve().parent
BIN = HERE.parents[1] / "build" / "bin"

CHEAP = ("plain", "dormant", "sampled")  # small costs: many rounds find them
SERIES = ("plain", "exact", "heaptrack")


@dataclass
class Program:
    name: str
    command: list[str]
    rounds: int
    group: str = "suite"
    pairs: int = 0  # malloc/free pairs, where it makes a known number
    threads: int = 1
    loop: bool = False
    point: int = 0  # on the axis of its series
    tools: tuple[str, ...] = ()  # only these
    often: tuple[str, ...] = CHEAP  # these run in more rounds,
    more: int = 0  # so many
    python: bool = False
    without: tuple[str, ...] = ()  # all tools but these
    drive: Callable[[], float] | None = None

    @property
    def target(self) -> str:
        return Path(self.command[0]).name


@dataclass
class Tool:
    name: str
    before: tuple[str, ...] = ()  # words before the program's; {out}: where it writes
    environment: dict[str, str] = field(default_factory=dict)
    python: tuple[str, ...] = ()  # words after the interpreter: only Python programs
    report: tuple[str, ...] = ()
    rounds: int = 99  # at most

    def fits(self, program: Program) -> bool:
        if program.tools and self.name not in program.tools:
            return False
        if self.name in program.without:
            return False
        return program.python or not self.python

    def rounds_of(self, program: Program) -> int:
        more = program.more if self.name in program.often else 0
        return min(self.rounds, program.rounds + more)

    def command(self, program: Program, out: Path) -> list[str]:
        words = list(program.command)
        if self.python:
            words[1:1] = [word.format(out=out) for word in self.python]
        return [word.format(out=out) for word in self.before] + words

    def env(self, out: Path) -> dict[str, str]:
        return {name: text.format(out=out) for name, text in self.environment.items()}


def library(name: str) -> str:
    """Path of a shared library, as the dynamic linker finds it; "" if it does not."""
    listed = subprocess.run(
        ["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False
    ).stdout
    for line in listed.splitlines():
        if line.strip().startswith(name + " "):
            return line.rsplit("=> ", 1)[1]
    return ""


def tools() -> list[Tool]:
    neapd = str(BIN / "neapd")
    record = (neapd, "run", "-q", "-o", "{out}")
    report = (str(BIN / "neap"), "report", "{out}")
    jemalloc, tcmalloc = library("libjemalloc.so.2"), library("libtcmalloc.so.4")
    profiled = "prof:true,prof_active:true,lg_prof_sample:19,prof_final:true"
    memray = ("-m", "memray", "run", "-q", "-f", "-o", "{out}")
    return [
        Tool("plain"),
        Tool("dormant", (*record, "--dormant", "--")),
        Tool("sampled", (*record, "--interval", "512K", "--")),
        Tool("exact", (*record, "--"), report=report),
        Tool(
            "heaptrack",
            ("heaptrack", "-o", "{out}"),
            report=("heaptrack_print", "{out}"),
        ),
        Tool("memray", python=memray, rounds=3),
        Tool("memray --native", python=(*memray, "--native"), rounds=3),
        Tool("jemalloc", environment={"LD_PRELOAD": jemalloc}),
        Tool(
            "jemalloc prof",
            environment={
                "LD_PRELOAD": jemalloc,
                "MALLOC_CONF": profiled + ",prof_prefix:{out}",
            },
        ),
        Tool("tcmalloc", environment={"LD_PRELOAD": tcmalloc}, rounds=1),
        Tool(
            "gperftools",
            environment={"LD_PRELOAD": tcmalloc, "HEAPPROFILE": "{out}"},
            rounds=1,
        ),
        Tool(
            "massif",
            ("valgrind", "--tool=massif", "--massif-out-file={out}"),
            rounds=1,
        ),
    ]


def why_missing(tool: Tool, work: Path) -> str:
    """Try the tool on a program that does nothing; "" if it works."""
    out = work / f"try {tool.name}"
    if tool.python:
        words = [sys.executable, "-c", "import memray"]
    else:
        words = tool.command(Program("true", [shutil.which("true") or "true"], 1), out)
    env = tool.env(out)
    if env.get("LD_PRELOAD") == "":
        return "its library is not installed"
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except OSError as error:
        return f"not installed ({error.strerror})"
    said = done.stderr.strip().splitlines()
    if "Invalid conf pair" in done.stderr:
        return "Debian's build is without profiling: " + said[0]
    if done.returncode == 2 and "neapd" in words[0]:
        return "this build does not have it: " + (said[-1] if said else "status 2")
    if done.returncode != 0:
        return said[-1] if said else f"ended with status {done.returncode}"
    return ""


# ---- the programs and what they read ----

SQL = """
CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
INSERT INTO t SELECT i, printf('row %d of many', i * 7919 % 60000), i / 3.0 FROM n;
CREATE INDEX t_b ON t (b);
SELECT count(DISTINCT substr(b, 1, 7)), group_concat(upper(substr(b, 5, 2))) FROM t
 WHERE b LIKE '%9%' AND length(b || c) > 5;
SELECT a, hex(b), json_object('a', a, 'b', b) FROM t ORDER BY b DESC LIMIT {rows} / 3;
"""

PERL = """
my (%count, %by_length, $seed);
$seed = 1;
for my $line (1 .. {lines}) {{
    my @words = map {{
        $seed = ($seed * 1103515245 + 12345) % 2147483648;
        "w" . ($seed % 5000) x (1 + $seed % 3)
    }} 1 .. 8;
    my $text = join " ", @words;
    $count{{$_}}++ for split / /, $text;
    push @{{$by_length{{length $1}}}}, $1 if $text =~ /(w\\d+7) /;
    (my $copy = $text) =~ s/(\\d)(\\d)/$2$1/g;
    @{{$by_length{{1}}}} = () if $line % 1000 == 0;
}}
my @sorted = sort {{ $count{{$b}} <=> $count{{$a}} || $a cmp $b }} keys %count;
print "@sorted\\n";
"""

JSON = """
import json

data = [{{"key%d" % i: [i, str(i), i / 7] * 5, "name": "n" * (i % 50)}}
        for i in range(20000)]
for _ in range({times}):
    data = json.loads(json.dumps(data))
"""

IMPORTS = """
import importlib
import sys

sys.path.insert(0, {folder!r})
for _ in range({times}):
    for i in range({modules}):
        importlib.import_module("made%d" % i)
    for i in range({modules}):
        del sys.modules["made%d" % i]
"""

FIB = """
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


fib({n})
"""

C_FUNCTION = """static int f{i}(int *a, int n) {{ int s = {i};
  for (int k = 0; k < n; k++) {{ if (a[k] % {m}) s += a[k] * {i};
    else s ^= a[(k + {i}) % n] << (k & 7); }}
  return s; }}
"""


def compile_tools(work: Path) -> None:
    cc, cxx = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")
    common = ["-O2", "-g", "-fno-builtin", "-fno-optimize-sibling-calls", "-pthread"]
    shared = [*common, "-D_GNU_SOURCE", "-shared", "-fPIC"]
    for words in (
        [cc, "-D_GNU_SOURCE", *common, "loop.c", "-o", str(work / "loop")],
        [cxx, "-std=gnu++17", *common, "threads.cc", "-o", str(work / "threads")],
        [cc, *shared, "libcpu.c", "-o", str(work / "libcpu.so")],
    ):
        subprocess.run(words, cwd=HERE, check=True)


def large_c_file(work: Path, functions: int) -> Path:
    """A preprocessed file of some thousands of lines, made here."""
    source, preprocessed = work / "large.c", work / "large.i"
    lines = ["#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"]
    lines += [C_FUNCTION.format(i=i, m=i + 2) for i in range(functions)]
    calls = " + ".join(f"f{i}(a, n)" for i in range(functions))
    lines.append(f"int all(int *a, int n) {{ return {calls}; }}\n")
    source.write_text("".join(lines))
    subprocess.run(["gcc", "-E", str(source), "-o", str(preprocessed)], check=True)
    return preprocessed


def made_modules(work: Path, count: int) -> Path:
    """Python modules of functions, classes and tables, compiled."""
    folder = work / "modules"
    folder.mkdir(exist_ok=True)
    for i in range(count):
        names = {f"k{j}": f"v{i * j}" for j in range(30)}
        lines = [f'"""Module {i}."""', "import os, re", f"NAMES = {names}"]
        lines.append(f"TABLE = {list(range(i, i + 40))}")
        for j in range(12):
            lines += [f"def function_{j}(a, b={j}, *rest, key=None):"]
            lines += [f'    """Say {j}."""', f"    return [a, b, key, 'x{i}y{j}']"]
        for j in range(3):
            lines += [f"class Class{j}:", f"    size = {j}"]
            for k in range(4):
                lines += [f"    def method_{k}(self, x):", f"        return x + {k}"]
        (folder / f"made{i}.py").write_text("\n".join(lines) + "\n")
    words = [sys.executable, "-m", "compileall", "-q", str(folder)]
    subprocess.run(words, check=True)
    return folder


def _loops(work: Path, quick: bool) -> list[Program]:
    loop, rounds = str(work / "loop"), 2 if quick else 5
    pairs = 500_000 if quick else 3_000_000
    many = 20_000_000 if quick else 60_000_000
    found = [
        # The start of a process must not show in a cost of a nanosecond a pair.
        Program(
            "malloc loop",
            [loop, "1", str(many)],
            3 if quick else 5,
            pairs=many,
            loop=True,
            tools=(*CHEAP, "jemalloc", "jemalloc prof"),
            more=4 if quick else 16,
        )
    ]
    for depth in (10, 20, 40):
        words = [loop, str(depth), str(pairs)]
        name = f"loop, depth {depth}"
        found.append(Program(name, words, rounds, pairs=pairs, loop=True))
    for depth in (10, 20, 40):
        words = [loop, "tree", str(depth), str(pairs)]
        name = f"call tree, depth {depth}"
        found.append(Program(name, words, rounds, pairs=pairs))
    for threads in (2, 4):
        words = [loop, "20", str(pairs // threads), str(threads)]
        name = f"loop, depth 20, {threads} threads"
        found.append(
            Program(name, words, rounds, pairs=pairs, threads=threads, loop=True)
        )
    return found


def _programs(work: Path, quick: bool) -> list[Program]:
    rounds, more = (1, 2) if quick else (5, 10)
    script = {}
    for name, text in (
        ("sql", SQL.format(rows=60_000 if quick else 500_000)),
        ("pl", PERL.format(lines=10_000 if quick else 60_000)),
        ("json.py", JSON.format(times=1 if quick else 6)),
        ("fib.py", FIB.format(n=28 if quick else 36)),
        (
            "imports.py",
            IMPORTS.format(
                folder=str(made_modules(work, 150)),
                modules=150,
                times=1 if quick else 20,
            ),
        ),
    ):
        script[name] = str(work / f"work.{name}")
        Path(script[name]).write_text(text)
    cc1 = subprocess.run(
        ["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=True
    ).stdout.strip()
    source = str(large_c_file(work, 60 if quick else 250))
    python = sys.executable
    found = [
        Program(
            "sqlite3",
            ["sqlite3", ":memory:", f".read {script['sql']}"],
            rounds,
            more=more,
        ),
        Program("perl", ["perl", script["pl"]], rounds),
        Program(
            "gcc -O2",
            [cc1, "-quiet", "-O2", source, "-o", "/dev/null"],
            rounds,
            more=more,
        ),
    ]
    for name, often in (
        ("json", CHEAP),
        ("imports", CHEAP),
        ("fib", (*CHEAP, "exact")),
    ):
        words = [python, script[f"{name}.py"]]
        program = Program(f"CPython, {name}", words, rounds, often=often, python=True)
        program.more = more
        found.append(program)
    for threads in (2, 4):
        words = [str(work / "threads"), str(threads), "60000" if quick else "300000"]
        found.append(Program(f"C++, {threads} threads", words, rounds, threads=threads))
    server, place = shutil.which("redis-server"), work / "redis.sock"
    if server and shutil.which("redis-benchmark"):
        words = [server, "--port", "0", "--unixsocket", str(place), "--save", ""]
        redis = Program("redis-server", [*words, "--appendonly", "no"], rounds)
        redis.more = 2 * more  # the kernel's share in it makes it uneven
        redis.without = ("massif",)
        redis.drive = drive_redis(place, 50_000 if quick else 300_000)
        found.append(redis)
    return [program for program in found if shutil.which(program.command[0])]


def _series(work: Path, quick: bool) -> list[Program]:
    loop = str(work / "loop")
    found = []
    counts = (1, 3, 10) if quick else (1, 3, 10, 30, 100, 200)
    for millions in counts:
        pairs = millions * 500_000
        name = f"{millions} M events"
        found.append(
            Program(
                name,
                [loop, "20", str(pairs)],
                1 if quick or millions >= 100 else 3,
                group="events",
                pairs=pairs,
                point=millions * 1_000_000,
                tools=SERIES,
            )
        )
    pairs = 500_000 if quick else 10_000_000
    # So many choices, see loop.c, make so many stacks at depth 20.
    for choices, stacks in ((3, 151), (6, 1_023), (10, 12_287), (14, 131_071)):
        words = [loop, "tree", "20", str(pairs), str(choices)]
        program = Program(f"{stacks:,} stacks", words, 1 if quick else 2)
        program.group, program.pairs, program.point = "stacks", pairs, stacks
        program.tools = SERIES
        found.append(program)
    pairs = 500_000 if quick else 3_000_000
    for threads in (1, 4, 64) if quick else (1, 2, 4, 8, 16, 32, 64):
        words = [loop, "20", str(pairs // threads), str(threads)]
        name = "1 thread" if threads == 1 else f"{threads} threads"
        program = Program(name, words, 1 if quick else 3)
        program.group, program.pairs, program.point = "threads", pairs, threads
        program.threads, program.tools = threads, SERIES
        found.append(program)
    return found


def programs(work: Path, quick: bool) -> list[Program]:
    return _loops(work, quick) + _programs(work, quick) + _series(work, quick)


def check_command(words: list[str]) -> str:
    """The first line that a command says of itself."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolError(str(error)) from error
    return (done.stdout or done.stderr).splitlines()[0].strip()
