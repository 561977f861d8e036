# SPDX-License-Identifier: Apache-2.0
"""What a run of the allocator benchmark found, as JSON, and what is computed from it.
Ratios are taken within one round, never between rounds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Run:
    """One run of one program with one allocator."""

    round: int
    seconds: float  # of the kind that the program is measured by
    cpu_s: float
    wall_s: float
    peak_kib: int
    said: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Measured:
    """One program and what was measured of it."""

    name: str
    group: str
    time: str  # CPU or wall
    runs: dict[str, list[Run]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # by allocator, why

    def median(self, allocator: str, what: str) -> float | None:
        found = [float(getattr(run, what)) for run in self.runs.get(allocator, [])]
        return statistics.median(found) if found else None

    def said(self, allocator: str, what: str) -> float | None:
        """The median over the rounds of what it said last under that word."""
        runs = self.runs.get(allocator, [])
        found = [run.said[what][-1] for run in runs if run.said.get(what)]
        return statistics.median(found) if found else None

    def pair_ns(self, allocator: str) -> float | None:
        seconds = self.median(allocator, "seconds")
        pairs = self.said(allocator, "pairs")
        return seconds * 1e9 / pairs if seconds is not None and pairs else None

    def ratio(self, allocator: str, base: str, what: str = "seconds") -> float | None:
        """The median over the rounds."""
        bases = {run.round: getattr(run, what) for run in self.runs.get(base, [])}
        found = [
            getattr(run, what) / bases[run.round]
            for run in self.runs.get(allocator, [])
            if bases.get(run.round)
        ]
        return statistics.median(found) if found else None

    def worst(
        self, allocator: str, peers: Iterable[str], what: str = "seconds"
    ) -> tuple[float, str] | None:
        """Over the peer that it is worst against, which is the best one."""
        found = [
            (ratio, peer)
            for peer in peers
            if peer != allocator
            and (ratio := self.ratio(allocator, peer, what)) is not None
        ]
        return max(found, default=None)


@dataclass
class HeapResults:
    when: str
    machine: str
    versions: dict[str, str]
    quick: bool
    allocators: list[str]
    missing: dict[str, str] = field(default_factory=dict)
    programs: list[Measured] = field(default_factory=list)
    seconds: float = 0.0

    def compared(self) -> list[Measured]:
        """Those that count in the means: giving back is a question of its own."""
        return [p for p in self.programs if p.group != "give back"]

    def mean(
        self, allocator: str, base: str, what: str = "seconds", group: str = ""
    ) -> float | None:
        """The geometric mean of the ratios over the programs."""
        ratios = [
            ratio
            for program in self.compared()
            if (not group or program.group == group)
            and (ratio := program.ratio(allocator, base, what))
        ]
        if not ratios:
            return None
        return math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> HeapResults:
        data: dict[str, Any] = json.loads(path.read_text())
        for program in data["programs"]:
            program["runs"] = {
                name: [Run(**run) for run in runs]
                for name, runs in program["runs"].items()
            }
        data["programs"] = [Measured(**program) for program in data["programs"]]
        return HeapResults(**data)
