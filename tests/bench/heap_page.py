# SPDX-License-Identifier: Apache-2.0
"""The page of a run of the allocator benchmark, and its short form for a terminal.

heap_page.py RESULTS.json [--markdown FILE] [--compare]
"""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path

from heap_programs import BASE, OURS
from heap_results import HeapResults, Measured
from page import NOTHING, Goal, kib, number, table, times

GROWN = 1.03  # resident sets that differ by less have not grown


def base_of(results: HeapResults) -> str:
    """What all is compared with: glibc, unless that was left out."""
    return BASE if BASE in results.allocators else (results.allocators or [BASE])[0]


def by_name(results: HeapResults) -> dict[str, Measured]:
    return {program.name: program for program in results.programs}


def time_of(program: Measured, allocator: str) -> str:
    """For each pair where the program says how many it made."""
    pair = program.pair_ns(allocator)
    if pair is not None:
        if pair >= 100_000:
            return f"{pair / 1e6:.2f} ms"
        return f"{pair:.1f} ns" if pair < 1000 else f"{pair / 1000:.1f} µs"
    seconds = program.median(allocator, "seconds")
    return NOTHING if seconds is None else f"{seconds:.3f} s"


# ---- goals ----


def growth(program: Measured | None, allocator: str) -> float | None:
    """Resident after the last quarter of the rounds over that after the second one."""
    grown = []
    for run in program.runs.get(allocator, []) if program else []:
        rounds = run.said.get("round_kib", [])
        quarter = len(rounds) // 4
        if quarter:
            early = statistics.fmean(rounds[quarter : 2 * quarter])
            grown.append(statistics.fmean(rounds[-quarter:]) / early)
    return statistics.median(grown) if grown else None


def mean_goals(results: HeapResults) -> list[Goal]:
    time = Goal(
        f"geometric mean of time against {BASE}", "≤ 0.85 and first of the five"
    )
    memory = Goal(f"geometric mean of peak RSS against {BASE}", "≤ 1.10")
    mean = results.mean(OURS, BASE)
    if mean is not None:
        all_means = {a: results.mean(a, BASE) for a in results.allocators}
        order = sorted((m, a) for a, m in all_means.items() if m is not None)
        place = [a for _, a in order].index(OURS) + 1
        time.measured = f"{mean:.3f}, place {place} of {len(order)}"
        if place > 1:
            time.measured += f" ({order[0][1]} {order[0][0]:.3f})"
        elif len(order) > 1:
            time.measured += f" ({order[1][1]} {order[1][0]:.3f})"
        time.reached = mean <= 0.85 and place == 1
    mean = results.mean(OURS, BASE, "peak_kib")
    if mean is not None:
        memory.measured, memory.reached = f"{mean:.3f}", mean <= 1.10
    return [time, worst_goal(results), memory]


def worst_goal(results: HeapResults) -> Goal:
    goal = Goal("worst single program against the best peer", "≤ 1.15")
    found = [
        (worst[0], program.name, worst[1])
        for program in results.compared()
        if (worst := program.worst(OURS, results.allocators))
    ]
    if found:
        ratio, name, peer = max(found)
        over = sum(1 for one in found if one[0] > 1.15)
        goal.measured = f"{ratio:.2f} ({name}, against {peer})"
        if over > 1:
            goal.measured += f"; {over} programs above the goal"
        goal.reached = ratio <= 1.15
    failed = [program.name for program in results.programs if OURS in program.failed]
    if failed:
        goal.measured = f"fails: {', '.join(failed)}; {goal.measured}"
        goal.reached = False
    return goal


def single_goals(results: HeapResults) -> list[Goal]:
    named = by_name(results)
    mixed = Goal("mixed sizes, 20 000 live", "≤ 20 ns a pair")
    program = named.get("mixed")
    pair = program.pair_ns(OURS) if program else None
    if pair is not None:
        mixed.measured, mixed.reached = f"{pair:.1f} ns", pair <= 20
        uniform = named.get("mixed, uniform")
        other = uniform.pair_ns(OURS) if uniform else None
        mixed.measured += f" (uniform sizes: {other:.1f} ns)" if other else ""
    size = "256 MiB" if results.quick else "1 GiB"
    back = Goal(
        f"resident after freeing all but 1 % of {size}, 2 s later", "≤ 5 % of the peak"
    )
    program = named.get("give back, together")
    later = program.said(OURS, "later") if program else None
    if later is not None:
        back.measured, back.reached = f"{later:.1f} %", later <= 5
    short = Goal(
        "1 000 short threads with cross frees", "no growth from round to round"
    )
    grown = growth(named.get("short threads"), OURS)
    if grown is not None:
        short.measured = (
            f"{(grown - 1) * 100:+.1f} % from the second quarter to the last"
        )
        short.reached = grown <= GROWN
    return [mixed, back, short]


def heap_goals(results: HeapResults) -> list[Goal]:
    return mean_goals(results) + single_goals(results)


# ---- tables ----


def means(results: HeapResults) -> str:
    base = base_of(results)
    groups = list(dict.fromkeys(p.group for p in results.compared()))
    head = ["", "time", *(f"time, {group}" for group in groups), "peak RSS"]
    rows = []
    for allocator in results.allocators:
        row = [allocator, number(results.mean(allocator, base), 3)]
        row += [
            number(results.mean(allocator, base, group=group), 3) for group in groups
        ]
        rows.append([*row, number(results.mean(allocator, base, "peak_kib"), 3)])
    return table(head, rows)


def time_table(results: HeapResults) -> str:
    base = base_of(results)
    others = [a for a in results.allocators if a != base]
    ours = OURS in results.allocators
    head = ["", "time is", base, *others]
    head += [f"{OURS} over the best peer"] if ours else []
    rows = []
    for program in results.compared():
        row = [program.name, program.time, time_of(program, base)]
        for allocator in others:
            if allocator in program.failed:
                row.append("fails")
                continue
            ratio = times(program.ratio(allocator, base))
            row.append(f"{time_of(program, allocator)}, {ratio}")
        if ours:
            worst = program.worst(OURS, results.allocators)
            row.append(f"{worst[0]:.2f} ({worst[1]})" if worst else NOTHING)
        rows.append(row)
    return table(head, rows)


def memory_table(results: HeapResults) -> str:
    base = base_of(results)
    others = [a for a in results.allocators if a != base]
    rows = []
    for program in results.compared():
        row = [program.name, kib(program.median(base, "peak_kib"))]
        for allocator in others:
            peak = kib(program.median(allocator, "peak_kib"))
            ratio = times(program.ratio(allocator, base, "peak_kib"))
            row.append(f"{peak}, {ratio}")
        rows.append(row)
    return table(["", base, *others], rows)


def back_table(results: HeapResults) -> str:
    rows = []
    for program in results.programs:
        if program.group != "give back":
            continue
        name = program.name.removeprefix("give back, ")
        for word, when in (("at_once", "at once"), ("later", "2 s later")):
            values = [program.said(a, word) for a in results.allocators]
            rows.append([f"{name}, {when}", *(number(v, 1, " %") for v in values)])
        peaks = [kib(program.said(a, "peak_kib")) for a in results.allocators]
        rows.append([f"{name}, the peak", *peaks])
    return table(["", *results.allocators], rows)


def short_table(results: HeapResults) -> str:
    program = by_name(results).get("short threads")
    rows = []
    for allocator in results.allocators:
        runs = program.runs.get(allocator, []) if program else []
        rounds = runs[-1].said.get("round_kib", []) if runs else []
        if not rounds:
            continue
        grown = growth(program, allocator)
        row = [allocator, *(kib(rounds[i]) for i in (0, len(rounds) // 2, -1))]
        rows.append([*row, f"{((grown or 1) - 1) * 100:+.1f} %"])
    head = ["", "after the first round", "half of them", "the last", "growth"]
    return table(head, rows)


def notes(results: HeapResults) -> str:
    lines = [f"- Without {name}: {why}." for name, why in results.missing.items()]
    for program in results.programs:
        for allocator, why in program.failed.items():
            why = re.sub(r"\s+", " ", why)[:200]
            lines.append(f"- {program.name}: {allocator} failed: {why}")
    return "\n".join(lines) if lines else "None: every allocator ran every program."


def compare(results: HeapResults) -> str:
    """A line for each program: its time with each allocator, and over the base's."""
    base = base_of(results)
    width = max((len(p.name) for p in results.programs), default=0) + 1
    head = " " * width + "".join(f"{a:>19}" for a in results.allocators)
    lines = [f"{head}   RSS over {base}'s"]
    for program in results.programs:
        line = f"{program.name:<{width}}"
        for allocator in results.allocators:
            said = time_of(program, allocator)
            if program.group == "give back":
                said = number(program.said(allocator, "later"), 1, " %")
            elif allocator != base:
                said += f" {times(program.ratio(allocator, base)):>6}"
            line += f"{'fails' if allocator in program.failed else said:>19}"
        ratios = [
            program.ratio(allocator, base, "peak_kib")
            for allocator in results.allocators
            if allocator != base
        ]
        lines.append(line + "   " + " ".join(f"{times(r):>5}" for r in ratios))
    for what, name in (("seconds", "time"), ("peak_kib", "RSS")):
        values = [results.mean(a, base, what) for a in results.allocators]
        line = "".join(f"{number(value, 3):>19}" for value in values)
        lines.append(f"{'mean, ' + name:<{width}}{line}")
    for goal in heap_goals(results):
        what, limit, measured, reached = goal.row()
        lines.append(f"{what}: {measured} (goal {limit}): {reached}")
    return "\n".join(lines)


def page(results: HeapResults) -> str:
    made = ", ".join(f"{name} {said}" for name, said in results.versions.items())
    rounds = [len(runs) for p in results.programs for runs in p.runs.values()]
    low, high = min(rounds, default=0), max(rounds, default=0)
    said_rounds = str(low) if low == high else f"{low} to {high}"
    how = "make bench-heap QUICK=1" if results.quick else "make bench-heap"
    return f"""# Benchmarks of the allocator

Made by `{how}` on {results.when} in {results.seconds / 60:.0f} minutes: \
{said_rounds} interleaved rounds.
{results.machine}. Versions: {made}.

In each round every program runs with every allocator in turn, in another order each
time; each is preloaded, {BASE}'s is there by itself. Ratios are taken within a round;
what is shown is the median over the rounds. The machine may be a shared one: read the
ratios, not the seconds.

- *Time*: of most programs the CPU time, user and system, of their process with all its
  threads, from its start to its end; of those that pass blocks between threads, where
  waiting counts, the wall time of the work. The second column says which. Where a
  program makes a known number of pairs of an allocation and a free, it is the time for
  a pair; an overhead of the program itself is part of it.
- *Peak RSS*: the largest resident set of the process, `VmHWM`. The library that is
  preloaded counts too, which shows where a program itself is small.
- *Best peer*: the one of the other four that ours is worst against.
- *Trace*: the allocations of a real program, recorded when the benchmark began, done
  again by one thread, each block written to. Python is recorded with
  `PYTHONMALLOC=malloc`; so is it run where it says "all by malloc".

## Goals

{table(["", "goal", "measured", "reached"], (g.row() for g in heap_goals(results)))}

## Means

Geometric means over the programs of what they take over what they take with \
{base_of(results)}.

{means(results)}

## Time

With the ratio to {base_of(results)}.

{time_table(results)}

## Peak RSS

{memory_table(results)}

## Giving back

What is resident as a share of the peak once all but 1 % was freed. *together*: the
hundredth that was allocated in the middle is kept, so whole pages are free.
*scattered*: each hundredth block is kept. *ticking*: as together, but a few blocks are
allocated and freed each 10 ms meanwhile; in the others the program sleeps.

{back_table(results)}

## Threads that come and go

Resident after rounds of short threads that each free blocks of those before; growth is\
 of the mean over the last quarter of the rounds over that of the second, flat up to \
{(GROWN - 1) * 100:.0f} %.

{short_table(results)}

## Notes

{notes(results)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--markdown", type=Path, help="write there, not to the output")
    parser.add_argument("--compare", action="store_true", help="the short form")
    options = parser.parse_args()
    results = HeapResults.load(options.results)
    text = compare(results) if options.compare else page(results)
    if options.markdown:
        options.markdown.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
