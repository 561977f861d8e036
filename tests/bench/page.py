# SPDX-License-Identifier: Apache-2.0
"""The page of a run: the goals with what was measured, the tables, the notes.

page.py RESULTS.json [--markdown FILE]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from results import Found, Results, Spread

NOTHING = "-"
FLAT = 1.25  # a cost that grows by less than this is called flat

COMPARED = (
    ("dormant", "dormant"),
    ("sampled", "sampled"),
    ("exact", "exact"),
    ("heaptrack", "heaptrack"),
    ("memray", "memray"),
    ("memray --native", "memray --native"),
    ("jemalloc prof", "jemalloc prof (over jemalloc)"),
    ("gperftools", "gperftools heap profiler (over tcmalloc)"),
    ("massif", "massif"),
)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines + body) if body else "Not measured."


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    if value is None:
        return NOTHING
    return f"{value:,.{digits}f}{unit}"


def with_spread(value: Spread | None, digits: int, unit: str = "") -> str:
    if value is None:
        return NOTHING
    return f"{value.mid:.{digits}f} ± {value.mad:.{digits}f}{unit}"


def mid(value: Spread | None) -> float | None:
    return value.mid if value else None


def kib(value: float | None) -> str:
    if not value:
        return NOTHING
    return f"{value / 1024:,.1f} MiB" if value >= 1024 else f"{value:.0f} KiB"


def amount(events: float) -> str:
    if events >= 1_000_000:
        return f"{events / 1e6:.3g} M"
    return f"{events / 1e3:.3g} k" if events >= 1_000 else f"{events:.0f}"


def times(value: float | None, digits: int = 2) -> str:
    """A ratio, with as many digits as it is worth."""
    if value is not None and value >= 10:
        digits = 1 if value < 100 else 0
    return number(value, digits)


# ---- goals ----


@dataclass
class Goal:
    what: str
    goal: str
    measured: str = NOTHING
    reached: bool | None = None  # None: not measured

    def row(self) -> list[str]:
        said = {True: "yes", False: "**no**", None: "not measured"}[self.reached]
        return [self.what, self.goal, self.measured, said]


def worst(
    what: str, limit: float, values: list[tuple[str, float | None]], digits: int
) -> Goal:
    """A goal that each of some programs has to reach."""
    goal = Goal(what, f"≤ {limit:.{digits}f}")
    known = sorted((value, name) for name, value in values if value is not None)
    if known:
        low, high = known[0], known[-1]
        goal.measured = f"{high[0]:.{digits}f} ({high[1]})"
        if len(known) > 1:
            goal.measured = f"{low[0]:.{digits}f} ({low[1]}) to {goal.measured}"
        goal.reached = high[0] <= limit
    return goal


def against_heaptrack(results: Results) -> list[Goal]:
    def goal(
        where: str, limit: float, of: Callable[[Found], bool], what: str = "target_s"
    ) -> Goal:
        chosen = filter(of, results.group("suite"))
        values = [(p.name, p.against("heaptrack", what)) for p in chosen]
        return worst(f"exact, CPU added {where}, over heaptrack's", limit, values, 3)

    return [
        goal("in the target, one thread", 1 / 3, lambda p: p.threads == 1),
        goal("in the target, two threads", 1 / 4, lambda p: p.threads == 2),
        goal("in the target, four threads", 1 / 8, lambda p: p.threads == 4),
        goal("in the target, depth 40", 1 / 5, lambda p: "depth 40" in p.name),
        goal("in all with the collector", 1 / 4, lambda p: True, "whole_s"),
    ]


def ratio_goal(found: Found | None, tool: str, limit: float, what: str) -> Goal:
    goal = Goal(what, f"≤ {limit:.2f}")
    ratio = found.ratio(tool) if found else None
    if ratio:
        goal.measured = with_spread(ratio, 3)
        goal.reached = ratio.mid <= limit
    return goal


def cheap_goals(by_name: dict[str, Found]) -> list[Goal]:
    goals = []
    fib = by_name.get("CPython, fib")
    goal = ratio_goal(
        fib, "exact", 1.03, "exact, Python that only calls (`fib`), over plain"
    )
    memray = fib.ratio("memray") if fib else None
    if memray:
        goal.measured += f"; memray {memray.mid:.1f}"
    goals.append(goal)
    loop = by_name.get("malloc loop")
    for tool, limit in (("dormant", 1.5), ("sampled", 2.5)):
        goal = Goal(f"{tool}, malloc loop, added to a pair", f"≤ {limit} ns")
        added = loop.added_ns(tool) if loop else None
        if added:
            goal.measured = with_spread(added, 2, " ns")
            goal.reached = added.mid <= limit
        goals.append(goal)
    for name in (
        "sqlite3",
        "redis-server",
        "gcc -O2",
        "CPython, json",
        "CPython, imports",
    ):
        for tool, limit in (("dormant", 1.01), ("sampled", 1.02)):
            what = f"{tool}, {name}, over plain"
            goals.append(ratio_goal(by_name.get(name), tool, limit, what))
    return goals


def bytes_an_event(programs: Iterable[Found]) -> float | None:
    size = events = 0.0
    for program in programs:
        size += program.median("exact", "file_bytes") or 0
        events += program.median("exact", "events") or 0
    return size / events if events else None


def file_goals(results: Results) -> list[Goal]:
    suite = results.group("suite")
    goals = []
    for what, limit, programs in (
        ("file, bytes an event over the suite", 3.0, suite),
        ("file, bytes an event on the malloc loops", 1.5, [p for p in suite if p.loop]),
    ):
        goal = Goal(what, f"≤ {limit}")
        size = bytes_an_event(programs)
        if size is not None:
            goal.measured, goal.reached = f"{size:.2f}", size <= limit
            # A recording of few events is mostly what every recording has.
            most = max(
                (bytes_an_event([p]) or 0, p.name)
                for p in programs
                if (p.median("exact", "events") or 0) >= 100_000
            )
            goal.measured += f" (at most {most[0]:.2f}, {most[1]})"
        goals.append(goal)
    return goals


def collector_rate(found: Found) -> float | None:
    """Million events in a second of CPU of the collector and all else of ours."""
    whole, target = (found.median("exact", what) for what in ("whole_s", "target_s"))
    events = found.median("exact", "events")
    if whole is None or target is None or not events or whole <= target:
        return None
    return events / (whole - target) / 1e6


def collector_goals(results: Results) -> list[Goal]:
    points = [p for p in results.group("events") if p.samples.get("exact")]
    rate = Goal("collector, events in a second of one core, sustained", "≥ 10 M")
    memory = Goal(
        "collector, memory bounded: largest over smallest recording", f"≤ {FLAT}"
    )
    if points:
        first, last = points[0], points[-1]
        value = collector_rate(last)
        if value:
            rate.measured = f"{value:.1f} M ({last.name})"
            rate.reached = value >= 10
        low, high = (p.median("exact", "tool_kib") for p in (first, last))
        if low and high and first is not last:
            memory.measured = f"{high / low:.2f} ({kib(low)}, {kib(high)})"
            memory.reached = high / low <= FLAT
    return [rate, memory]


def answer_goals(results: Results) -> list[Goal]:
    goals = []
    for events, word, limit in (
        (10_000_000, "peak", 0.3),
        (100_000_000, "peak", 1.0),
        (10_000_000, "--at", 1.0),
    ):
        found = [
            a for a in results.answers if a.events == events and word in a.question
        ]
        question = found[0].question if found else f"report … {word}"
        goal = Goal(f"`{question}` on {amount(events)} events", f"≤ {limit} s")
        if found and found[0].seconds:
            seconds = sorted(found[0].seconds)[len(found[0].seconds) // 2]
            goal.measured, goal.reached = f"{seconds:.2f} s", seconds <= limit
        elif found:
            goal.measured = "fails"
        goals.append(goal)
    return goals


def an_event(found: Found, tool: str, what: str) -> float | None:
    """Nanoseconds added to each event, two of which make a pair."""
    added = found.added_ns(tool, what)
    return added.mid / 2 if added else None


def growth_goals(results: Results) -> list[Goal]:
    goals = []
    for group, points_from in (("events", 0), ("stacks", 1_000), ("threads", 0)):
        points = [p for p in results.group(group) if p.point >= points_from]
        for what, where in (("target_s", "in the target"), ("whole_s", "in all")):
            costs = [(an_event(p, "exact", what), p) for p in points]
            known = [(cost, p) for cost, p in costs if cost is not None]
            goal = Goal(f"growth, cost of an event {where}, with {group}", f"≤ {FLAT}")
            if len(known) > 1 and known[0][0] > 0:
                (low, first), (high, last) = known[0], known[-1]
                goal.measured = (
                    f"{high / low:.2f} ({low:.0f} ns with {first.name}, "
                    f"{high:.0f} ns with {last.name})"
                )
                goal.reached = high / low <= FLAT
            goals.append(goal)
    return goals


def goals(results: Results) -> list[Goal]:
    by_name = {p.name: p for p in results.group("suite")}
    return (
        against_heaptrack(results)
        + cheap_goals(by_name)
        + file_goals(results)
        + collector_goals(results)
        + answer_goals(results)
        + growth_goals(results)
    )


# ---- tables ----


def cell(found: Found, tool: str, text: str) -> str:
    return "failed" if tool in found.failed else text


def compared(results: Results) -> str:
    suite = results.group("suite")
    shown = [(t, label) for t, label in COMPARED if any(t in p.samples for p in suite)]
    rows = []
    for program in suite:
        row = [program.name, number(program.median("plain", "target_s"), 2, " s")]
        for tool, _ in shown:
            ratio = program.ratio(tool)
            digits = 3 if tool in ("dormant", "sampled") else 2
            row.append(cell(program, tool, times(mid(ratio), digits)))
        rows.append(row)
    return table(["program", "plain", *(label for _, label in shown)], rows)


def beside_heaptrack(results: Results) -> str:
    rows = []
    for program in results.group("suite"):
        row = [program.name]
        if "exact" not in program.samples:
            continue
        for what in ("target_s", "whole_s"):
            for tool in ("exact", "heaptrack"):
                ns, seconds = program.added_ns(tool, what), program.added(tool, what)
                text = number(mid(seconds), 2, " s")
                if ns:
                    text = number(ns.mid, 0, " ns a pair")
                row.append(cell(program, tool, text))
            row.append(number(program.against("heaptrack", what)))
        rows.append(row)
    head = ["program", "in the target: exact", "heaptrack", "ratio"]
    return table([*head, "in all: exact", "heaptrack", "ratio"], rows)


def small_costs(results: Results) -> str:
    rows = []
    for program in results.group("suite"):
        counted = program.ratio("dormant") or program.ratio("sampled")
        if not counted:
            continue
        row = [program.name, str(counted.count)]
        for tool in ("dormant", "sampled", "jemalloc prof"):
            row.append(cell(program, tool, with_spread(program.ratio(tool), 3)))
            ns = program.added_ns(tool)
            row.append(with_spread(ns, 2, " ns") if ns else NOTHING)
        rows.append(row)
    head = ["program", "rounds", "dormant", "a pair", "sampled", "a pair"]
    return table([*head, "jemalloc prof", "a pair"], rows)


def memory_and_files(results: Results) -> str:
    rows = []
    for program in results.group("suite"):
        if not program.samples.get("exact"):
            continue
        row = [program.name, amount(program.median("exact", "events") or 0)]
        row += [
            kib(program.median(t, "target_kib"))
            for t in ("plain", "exact", "heaptrack")
        ]
        row += [kib(program.median(t, "tool_kib")) for t in ("exact", "heaptrack")]
        for tool in ("exact", "heaptrack"):
            row.append(kib((program.median(tool, "file_bytes") or 0) / 1024))
        row.append(number(bytes_an_event([program])))
        row += [
            number(program.last(t, "report_s"), 2, " s") for t in ("exact", "heaptrack")
        ]
        rows.append(row)
    head = ["program", "events", "target's RSS: plain", "exact", "heaptrack"]
    head += ["tool's RSS: exact", "heaptrack", "file: exact", "heaptrack"]
    head += ["bytes an event", "report: exact", "heaptrack"]
    return table(head, rows)


def requests(results: Results) -> str:
    rows = []
    for program in results.group("suite"):
        plain = program.median("plain", "rate")
        for tool in results.tools:
            rate = program.median(tool, "rate")
            if plain and rate:
                row = [program.name, tool, number(rate / 1000, 0, " k")]
                rows.append([*row, number(rate / plain, 2)])
    return table(["server", "tool", "requests/s", "over plain"], rows)


def series(results: Results, group: str) -> str:
    rows = []
    for program in results.group(group):
        row = [program.name]
        for what in ("target_s", "whole_s"):
            for tool in ("exact", "heaptrack"):
                text = number(an_event(program, tool, what), 1)
                row.append(cell(program, tool, text))
            row.append(number(program.against("heaptrack", what)))
        row.append(number(collector_rate(program), 1))
        row.append(kib(program.median("exact", "tool_kib")))
        row.append(number(bytes_an_event([program])))
        rows.append(row)
    head = [f"with {group}", "ns in the target: exact", "heaptrack", "ratio"]
    head += ["ns in all: exact", "heaptrack", "ratio"]
    return table([*head, "collector, M events/s", "its RSS", "bytes an event"], rows)


def answered(results: Results) -> str:
    rows = []
    for answer in results.answers:
        row = [f"`neap {answer.question}`", amount(answer.events)]
        row.append(kib(answer.file_bytes / 1024))
        if answer.seconds:
            low, high = min(answer.seconds), max(answer.seconds)
            middle = sorted(answer.seconds)[len(answer.seconds) // 2]
            row += [f"{middle:.2f} s", f"{low:.2f} to {high:.2f} s"]
        else:
            row += ["fails", answer.failed]
        rows.append(row)
    return table(["question", "events", "file", "median", "range"], rows)


def notes(results: Results) -> str:
    lines = [f"- Without {tool}: {why}." for tool, why in results.missing.items()]
    for program in results.programs:
        for tool, why in program.failed.items():
            why = re.sub(r"\s+", " ", why)[:200]
            lines.append(f"- {program.name}: {tool} failed: {why}")
        lost = program.values("exact", "lost")
        if any(lost):
            most = f"{max(lost):,.0f} events or stacks"
            lines.append(f"- {program.name}: a recording lacks {most}.")
    return "\n".join(lines) if lines else "None: every tool ran on every program."


def page(results: Results) -> str:
    made = ", ".join(f"{name} {said}" for name, said in results.versions.items())
    rounds = [len(p.samples.get("plain", [])) for p in results.programs]
    how = "`make bench QUICK=1`" if results.quick else "`make bench`"
    short = (
        "\nThis was the quick form: its programs are so short that the start of a "
        "recording\nshows in each figure.\n"
        if results.quick
        else ""
    )
    ingest = "\n".join(results.ingest) or "not measured"
    return f"""# Benchmarks

Made by {how} on {results.when} in {results.seconds / 60:.0f} minutes: \
{min(rounds, default=0)} to {max(rounds, default=0)} interleaved rounds.
{results.machine}. Versions: {made}.

In each round every program runs under every tool in turn, in another order each time.
Ratios and differences are taken within a round; what is shown is the median over the
rounds, and ± is the median distance from it. The machine may be a shared one: read the
ratios, not the seconds.
{short}
- *plain*: the program alone. *dormant*: the hook loaded, recording off. *sampled*: an
  event each 512 KiB on average. *exact*: every event, `neap run`.
- *In the target*: CPU time (user and system) of the program's own process. *In all*:
  with all processes of the tool: the collector names functions and writes the database,
  heaptrack's interpreter and compressor are counted likewise. redis-benchmark is not
  counted.
- *ratio*: what exact adds over what heaptrack adds; no figure where heaptrack adds less
  than 5 % or 30 ms, which is noise.
- *jemalloc prof*, *gperftools*: these profile their own allocator, so their cost is
  that over the same allocator without profiling. jemalloc samples each 512 KiB;
  gperftools records each allocation. It and massif run once.
- memray records Python programs, with the interpreter that all tools run them with. Its
  own imports count as the program's.

## Goals

{table(["", "goal", "measured", "reached"], (goal.row() for goal in goals(results)))}

Where a goal is for several programs, the best and the worst are shown and the worst
decides. Growth and memory are called flat up to {FLAT}; growth with stacks
is that from 1,000 on.

## Cost over the plain program

CPU of the target over that of the plain run, except for the second column.

{compared(results)}

## Exact beside heaptrack

CPU time added.

{beside_heaptrack(results)}

## Dormant and sampled

CPU of the target over the plain run, and what that is for each malloc/free pair.

{small_costs(results)}

## Memory, files and reports

Peak resident sets; that of the tool is of its largest process. *Report* is wall time of
`neap report` and of `heaptrack_print`.

{memory_and_files(results)}

## Requests

{requests(results)}

## Growth

What an event adds, a malloc or a free, at depth 20.

![Cost of an event against the number of events](benchmarks-events.svg)

{series(results, "events")}

{series(results, "stacks")}

![Cost of an event against the number of threads](benchmarks-threads.svg)

{series(results, "threads")}

## Collector

What the books of the collector take, without rings and file (`build/bench-ingest`).

```
{ingest}
```

## Answers

Wall time on recordings of a call tree at depth 20 with 41,000 stacks that lie in the
page cache. T is the middle of the recording.

{answered(results)}

## Notes

{notes(results)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--markdown", type=Path, help="write there, not to the output")
    options = parser.parse_args()
    text = page(Results.load(options.results))
    if options.markdown:
        options.markdown.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
