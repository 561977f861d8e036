# SPDX-License-Identifier: Apache-2.0
"""What recording costs, beside other tools, in one interleaved run.

In each round every program runs under every tool in turn, in another order each time.
What came out is written as JSON; page.py makes the page and plots.py the plots of it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import measure
import page
import plots
from host import in_turn, machine, package_versions, say
from measure import ToolError
from programs import (
    BIN,
    Program,
    Tool,
    check_command,
    compile_tools,
    programs,
    tools,
    why_missing,
)
from results import Answer, Found, Results, Sample

# Whose versions count, besides our own.
PACKAGES = (
    "heaptrack",
    "libjemalloc2",
    "libgoogle-perftools4",
    "valgrind",
    "redis-server",
    "sqlite3",
    "perl",
)


def versions() -> dict[str, str]:
    found = {
        "Neaptide": check_command([str(BIN / "neapd"), "--version"]),
        "glibc": platform.libc_ver()[1],
        "gcc": check_command(["gcc", "-dumpfullversion"]),
        "CPython": platform.python_version(),
    }
    found.update(package_versions(PACKAGES))
    try:
        found["memray"] = importlib.metadata.version("memray")
    except importlib.metadata.PackageNotFoundError:
        pass
    return found


def read_recording(path: Path) -> tuple[int, int]:
    """Events in a recording, and what it says it lacks."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        try:
            events = db.execute("SELECT sum(events) FROM process").fetchone()[0]
        except sqlite3.OperationalError:
            counted = "SELECT sum(alloc_count) + sum(free_count) FROM site"
            events = db.execute(counted).fetchone()[0]
        lost = db.execute("SELECT sum(count) FROM loss").fetchone()[0]
        return int(events or 0), int(lost or 0)
    finally:
        db.close()


def sample(program: Program, tool: Tool, round_number: int, work: Path) -> Sample:
    folder = work / "out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    out = folder / "bench"
    used = measure.run(
        tool.command(program, out),
        program.target,
        work,
        tool.env(out),
        program.drive,
    )
    result = Sample(round_number, used.target_s, used.whole_s, used.target_kib)
    result.tool_kib, result.rate = used.tool_kib, used.rate
    files = sorted(folder.iterdir())
    result.file_bytes = sum(file.stat().st_size for file in files)
    if tool.name == "exact":
        result.events, result.lost = read_recording(out)
    if tool.report and files and program.group == "suite" and round_number == 0:
        words = [word.format(out=files[0]) for word in tool.report]
        result.report_s = measure.wall(words)
    return result


def warm_up(todo: list[Program], work: Path) -> None:
    """What the first run reads from disk, no run that counts has to."""
    for program in todo:
        if program.group == "suite":
            try:
                sample(program, Tool("plain"), 0, work)
            except (ToolError, OSError):
                pass  # the rounds will say so


def measure_round(
    todo: list[tuple[Program, Found]], kit: list[Tool], number: int, work: Path
) -> None:
    for program, found in todo:
        fit = [t for t in kit if t.fits(program) and number < t.rounds_of(program)]
        for tool in in_turn(fit, number):
            if tool.name in found.failed or "plain" in found.failed:
                continue
            try:
                one = sample(program, tool, number, work)
            except (ToolError, OSError, subprocess.SubprocessError) as error:
                why = str(error).replace(f"{work}/", "")
                found.failed[tool.name] = why
                found.samples.pop(tool.name, None)
                say(f"{program.name}: {tool.name}: {why}")
                continue
            found.samples.setdefault(tool.name, []).append(one)


def answers(quick: bool, work: Path) -> list[Answer]:
    """How long questions take on recordings of many events and stacks."""
    found = []
    neap, path = str(BIN / "neap"), work / "answers.neap"
    for millions in (10,) if quick else (10, 100):
        pairs = str(millions * 500_000)
        words = [str(BIN / "neapd"), "run", "-q", "-f", "-o", str(path), "--"]
        words += [str(work / "loop"), "tree", "20", pairs]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=600)
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        middle = db.execute("SELECT duration_ns / 2e9 FROM recording").fetchone()[0]
        db.close()
        for question, more in (
            ("report --metric peak", []),
            ("report --metric live --at T", ["--at", f"{middle:.3f}"]),
        ):
            asked = [neap, "report", str(path), "--metric", question.split()[2], *more]
            answer = Answer(millions * 1_000_000, question, [], path.stat().st_size)
            try:
                answer.seconds = [measure.wall(asked) for _ in range(3 if quick else 5)]
            except ToolError as error:
                answer.failed = str(error).replace(str(path), "FILE")
            found.append(answer)
        path.unlink()
    return found


def ingest() -> list[str]:
    done = subprocess.run(
        [str(BIN.parent / "bench-ingest")],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        say(f"bench-ingest: {done.stderr.strip()}")
    return done.stdout.splitlines()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less work, fewer rounds")
    parser.add_argument("--rounds", type=int, help="at most so many of each program")
    parser.add_argument("--minutes", type=float, help="begin no round after so long")
    parser.add_argument(
        "--programs",
        metavar="WORDS",
        help="only those whose names begin with one of these, by commas; "
        "also 'ingest' and 'answers'",
    )
    parser.add_argument("--tools", metavar="WORDS", help="only these, by commas")
    parser.add_argument("--json", type=Path, help="write every sample there")
    parser.add_argument("--markdown", type=Path, help="write the page there")
    parser.add_argument(
        "--plots", type=Path, help="write the plots into this directory"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    start = time.monotonic()
    measure.prepare()
    words = options.programs.split(",") if options.programs else [""]
    chosen = options.tools.split(",") if options.tools else []

    def wanted(name: str) -> bool:
        return any(name.startswith(word) for word in words)

    results = Results(
        time.strftime("%Y-%m-%d"), machine(), versions(), options.quick, []
    )
    with tempfile.TemporaryDirectory(prefix="neap-bench.") as name:
        work = Path(name)
        compile_tools(work)
        kit = []
        for tool in tools():
            if chosen and tool.name not in chosen:
                continue
            why = why_missing(tool, work)
            if why:
                results.missing[tool.name] = why
                say(f"without {tool.name}: {why}")
            else:
                kit.append(tool)
        results.tools = [tool.name for tool in kit]
        todo = []
        for program in programs(work, options.quick):
            if wanted(program.name):
                found = Found(program.name, program.group, program.pairs)
                found.threads, found.loop = program.threads, program.loop
                found.point = program.point
                todo.append((program, found))
        results.programs = [found for _, found in todo]
        warm_up([program for program, _ in todo], work)
        rounds = max((p.rounds + p.more for p, _ in todo), default=0)
        for number in range(min(rounds, options.rounds or rounds)):
            if options.minutes and time.monotonic() - start > options.minutes * 60:
                break
            say(f"round {number + 1} after {time.monotonic() - start:.0f} s")
            measure_round(todo, kit, number, work)
        if wanted("answers"):
            say(f"answers after {time.monotonic() - start:.0f} s")
            results.answers = answers(options.quick, work)
        if wanted("ingest"):
            say(f"ingest after {time.monotonic() - start:.0f} s")
            results.ingest = ingest()
    results.seconds = time.monotonic() - start
    if options.json:
        results.save(options.json)
    text = page.page(results)
    if options.markdown:
        options.markdown.write_text(text)
    if options.plots:
        plots.plot(results, options.plots)
    if not options.markdown:
        print(text)


if __name__ == "__main__":
    main()
