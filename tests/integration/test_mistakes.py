# SPDX-License-Identifier: Apache-2.0
"""Mistakes with memory that Neaptide's own allocator finds: told, and refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness import NEAP, Record, Run, check_sites, execute, neap_json, target

OWN = ("--allocator", "neap")
MODES = {"exact": (), "sampled": ("--interval", "1"), "dormant": ("--dormant",)}
# mode of the target -> the levels of checking at which it is found
FOUND = {
    "double": (0, 1, 2, 3),
    "twice": (0, 3),
    "invalid": (0, 1),
    "interior": (0, 1),
    "mismatch": (0, 1),
    "resize": (0, 1),
    "overflow": (1, 2, 3),
    "reused": (2,),
    "held": (3,),
    "last": (3,),
}
MISSED = [("overflow", 0), ("reused", 1), ("held", 2), ("last", 2), ("none", 3)]


def checked(level: int) -> tuple[str, ...]:
    return (*OWN, "--heap-check", str(level))


def innermost(frames: Sequence[dict[str, str]] | None) -> str:
    """The function of a stack of neap errors; -: it is not known."""
    return frames[0]["function"] if frames else "-"


def check_mistakes(run: Run, level: int, recorded: bool) -> None:
    """Each that the target speaks of, and no other: what, where, and by whom."""
    found = neap_json("errors", run.path)
    said = run.words("mistake")
    assert found["total"] == len(said) > 0
    for row, words in zip(found["rows"], said, strict=True):
        kind, address, block, size, by, freed, allocated = words
        assert (row["kind"], row["address"]) == (kind, int(address))
        assert (row["block"] or 0) == int(block)
        if level > 0 or row["block"] is None:
            assert (row["size"] or 0) == int(size)
        else:
            assert row["size"] >= int(size), "as served"
        if by != "-":
            assert innermost(row["frames"]) == by
        # Without a check level nobody but the recording knows of live blocks.
        known = level > 0 or (recorded and freed == "-")
        assert innermost(row["alloc_frames"]) == (allocated if known else "-")
        assert innermost(row["free_frames"]) == (freed if level > 0 else "-")
        assert row["pid"] == run.rec.main_pid


@pytest.mark.parametrize("how", MODES)
@pytest.mark.parametrize(
    ("mode", "level"),
    [(mode, level) for mode, levels in FOUND.items() for level in levels],
)
def test_found(record: Record, mode: str, level: int, how: str) -> None:
    """Told with the stacks, refused, and the program goes on: whatever is recorded."""
    run = record(target("mistakes", mode), options=[*checked(level), *MODES[how]])
    rec = run.expect(0).rec
    assert run.stdout.endswith("went on\n")
    check_mistakes(run, level, how != "dormant")
    assert rec.loss() == {}
    lines = run.stderr.splitlines()
    assert len(lines) == len(run.words("mistake"))
    assert all(line.startswith("neaptide: ") for line in lines)
    # What was refused has changed no block of the books.
    if how == "exact":
        check_sites(run, rec)
        assert rec.process()["foreign_free_count"] <= len(run.words("mistake"))
    elif how == "sampled":
        found = rec.site("make_block")
        _, made, _, freed, _ = run.words("site")[0]
        assert (found["alloc_count"], found["free_count"]) == (int(made), int(freed))
        assert rec.process()["foreign_free_count"] == 0
    if mode in ("mismatch", "resize"):
        assert rec.process()["foreign_free_count"] == 0


@pytest.mark.parametrize(("mode", "level"), MISSED)
def test_not_found(record: Record, mode: str, level: int) -> None:
    """Levels find what is said of them; where nothing is wrong none says anything."""
    bare = execute(target("mistakes", "none")).expect(0)
    run = record(target("mistakes", mode), options=checked(level)).expect(0)
    assert run.rec.one("SELECT count(*) FROM memory_error") == 0
    assert run.stderr == ""
    if mode == "none":
        assert run.stdout == bare.stdout
    check_sites(run, run.rec.expect_whole())


def test_in_a_child(record: Record) -> None:
    """A process that was started by another is checked as hard."""
    command = " ".join(target("mistakes", "overflow"))
    run = record(["/bin/sh", "-c", f"true; {command}; true"], options=checked(1))
    rec = run.expect(0).rec.expect_whole()
    (row,) = rec.rows("SELECT * FROM memory_error")
    assert row["pid"] != rec.main_pid
    assert rec.functions(row["alloc_stack_id"])[0] == "make_block"


@pytest.mark.parametrize(("mode", "level"), [("double", 0), ("overflow", 1)])
@pytest.mark.parametrize("by", ["option", "environment"])
def test_abort(record: Record, tmp_path: Path, mode: str, level: int, by: str) -> None:
    """The program ends at its first mistake; what it recorded is whole."""
    options = [*checked(level), *(["--heap-error", "abort"] if by == "option" else [])]
    env = {"NEAP_HEAP_ERROR": "abort"} if by == "environment" else {}
    run = record(target("mistakes", mode), options=options, env=env).expect(134)
    assert run.stdout == ""
    rec = run.rec.expect_whole()
    assert rec.site("make_block")["alloc_count"] == 1
    found = neap_json("errors", run.path)
    assert found["total"] == 1
    assert found["recording"]["exit"] == {"kind": "signaled", "code": 6}
    words = [NEAP, "run", *options, "-o", tmp_path / "x.neap", "--"]
    execute([*words, *target("mistakes", mode)], env=env).expect(134)


def test_text(record: Record) -> None:
    run = record(target("mistakes", "double"), options=checked(1)).expect(0)
    text = execute([NEAP, "errors", run.path]).expect(0).stdout
    assert "Memory errors: 1" in text
    assert "double-free: a block was freed twice" in text
    at = [text.index(f"  {words}:") for words in ("freed again", "freed before")]
    at.append(text.index("  allocated:"))
    assert at == sorted(at)
    for start, function in zip(
        at, ("free_again", "free_once", "make_block"), strict=True
    ):
        assert function in text[start:].splitlines()[1]
    run = record(target("mistakes", "overflow"), options=checked(1)).expect(0)
    text = execute([NEAP, "errors", run.path]).expect(0).stdout
    assert "overflow: a block's end was written beyond" in text
    assert "+4,321 bytes from the start of the block of 4.2 KiB" in text
    assert "freed before" not in text
    run = record(target("mistakes", "none"), options=checked(1)).expect(0)
    text = execute([NEAP, "errors", run.path]).expect(0).stdout
    assert "No memory error was found" in text


def test_the_tally_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.neap"
    words = [NEAP, "run", *OWN, "-o", path, "--", *target("mistakes", "twice")]
    assert f"neap: 2 memory errors, see: neap errors {path}" in execute(words).stderr
    assert json.loads(execute([NEAP, "errors", path, "--json"]).stdout)["total"] == 2


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    words = [NEAP, "run", "--heap-check", "2", "-o", tmp_path / "x.neap", "--", "true"]
    result = execute(words).expect(2)
    assert "add --allocator neap" in result.stderr
