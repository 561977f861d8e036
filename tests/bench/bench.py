# SPDX-License-Identifier: Apache-2.0
"""What recording costs, side by side with heaptrack, in one interleaved run.

Every program is run plain, under neap and under heaptrack, in turn, and again from the
start; medians are taken over the rounds. These machines are noisy: read the ratios.

    bench.py [--rounds N] [--quick] [--json FILE] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILD = TOP / "build"


class ToolError(Exception):
    """A tool, or the program under it, failed."""


@dataclass
class Program:
    name: str
    command: list[str]
    comm: str  # the process whose CPU counts as the target's
    pairs: int = 0  # malloc/free pairs, where the program makes a known number


@dataclass
class Sample:
    target_s: float
    whole_s: float
    collector_kib: int = 0
    file_bytes: int = 0
    report_s: float = 0.0


@dataclass
class Result:
    program: str
    pairs: int
    plain: list[Sample] = field(default_factory=list)
    neap: list[Sample] = field(default_factory=list)
    heaptrack: list[Sample] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def median(samples: list[Sample], what: str) -> float:
    return statistics.median(getattr(sample, what) for sample in samples)


def compile_tools(work: Path) -> None:
    cc = os.environ.get("CC", "cc")
    common = [
        cc,
        "-O2",
        "-g",
        "-fno-builtin",
        "-fno-optimize-sibling-calls",
        "-pthread",
    ]
    subprocess.run(
        [*common, str(HERE / "loop.c"), "-o", str(work / "loop")], check=True
    )
    subprocess.run(
        [
            *common,
            "-shared",
            "-fPIC",
            str(HERE / "libcpu.c"),
            "-o",
            str(work / "libcpu.so"),
        ],
        check=True,
    )


def large_c_file(work: Path) -> Path:
    """A preprocessed file of some ten thousand lines, made here."""
    source = work / "large.c"
    lines = ["#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>"]
    for i in range(700):
        lines.append(
            f"static int f{i}(int *a, int n) {{ int s = {i};\n"
            f"  for (int k = 0; k < n; k++) {{ if (a[k] % {i + 2}) s += a[k] * {i};\n"
            f"    else s ^= a[(k + {i}) % n] << (k & 7); }}\n  return s; }}"
        )
    calls = " + ".join(f"f{i}(a, n)" for i in range(700))
    lines.append(f"int all(int *a, int n) {{ return {calls}; }}")
    source.write_text("\n".join(lines))
    preprocessed = work / "large.i"
    subprocess.run(["gcc", "-E", str(source), "-o", str(preprocessed)], check=True)
    return preprocessed


SQL = """
CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO t SELECT i, printf('row %d of many', i * 7919 % 60000), i / 3.0 FROM n;
CREATE INDEX t_b ON t (b);
SELECT count(DISTINCT substr(b, 1, 7)), group_concat(upper(substr(b, 5, 2))) FROM t
 WHERE b LIKE '%9%' AND length(b || c) > 5;
SELECT a, hex(b), json_object('a', a, 'b', b) FROM t ORDER BY b DESC LIMIT 20000;
"""


def programs(work: Path, quick: bool) -> list[Program]:
    pairs = 500_000 if quick else 3_000_000
    loop = str(work / "loop")
    found = [
        Program("loop, depth 10", [loop, "10", str(pairs)], "loop", pairs),
        Program("loop, depth 20", [loop, "20", str(pairs)], "loop", pairs),
        Program("call tree, depth 20", [loop, "tree", "20", str(pairs)], "loop", pairs),
        Program(
            "loop, depth 20, 4 threads",
            [loop, "20", str(pairs // 4), "4"],
            "loop",
            pairs,
        ),
    ]
    if shutil.which("sqlite3"):
        script = work / "work.sql"
        script.write_text(SQL)
        found.append(
            Program("sqlite3", ["sqlite3", ":memory:", f".read {script}"], "sqlite3")
        )
    if shutil.which("gcc"):
        cc1 = subprocess.run(
            ["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=True
        ).stdout.strip()
        source = large_c_file(work)
        found.append(
            Program(
                "gcc -O2", [cc1, "-quiet", "-O2", str(source), "-o", "/dev/null"], "cc1"
            )
        )
    python = sys.executable
    code = "import json; d = [{'k%d' % i: [i, str(i)] * 9} for i in range(20000)];"
    code += "[json.loads(json.dumps(d)) for _ in range(3)]"
    found.append(
        Program("python3, json", [python, "-S", "-c", code], Path(python).name)
    )
    return found


def run(command: list[str], work: Path, comm: str) -> tuple[float, float, int]:
    """CPU seconds of the target and of everything, largest RSS of the rest in KiB."""
    usage = work / "usage"
    usage.unlink(missing_ok=True)
    environment = dict(os.environ, BENCH_CPU=str(usage), LC_ALL="C")
    environment["LD_PRELOAD"] = str(work / "libcpu.so")
    done = subprocess.run(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    said = done.stderr.decode(errors="replace")
    if done.returncode != 0 or "terminate called" in said:
        raise ToolError(f"{command[0]} ended with {done.returncode}: {said[-300:]}")
    target = whole = 0.0
    rest = 0
    for line in usage.read_text().splitlines():
        name, cpu, rss = line.rsplit(" ", 2)
        whole += int(cpu) / 1e6
        if name == comm[:15]:
            target += int(cpu) / 1e6
        else:
            rest = max(rest, int(rss))
    return target, whole, rest


def timed(command: list[str]) -> float:
    start = time.monotonic()
    subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    return time.monotonic() - start


def sample_plain(program: Program, work: Path) -> Sample:
    target, whole, _ = run(program.command, work, program.comm)
    return Sample(target, whole)


def sample_neap(program: Program, work: Path) -> Sample:
    recording = work / "bench.neap"
    recording.unlink(missing_ok=True)
    neapd = str(BUILD / "bin" / "neapd")
    target, whole, rss = run(
        [neapd, "run", "-o", str(recording), "--", *program.command], work, program.comm
    )
    report = timed([str(BUILD / "bin" / "neap"), "report", str(recording)])
    return Sample(target, whole, rss, recording.stat().st_size, report)


def sample_heaptrack(program: Program, work: Path) -> Sample:
    for old in work.glob("heaptrack.bench*"):
        old.unlink()
    target, whole, rss = run(
        ["heaptrack", "-o", str(work / "heaptrack.bench"), *program.command],
        work,
        program.comm,
    )
    found = next(work.glob("heaptrack.bench*"))
    report = timed(["heaptrack_print", str(found)])
    return Sample(target, whole, rss, found.stat().st_size, report)


def added(result: Result, tool: str, what: str) -> float:
    return median(getattr(result, tool), what) - median(result.plain, what)


def ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}" if theirs > 0 else "-"


def table(results: list[Result]) -> str:
    head = ["program", "plain CPU s", "added in the target: neap", "heaptrack", "ratio"]
    head += [
        "added in all: neap",
        "heaptrack",
        "ratio",
        "collector MiB: neap",
        "heaptrack",
    ]
    head += ["file KiB: neap", "heaptrack", "report s: neap", "heaptrack"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for result in results:

        def cost(tool: str, what: str, result: Result = result) -> str:
            seconds = added(result, tool, what)
            if result.pairs:
                return f"{seconds / result.pairs * 1e9:.0f} ns a pair"
            return f"{seconds:.2f} s"

        row = [result.program, f"{median(result.plain, 'target_s'):.2f}"]
        for what in ("target_s", "whole_s"):
            row.append(cost("neap", what))
            if result.heaptrack:
                row.append(cost("heaptrack", what))
                row.append(
                    ratio(added(result, "neap", what), added(result, "heaptrack", what))
                )
            else:
                row += ["failed" if result.failed else "-", "-"]
        for what, unit, digits in (
            ("collector_kib", 1024, 0),
            ("file_bytes", 1024, 0),
            ("report_s", 1, 2),
        ):
            for tool in ("neap", "heaptrack"):
                samples = getattr(result, tool)
                value = f"{median(samples, what) / unit:.{digits}f}" if samples else "-"
                row.append(value)
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def version(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "not there"
    return (done.stdout or done.stderr).splitlines()[0]


def machine() -> str:
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return (
        f"{os.cpu_count()} CPUs ({model}), Linux {platform.release()}, "
        f"glibc {platform.libc_ver()[1]}, {version(['gcc', '--version'])}, "
        f"{version(['heaptrack', '--version'])}, Python {platform.python_version()}"
    )


def page(results: list[Result], rounds: int) -> str:
    return f"""# Benchmarks

Made by `make bench` on {time.strftime("%Y-%m-%d")}: {rounds} interleaved rounds of
plain, neap and heaptrack; medians. {machine()}.

The machine was a shared virtual one: read the ratios (neap's cost over heaptrack's in
the same run), not the seconds.

- *Added in the target*: CPU time of the program itself beyond its plain run.
- *Added in all*: with the tool's own processes. neap's collector also names the
  functions and writes the database; heaptrack's interpreter and compressor are counted
  likewise.
- *Failed*: heaptrack's interpreter ended with an exception on this program.
- *Collector*: largest RSS of any process of the tool.
- *Report*: wall time of `neap report` and of `heaptrack_print`.

{table(results)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a sixth of the work")
    parser.add_argument("--json", type=Path, help="write every sample there")
    parser.add_argument("--markdown", type=Path, help="write the page there")
    options = parser.parse_args()
    tools = {"plain": sample_plain, "neap": sample_neap}
    if shutil.which("heaptrack"):
        tools["heaptrack"] = sample_heaptrack
    else:
        print("bench: heaptrack is not installed: measured without it", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="neap-bench.") as name:
        work = Path(name)
        compile_tools(work)
        todo = programs(work, options.quick)
        results = [Result(program.name, program.pairs) for program in todo]
        for round_number in range(options.rounds):
            for program, result in zip(todo, results, strict=True):
                if sys.stderr.isatty():
                    print(
                        f"\r\033[Kround {round_number + 1}: {program.name}",
                        end="",
                        file=sys.stderr,
                    )
                for tool, sample in tools.items():
                    if tool in result.failed:
                        continue
                    try:
                        getattr(result, tool).append(sample(program, work))
                    except ToolError as error:
                        if tool != "heaptrack":
                            raise
                        result.failed.append(tool)
                        result.heaptrack.clear()
                        print(f"bench: {program.name}: {error}", file=sys.stderr)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
    if options.json:
        options.json.write_text(
            json.dumps([asdict(result) for result in results], indent=1)
        )
    text = page(results, options.rounds)
    if options.markdown:
        options.markdown.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
