# SPDX-License-Identifier: Apache-2.0
"""A program's events by chance, the recording of them, and what must be answered.

The answers are worked out here by going through the events one by one with a map of
blocks, the way no reader of a recording does it.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from made import Maker, add_events

STACKS = 7
UNKNOWN_SITES = (5, 90)  # sites without a row
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Block:
    """One allocation."""

    address: int
    size: int
    site: int
    owner: int
    born: int  # number of its event


@dataclass
class Event:
    """One line for make_events, and what it means."""

    op: str
    ts: int
    tid: int
    block: Block

    def line(self) -> str:
        b = self.block
        owner, size, site = b.owner, b.size, b.site
        if self.op[0] == "x":
            owner, size, site = 0, 0, 2**32 - 1
        return f"{self.op} {self.ts} {self.tid} {owner} {b.address} {size} {site} 0"


@dataclass
class Process:
    """A program image and its events."""

    pid: int
    start: int = 0
    events: list[Event] = field(default_factory=list)


def live_after(events: list[Event], count: int) -> dict[int, Block]:
    """The blocks after the first `count` events."""
    live: dict[int, Block] = {}
    for event in events[:count]:
        if event.op[0] in "au":
            live[event.block.address] = event.block
        elif event.op[0] == "f":
            del live[event.block.address]
    return live


def make_process(pid: int, count: int, seed: int, start: int = 0) -> Process:
    """Random events of three threads, with reallocs that fail and unknown blocks."""
    chance = random.Random(seed)
    process = Process(pid, start)
    live: list[Block] = []
    free = [0x1000 + 16 * i for i in range(4000)] + [0x77777]
    ts = start
    last: dict[int, Block] = {}
    while len(process.events) < count:
        tid = pid + chance.randrange(3)
        ts += chance.choice([0, 0, 0, 1, 1000, 1_000_000])
        number = len(process.events)
        roll = chance.random()

        def add(op: str, block: Block, ts: int = ts, tid: int = tid) -> None:
            process.events.append(Event(op, ts, tid, block))

        def new(tid: int = tid, number: int = number) -> Block:
            address = free.pop(chance.randrange(len(free)))
            size = chance.choice([0, 1, 2, 24, 24, 100, 4096, 100_000])
            site = chance.choice([*range(STACKS), *UNKNOWN_SITES, 8])
            return Block(address, size, site, tid, number)

        if roll < 0.5 or not live:
            block = new()
            add("a", block)
            live.append(block)
            last[tid] = block
        elif roll < 0.85:
            block = live.pop(chance.randrange(len(live)))
            kind = "f" + ("t" if last.get(tid) == block else "")
            add(kind if chance.random() < 0.9 else kind + "i", block)
            free.append(block.address)
        elif roll < 0.9:
            add(chance.choice(["x", "xr"]), Block(0xABCDEF, 0, 0, 0, number))
        else:
            block = live.pop(chance.randrange(len(live)))
            temporary = "t" if last.get(tid) == block else ""
            add("fr" + temporary, block)
            if chance.random() < 0.5:
                add("ur" + temporary, block)
                live.append(block)
            else:
                free.append(block.address)
                block = new(number=number + 1)
                add("ar", block)
                live.append(block)
    return process


Sums = dict[object, list[int]]  # what a row stands for -> bytes, count


class Model:
    """Processes and the answers about them."""

    def __init__(self, *processes: Process) -> None:
        self.processes = processes
        self.stack_of: dict[int, int] = {}  # site -> stack
        self.unknown = 0

    def end(self) -> int:
        return max(p.events[-1].ts for p in self.processes) + SECOND

    def key(self, process: Process, block: Block, by: str) -> object:
        if by == "thread":
            return process.pid, block.owner
        if by == "size":
            return 1 << (block.size.bit_length() - 1) if block.size else 0
        return self.stack_of.get(block.site, self.unknown)

    def peak(self, process: Process, first: int, end: int) -> int:
        """How many events were applied at the highest point from `first` to `end`."""
        height = sum(b.size for b in live_after(process.events, first).values())
        most, at = height, first
        for i in range(first, end):
            event = process.events[i]
            if event.op[0] in "au":
                height += event.block.size
            elif event.op[0] == "f":
                height -= event.block.size
            if height > most:
                most, at = height, i + 1
        return at

    def ask(
        self,
        metric: str,
        by: str = "stack",
        wants: Callable[[Block], bool] = lambda block: True,
        start: int | None = None,
        end: int | None = None,
        pid: int | None = None,
    ) -> Sums:
        """The rows that a report must have."""
        sums: Sums = defaultdict(lambda: [0, 0])

        def add(process: Process, block: Block, sign: int = 1) -> None:
            if wants(block):
                row = sums[self.key(process, block, by)]
                row[0] += sign * block.size
                row[1] += sign

        for process in self.processes:
            if pid is not None and process.pid != pid:
                continue
            events = process.events
            low = sum(e.ts <= start for e in events) if start else 0
            high = len(events) if end is None else sum(e.ts <= end for e in events)
            if metric == "peak":
                at = self.peak(process, low, high)
                for block in live_after(events, at).values():
                    add(process, block)
            elif metric == "live":
                for block in live_after(events, high).values():
                    if block.born >= low:
                        add(process, block)
            else:
                for event in events[low:high]:
                    if metric == "allocated" and event.op[0] == "a":
                        add(process, event.block)
                    if metric == "temporary" and "t" in event.op:
                        add(process, event.block, 1 if event.op[0] == "f" else -1)
        rows = {k: [max(v, 0) for v in row] for k, row in sums.items()}
        return {k: row for k, row in rows.items() if any(row)}

    def write(self, path: Path, chunk: int = 100) -> Path:
        """The recording of it, with the aggregates that a collector would keep."""
        with Maker(path, duration_ns=self.end()) as make:
            stacks = [make.stack(f"leaf{i}", "main") for i in range(STACKS)]
            self.stack_of = dict(enumerate(stacks))
            self.stack_of[8] = stacks[3]  # one stack under two hashes
            del self.stack_of[UNKNOWN_SITES[0]]
            nothing = make.frame(None, None, None, None, offset=0)
            self.unknown = make.stack(nothing, truncated=1)
            for process in self.processes:
                self.write_process(make, process)
        lines = []
        for i, process in enumerate(self.processes, 1):
            lines += [f"process {i}", *(event.line() for event in process.events)]
        add_events(path, lines, chunk)
        return path

    def write_process(self, make: Maker, process: Process) -> None:
        peak = self.peak(process, 0, len(process.events))
        live = live_after(process.events, len(process.events)).values()
        number = make.process(
            process.pid,
            start_ns=process.start,
            peak_event=peak,
            peak_ns=process.events[peak - 1].ts,
            live_bytes=sum(b.size for b in live),
            live_count=len(live),
        )
        for site, stack in self.stack_of.items():
            make.event_site(number, site, stack)
        for tid in range(3):
            make.thread(number, process.pid + tid, f"thread {tid}")
        for block in live:
            stack = self.stack_of.get(block.site, self.unknown)
            make.block(number, stack, block.address, block.size, block.owner)
        rows = {
            metric: self.ask(metric, pid=process.pid)
            for metric in ("live", "peak", "allocated", "temporary")
        }
        for stack in rows["allocated"]:
            make.site(
                number,
                stack,  # type: ignore[arg-type]
                **{
                    metric: tuple(sums.get(stack, (0, 0)))
                    for metric, sums in rows.items()
                },
            )
