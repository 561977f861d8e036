# SPDX-License-Identifier: Apache-2.0
"""Plots of a run: the cost of an event against events and against threads.

plots.py RESULTS.json DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

from page import an_event
from results import Results

LINES = (
    ("exact", "target_s", "Neaptide, in the target", "#1b6ca8", "-", "o"),
    ("exact", "whole_s", "Neaptide, with its collector", "#1b6ca8", "--", "s"),
    ("heaptrack", "target_s", "heaptrack, in the target", "#c8553d", "-", "o"),
    ("heaptrack", "whole_s", "heaptrack, with its interpreter", "#c8553d", "--", "s"),
)


def plot(results: Results, folder: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("bench: matplotlib is not installed: no plots", file=sys.stderr)
        return
    matplotlib.use("svg")
    # Text stays text and nothing in the file changes by itself.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "neap"})
    from matplotlib import pyplot

    for group, axis in (
        ("events", "events in the recording"),
        ("threads", "threads"),
    ):
        points = results.group(group)
        if not points:
            continue
        figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
        for tool, what, label, colour, style, marker in LINES:
            known = [(p.point, an_event(p, tool, what)) for p in points]
            xs = [x for x, y in known if y is not None]
            ys = [y for _, y in known if y is not None]
            if xs:
                axes.plot(xs, ys, style, marker=marker, color=colour, label=label)
        axes.set_xscale("log", base=10 if group == "events" else 2)
        ticks = [p.point for p in points]
        labels = [f"{x // 1_000_000} M" if group == "events" else str(x) for x in ticks]
        axes.set_xticks(ticks, labels)
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"{axis} (logarithmic)")
        axes.set_ylabel("CPU time added to an event, ns")
        axes.set_title("malloc and free at depth 20")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(
            folder / f"benchmarks-{group}.svg", metadata={"Date": None, "Creator": None}
        )
        pyplot.close(figure)


if __name__ == "__main__":
    plot(Results.load(Path(sys.argv[1])), Path(sys.argv[2]))
