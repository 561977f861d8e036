# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks say of where they ran, and in which order they run things."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from measure import ToolError
from programs import check_command

Thing = TypeVar("Thing")


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def machine() -> str:
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} CPUs ({model}), {gib:.0f} GiB, Linux {platform.release()}"


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Those of Debian's packages, as far as they are installed."""
    found = {}
    for package in packages:
        words = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package]
        try:
            said = check_command(words).split()
        except (ToolError, IndexError):
            continue
        if said[0] == "installed":
            found[package] = said[1]
    return found


def in_turn(things: Sequence[Thing], number: int) -> list[Thing]:
    """Another first each round, and every other round backwards."""
    if not things:
        return []
    first = number % len(things)
    turned = [*things[first:], *things[:first]]
    return turned[::-1] if number % 2 else turned
