# SPDX-License-Identifier: Apache-2.0
"""What a run of the benchmarks found: every sample, kept as JSON, and what is computed
from them. Costs are differences and ratios within one round, never between rounds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# What a tool's added cost is measured against, where it is not the plain program.
BASES = {"jemalloc prof": "jemalloc", "gperftools": "tcmalloc"}


def base_of(tool: str) -> str:
    return BASES.get(tool, "plain")


@dataclass
class Sample:
    """One run of one program under one tool."""

    round: int
    target_s: float  # CPU of the program's own process
    whole_s: float  # CPU of that and of all processes of the tool
    target_kib: int = 0  # its largest resident set
    tool_kib: int = 0  # the largest resident set of another process
    file_bytes: int = 0
    events: int = 0  # in the recording
    lost: int = 0  # what the recording says is missing from it
    rate: float = 0.0  # requests a second, for a server
    report_s: float = 0.0  # wall time of the tool's report on what it wrote


@dataclass
class Found:
    """One program and what was measured of it."""

    name: str
    group: str  # suite, or the series it is a point of: events, stacks, threads
    pairs: int = 0  # malloc/free pairs, where it makes a known number
    threads: int = 1
    loop: bool = False  # does nothing but malloc and free
    point: int = 0  # where it stands on the series' axis
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # by tool, why

    def values(self, tool: str, what: str) -> list[float]:
        return [float(getattr(s, what)) for s in self.samples.get(tool, [])]

    def median(self, tool: str, what: str) -> float | None:
        found = self.values(tool, what)
        return statistics.median(found) if found else None

    def last(self, tool: str, what: str) -> float | None:
        found = [value for value in self.values(tool, what) if value]
        return found[-1] if found else None

    def _paired(
        self, tool: str, what: str, of: Callable[[float, float], float]
    ) -> list[float]:
        base = {s.round: getattr(s, what) for s in self.samples.get(base_of(tool), [])}
        return [
            of(getattr(s, what), base[s.round])
            for s in self.samples.get(tool, [])
            if s.round in base
        ]

    def ratio(self, tool: str) -> Spread | None:
        """CPU of the target over that of its base."""
        return spread(self._paired(tool, "target_s", lambda a, b: a / b if b else 1))

    def added(self, tool: str, what: str = "target_s") -> Spread | None:
        """Seconds beyond the base."""
        return spread(self._paired(tool, what, lambda a, b: a - b))

    def added_ns(self, tool: str, what: str = "target_s") -> Spread | None:
        """Nanoseconds beyond the base, for each pair."""
        found = self.added(tool, what)
        return found.times(1e9 / self.pairs) if found and self.pairs else None

    def against(self, theirs: str, what: str = "target_s") -> float | None:
        """What exact adds over what another tool adds; None where that is noise."""
        us, them = self.added("exact", what), self.added(theirs, what)
        plain = self.median("plain", "target_s")
        if not us or not them or not plain or them.mid < max(0.03, plain * 0.05):
            return None
        return us.mid / them.mid


@dataclass
class Spread:
    mid: float  # the median
    mad: float  # median of the distances from it
    count: int

    def times(self, factor: float) -> Spread:
        return Spread(self.mid * factor, self.mad * factor, self.count)


def spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    mid = statistics.median(values)
    return Spread(mid, statistics.median(abs(v - mid) for v in values), len(values))


@dataclass
class Answer:
    """How long a question on a large recording took."""

    events: int
    question: str
    seconds: list[float]
    file_bytes: int
    failed: str = ""


@dataclass
class Results:
    when: str
    machine: str
    versions: dict[str, str]
    quick: bool
    tools: list[str]
    missing: dict[str, str] = field(default_factory=dict)  # tools left out, why
    programs: list[Found] = field(default_factory=list)
    ingest: list[str] = field(default_factory=list)  # lines of bench-ingest
    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0  # the whole run

    def group(self, name: str) -> list[Found]:
        return [program for program in self.programs if program.group == name]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> Results:
        data: dict[str, Any] = json.loads(path.read_text())
        for program in data["programs"]:
            program["samples"] = {
                tool: [Sample(**sample) for sample in samples]
                for tool, samples in program["samples"].items()
            }
        data["programs"] = [Found(**program) for program in data["programs"]]
        data["answers"] = [Answer(**answer) for answer in data["answers"]]
        return Results(**data)
