# SPDX-License-Identifier: Apache-2.0
"""The JSON of report and leaks: exactly the keys and types that are promised."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

NUMBER = (int, float)
OPTIONAL_TEXT = (str, type(None))
OPTIONAL_INT = (int, type(None))
KINDS = {"exited", "signaled", "running", "lost"}

# A dict is an object with exactly these keys, a list an array of its one item.
FRAME = {
    "function": OPTIONAL_TEXT,
    "file": OPTIONAL_TEXT,
    "line": OPTIONAL_INT,
    "module": OPTIONAL_TEXT,
    "offset": int,
    "kind": {"native", "python"},
    "inlined": bool,
}
ROW = {"value": int, "ci95": NUMBER, "count": int, "frames": [FRAME]}
REPORT: dict[str, Any] = {
    "recording": {
        "path": str,
        "version": str,
        "command": [str],
        "pid": OPTIONAL_INT,
        "start_ns": int,
        "duration_ns": int,
        "on_ns": int,
        "mode": {"exact", "sampled"},
        "interval": int,
        "allocator": {"app", "neap"},
        "exit": {"kind": KINDS, "code": OPTIONAL_INT},
    },
    "loss": {"events": int, "bytes": int, "stacks": int, "complete": bool},
    "metric": {"live", "peak", "allocated", "temporary"},
    "unit": {"bytes"},
    "total": {"value": int, "ci95": NUMBER, "count": int},
    "rows": [ROW],
}
LEAKS = {**REPORT, "suppressed": {"value": int, "count": int}}


def check(value: Any, schema: Any, where: str = "") -> None:
    """Fail unless value has the form of schema."""
    if isinstance(schema, dict):
        assert list(value) == list(schema), where
        for key in schema:
            check(value[key], schema[key], f"{where}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        for i, item in enumerate(value):
            check(item, schema[0], f"{where}[{i}]")
    elif isinstance(schema, set):
        assert value in schema, where
    else:
        assert isinstance(value, schema), where
        assert schema is bool or not isinstance(value, bool), where


@pytest.mark.parametrize("metric", ["live", "peak", "allocated", "temporary"])
def test_report(neap: Run, sample: Path, metric: str) -> None:
    answer = neap("report", sample, "--metric", metric, "--json")
    assert answer.stderr == ""
    assert answer.stdout.count("\n") == 1
    assert answer.stdout.endswith("}\n")
    report = json.loads(answer.stdout)
    check(report, REPORT)
    assert report["metric"] == metric
    assert report["rows"]
    values = [row["value"] for row in report["rows"]]
    assert values == sorted(values, reverse=True)
    assert sum(values) == report["total"]["value"]
    assert sum(row["count"] for row in report["rows"]) == report["total"]["count"]


def test_report_in_full(neap: Run, sample: Path) -> None:
    report = json.loads(neap("report", sample, "--json", "--limit", 1).stdout)
    frame = {
        "function": "leaf",
        "file": "app.c",
        "line": 10,
        "module": "/bin/app",
        "offset": 4096,
        "kind": "native",
        "inlined": False,
    }
    frames = [{**frame, "function": name} for name in ("leaf", "middle", "main")]
    assert report == {
        "recording": {
            "path": str(sample),
            "version": "0.1.0",
            "command": ["./app", "--flag", "two words"],
            "pid": 100,
            "start_ns": 1000,
            "duration_ns": 3200000000,
            "on_ns": 3200000000,
            "mode": "exact",
            "interval": 0,
            "allocator": "app",
            "exit": {"kind": "exited", "code": 0},
        },
        "loss": {"events": 0, "bytes": 0, "stacks": 0, "complete": True},
        "metric": "peak",
        "unit": "bytes",
        "total": {"value": 1150, "ci95": 0, "count": 13},
        "rows": [{"value": 1000, "ci95": 0, "count": 10, "frames": frames}],
    }


def test_leaks(neap: Run, sample: Path) -> None:
    answer = neap("leaks", sample, "--json")
    assert answer.stdout.count("\n") == 1
    report = json.loads(answer.stdout)
    check(report, LEAKS)
    assert report["metric"] == "live"
    assert [row["value"] for row in report["rows"]] == [400, 7, 0]
    assert report["total"] == {"value": 407, "ci95": 0, "count": 7}
    assert report["suppressed"] == {"value": 1024, "count": 1}


def test_leaks_are_not_cut_for_machines(neap: Run, tmp_path: Path) -> None:
    from made import Maker

    with Maker(tmp_path / "x.neap") as make:
        process = make.process(1)
        for i in range(60):
            make.site(process, make.stack(f"f{i}"), live=(i + 1, 1))
    report = json.loads(neap("leaks", make.path, "--json").stdout)
    assert [row["value"] for row in report["rows"]] == list(range(60, 0, -1))
    report = json.loads(neap("leaks", make.path, "--json", "--limit", 2).stdout)
    assert [row["value"] for row in report["rows"]] == [60, 59]
    assert report["total"]["value"] == 1830
    report = json.loads(neap("report", make.path, "--json", "--metric=live").stdout)
    assert len(report["rows"]) == 20


def test_doctor(neap: Run) -> None:
    answer = neap("doctor", "--json")
    assert answer.returncode == 0
    rows = json.loads(answer.stdout)["checks"]
    assert len(rows) > 10
    for row in rows:
        check(
            row,
            {
                "name": str,
                "status": {"ok", "warn", "fail"},
                "meaning": str,
                "fix": OPTIONAL_TEXT,
            },
        )
        assert row["meaning"]
        assert row["fix"] is None or row["status"] != "ok"
