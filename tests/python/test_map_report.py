# SPDX-License-Identifier: Apache-2.0
"""neap maps and rec.maps(): who grew the address space, who gave back."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import neaptide
import pytest
from made import Maker
from neaptide.report import text
from test_json import FRAME, REPORT, check

Run = Callable[..., subprocess.CompletedProcess[str]]
KIB, MIB = 1 << 10, 1 << 20
MEMORY = {"prot": 3, "flags": 34}

BYTES = {"grown": int, "returned": int, "kept": int}
SUMS = {
    "anonymous": BYTES,
    "reserved": BYTES,
    "file": BYTES,
    "net": int,
    "unseen": int,
    "advised": int,
    "grow_count": int,
    "return_count": int,
    "advise_count": int,
}
MAPS = {
    "recording": REPORT["recording"],
    "loss": REPORT["loss"],
    "source": (str, type(None)),
    "unit": {"bytes"},
    "total": SUMS,
    "rows": [{**SUMS, "frames": [FRAME]}],
}

TEXT = """\
{path}: ./app --flag 'two words' (pid 100), exited with status 0 after 3.2 s
Grown: 6.0 MiB by 3 stacks, 1 process; given back: 1.0 MiB; kept to the end: 5.0 MiB
beside that: 64.0 MiB reserved, 8.0 KiB of files, 4.0 KiB given back by madvise in \
1 call, 12.0 KiB given back that was not seen to grow
exact: every event counted, nothing lost

    grown  given back     kept  calls
  4.0 MiB         0 B  3.0 MiB      1  grow at app.c:10 (app)
                                       main at app.c:10 (app)
  2.0 MiB         0 B  2.0 MiB      2  heap at app.c:10 (app)
                                       (4.0 KiB given back by madvise in 1 call)
                                       main at app.c:10 (app)
      0 B     1.0 MiB      0 B      4  other at app.c:10 (app)
                                       (64.0 MiB reserved, 8.0 KiB of files, 12.0 KiB \
given back that was not seen to grow)
"""


@pytest.fixture
def mapped(tmp_path: Path) -> Path:
    path = tmp_path / "maps.neap"
    with Maker(path) as make:
        main = make.process(100)
        grow, heap = make.stack("grow", "main"), make.stack("heap", "main")
        other = make.stack("other")
        make.map(main, "mmap", grow, address=16 * MIB, size=4 * MIB, **MEMORY)
        make.map(main, "munmap", other, address=16 * MIB, size=MIB)
        make.map(main, "mmap", other, address=1 << 30, size=64 * MIB, flags=34)
        make.map(main, "mmap", other, address=4096, size=5 * KIB, prot=1, flags=2)
        make.map(main, "munmap", other, address=96 * MIB, size=12 * KIB)
        heaped: dict[str, int | str] = {"source": "heap"}
        make.map(
            main,
            "brk",
            heap,
            address=66 * MIB,
            size=2 * MIB,
            old_address=64 * MIB,
            **heaped,
        )
        make.map(main, "madvise", heap, address=64 * MIB, size=4096, flags=4, **heaped)
    return path


def test_text(neap: Run, mapped: Path) -> None:
    answer = neap("maps", mapped)
    assert answer.stdout == TEXT.format(path=mapped)
    assert answer.stderr == ""
    assert answer.returncode == 0


def test_json(neap: Run, mapped: Path) -> None:
    found = json.loads(neap("maps", mapped, "--json").stdout)
    check(found, MAPS)
    assert found["source"] is None
    assert found["total"]["anonymous"] == {
        "grown": 6 * MIB,
        "returned": MIB,
        "kept": 5 * MIB,
    }
    assert found["total"]["reserved"]["kept"] == 64 * MIB
    assert found["total"]["file"]["grown"] == 8 * KIB
    assert [row["net"] for row in found["rows"]] == [4 * MIB, 2 * MIB, -MIB]
    assert found["rows"][2]["unseen"] == 12 * KIB
    assert found["rows"][0]["frames"][0]["function"] == "grow"


def test_source_and_limit(neap: Run, mapped: Path) -> None:
    found = json.loads(neap("maps", mapped, "--json", "--source", "heap").stdout)
    assert found["source"] == "heap"
    assert len(found["rows"]) == 1
    assert found["total"]["anonymous"]["grown"] == 2 * MIB
    out = neap("maps", mapped, "--source", "heap").stdout
    assert "Grown (heap alone): 2.0 MiB by 1 stack, 1 process;" in out
    out = neap("maps", mapped, "--limit", 1).stdout
    assert "  … 2 more stacks: --limit 0 shows all\n" in out
    assert "heap at" not in out


def test_nothing(neap: Run, tmp_path: Path) -> None:
    with Maker(tmp_path / "none.neap") as make:
        make.process(100)
    answer = neap("maps", tmp_path / "none.neap")
    assert "No change of the address space was seen, 1 process\n" in answer.stdout
    assert (
        json.loads(neap("maps", tmp_path / "none.neap", "--json").stdout)["rows"] == []
    )


def test_a_sampled_recording_is_exact_about_maps(neap: Run, tmp_path: Path) -> None:
    with Maker(tmp_path / "some.neap", mode="sampled", interval=4096) as make:
        make.map(make.process(100), "mmap", None, address=4096, size=4096, **MEMORY)
    out = neap("maps", tmp_path / "some.neap").stdout
    assert "exact: every event counted, nothing lost\n" in out
    assert "4.0 KiB         0 B  4.0 KiB      1  no stack\n" in out


def test_wrong_use(fails: Callable[..., str], mapped: Path) -> None:
    assert "no process 7" in fails("maps", mapped, "--pid", 7)
    assert "--source" in fails("maps", mapped, "--source", "kernel")


def test_api(mapped: Path) -> None:
    with neaptide.open(mapped) as rec:
        report = rec.maps()
        events = rec.map_events()
        with pytest.raises(neaptide.UsageError, match="unknown source 'x'"):
            rec.maps(source="x")
    assert len(events) == 7
    assert (len(report), report.stacks, report.processes, report.images) == (3, 3, 1, 1)
    assert report.total.anonymous == (6 * MIB, MIB, 5 * MIB)
    assert report.total.frames == ()
    assert report.total.stack_id is None
    assert [row.anonymous.kept for row in report] == [3 * MIB, 2 * MIB, 0]
    assert report[1].advised == 4096
    assert report[0].frames[1].function == "main"
    assert report[0].stack_id == 1
    assert repr(report) == f"<MapReport {6 * MIB} bytes grown, 3 of 3 stacks>"
    assert repr(report[0]) == f"<MapRow {4 * MIB} bytes grown, 0 returned, by grow>"
    assert text.size(report.total.net) == "5.0 MiB"
