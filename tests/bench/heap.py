# SPDX-License-Identifier: Apache-2.0
"""Allocators beside one another, each preloaded, in one interleaved run.

In each round every program runs with every allocator in turn, in another order each
time. What came out is written as JSON; heap_page.py makes the page of it.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import heap_page
import measure
from heap_programs import (
    BUILD,
    OURS,
    WALL,
    Allocator,
    Work,
    allocators,
    heap_programs,
)
from heap_results import HeapResults, Measured, Run
from host import in_turn, machine, package_versions, say
from measure import ToolError
from programs import check_command, compile_tools

PACKAGES = (
    "libjemalloc2",
    "libtcmalloc-minimal4",
    "libtcmalloc-minimal4t64",
    "libmimalloc2.0",
    "libmimalloc3",
    "redis-server",
    "sqlite3",
    "perl",
    "git",
)


def versions() -> dict[str, str]:
    found = {
        "glibc": platform.libc_ver()[1],
        "gcc": check_command(["gcc", "-dumpfullversion"]),
        "CPython": platform.python_version(),
    }
    neapd = BUILD / "bin" / "neapd"
    if neapd.exists():
        found = {"Neaptide": check_command([str(neapd), "--version"]), **found}
    return found | package_versions(PACKAGES)


def words_said(text: str) -> dict[str, list[float]]:
    """The lines "WORD NUMBER" among what it said."""
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        words = line.split()
        try:
            if len(words) == 2:
                found.setdefault(words[0], []).append(float(words[1]))
        except ValueError:
            pass
    return {word: values for word, values in found.items() if values}


def one_run(program: Work, allocator: Allocator, number: int, work: Path) -> Run:
    env = dict(program.environment)
    if allocator.path:
        env["LD_PRELOAD"] = allocator.path
    used = measure.run(
        program.command, program.target, work, env, program.drive, timeout=60
    )
    if "cannot be preloaded" in used.said:
        raise ToolError(used.said.strip().splitlines()[0])
    said = words_said(used.said)
    seconds = used.target_s
    if program.time == WALL:
        seconds = said.get("seconds", [used.wall_s])[-1]
    return Run(number, seconds, used.target_s, used.wall_s, used.target_kib, said)


def measure_round(
    todo: list[tuple[Work, Measured]], kit: list[Allocator], number: int, work: Path
) -> None:
    for program, found in todo:
        if program.warm and number == 0:
            try:
                one_run(program, Allocator("", ""), 0, work)
            except (ToolError, OSError):
                pass  # the runs that count will say so
        for allocator in in_turn(kit, number):
            if allocator.name in found.failed:
                continue
            try:
                run = one_run(program, allocator, number, work)
            except (ToolError, OSError, subprocess.SubprocessError) as error:
                why = str(error).replace(f"{work}/", "")
                found.failed[allocator.name] = why
                found.runs.pop(allocator.name, None)
                say(f"{program.name}: {allocator.name}: {why}")
                continue
            found.runs.setdefault(allocator.name, []).append(run)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less work, fewer rounds")
    parser.add_argument("--rounds", type=int, help="so many of each program")
    parser.add_argument("--minutes", type=float, help="begin no round after so long")
    parser.add_argument(
        "--programs",
        metavar="WORDS",
        help="only those whose names begin with one of these, by commas",
    )
    parser.add_argument("--allocators", metavar="WORDS", help="only these, by commas")
    parser.add_argument(
        "--also",
        metavar="NAME=LIBRARY",
        action="append",
        default=[],
        help="another allocator, such as an earlier build of ours",
    )
    parser.add_argument("--json", type=Path, help="write every run there")
    parser.add_argument("--markdown", type=Path, help="write the page there")
    parser.add_argument(
        "--compare", action="store_true", help="say it in a line for each program"
    )
    parser.add_argument("--list", action="store_true", help="only name the programs")
    return parser.parse_args()


def measure_all(
    todo: list[tuple[Work, Measured]],
    kit: list[Allocator],
    options: argparse.Namespace,
    work: Path,
) -> None:
    start = time.monotonic()
    for number in range(options.rounds or (3 if options.quick else 7)):
        if options.minutes and time.monotonic() - start > options.minutes * 60:
            break
        say(f"round {number + 1} after {time.monotonic() - start:.0f} s")
        measure_round(todo, kit, number, work)


def main() -> None:
    options = arguments()
    start = time.monotonic()
    measure.prepare()
    kit, missing = allocators()
    for name, why in missing.items():
        say(f"without {name}: {why}")
    for word in options.also:
        called, _, path = word.partition("=")
        kit.append(Allocator(called, str(Path(path).resolve())))
    if options.allocators:
        chosen = options.allocators.split(",")
        kit = [allocator for allocator in kit if allocator.name in chosen]
    results = HeapResults(
        time.strftime("%Y-%m-%d"),
        machine(),
        versions(),
        options.quick,
        [allocator.name for allocator in kit],
        missing,
    )
    words = options.programs.split(",") if options.programs else [""]
    with tempfile.TemporaryDirectory(prefix="neap-heap.") as name:
        work = Path(name)
        compile_tools(work)
        todo = [
            (program, Measured(program.name, program.group, program.time))
            for program in heap_programs(work, options.quick, words)
        ]
        if options.list:
            for program, _ in todo:
                print(f"{program.name}: {' '.join(program.command)}")
            return
        results.programs = [found for _, found in todo]
        measure_all(todo, kit, options, work)
    results.seconds = time.monotonic() - start
    if options.json:
        results.save(options.json)
    if options.markdown:
        options.markdown.write_text(heap_page.page(results))
    if options.compare or not options.markdown:
        print(heap_page.compare(results))
    if OURS in missing:
        say(f"this was without {OURS}")


if __name__ == "__main__":
    main()
