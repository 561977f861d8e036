# SPDX-License-Identifier: Apache-2.0
"""Neaptide's own allocator below the hook: the same numbers, and what it adds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness import LIBNEAP, Record, Recording, check_sites, neap_json, target
from test_allocators import library
from test_exec import LEAVES
from test_modes import check_counts
from test_plugins import SITE
from test_processes import check_leaves

OWN = ("--allocator", "neap")
EVERY_BLOCK = ("--interval", "1")
PROGRAMS = [
    ("peak", "phases"),
    ("peak", "threads"),
    ("handoff", "queue"),
    ("handoff", "race"),
    ("entry_points",),
    ("entry_points_cxx", "forms"),
    ("lifetimes",),
    ("threads", "short", "300"),
    ("threads", "crowd", "300"),
    ("control_flow", "throw"),
    ("control_flow", "signals"),
    ("dlreuse",),
    ("processes", "spawn"),
    ("forkheap", "20"),
]
MIB = 1 << 20


def serves(rec: Recording) -> None:
    """It serves every process, and nothing was lost or freed unseen."""
    assert rec.loss() == {}
    assert {row["allocator"] for row in rec.processes()} == {"neap"}
    assert rec.one("SELECT allocator FROM recording") == "neap"


@pytest.mark.parametrize("words", PROGRAMS, ids="-".join)
def test_exact(record: Record, words: tuple[str, ...]) -> None:
    run = record(target(*words), options=OWN).expect(0)
    rec = run.rec.expect_whole()
    serves(rec)
    if run.words("site"):
        check_sites(run, rec)
    assert rec.one("SELECT count(*) FROM memory_error") == 0


# Blocks of no bytes count as well, and are sampled two times in three.
@pytest.mark.parametrize("words", PROGRAMS, ids="-".join)
def test_every_block_is_as_exact(record: Record, words: tuple[str, ...]) -> None:
    run = record(target(*words), options=[*OWN, *EVERY_BLOCK]).expect(0)
    serves(run.rec)
    if words != ("entry_points",):
        check_counts(run, run.rec)
    if words[0] not in ("processes", "forkheap"):
        assert run.rec.process()["foreign_free_count"] == 0


def test_samples_are_few_and_whole(record: Record) -> None:
    """Their frees are told by the heap: none is missing, none is told twice."""
    run = record(target("stress", "50"), options=[*OWN, "--interval", "512"]).expect(0)
    serves(run.rec)
    assert run.rec.process()["foreign_free_count"] == 0
    exact = record(target("stress", "50"), options=OWN).expect(0).rec
    live = exact.process()["live_count"]
    # What lived on by mistake, or died, would be thousands.
    assert abs(run.rec.process()["live_count"] - live) < live + 200


def test_stacks_are_the_programs(record: Record) -> None:
    run = record(target("stacks"), options=OWN).expect(0)
    rec = run.rec.expect_whole()
    for size, first, *_ in run.words("frames"):
        rows = rec.rows("SELECT stack_id FROM live WHERE size = ?", int(size))
        frame = rec.frames(rows[0]["stack_id"])[0]
        assert f"{frame['function']}:{frame['line']}" == first.replace("*", "")


def growth(rec: Recording, address: int, size: int) -> list[str]:
    """The innermost functions of the heap's changes that cover a block."""
    rows = rec.rows(
        "SELECT f.function FROM map_event m JOIN frame f ON f.stack_id = m.stack_id "
        "AND f.depth = 0 WHERE m.source = 'heap' AND m.op IN ('mmap', 'mremap', 'brk') "
        "AND m.size > 0 AND iif(m.op = 'brk', m.address - m.size, m.address) <= ?1 "
        "AND m.address + iif(m.op = 'brk', 0, m.size) >= ?1 + ?2",
        address,
        size,
    )
    return [row["function"] for row in rows]


@pytest.mark.parametrize(
    "options", [(), ("--interval", "1M")], ids=["exact", "sampled"]
)
def test_growth_has_the_programs_stack(
    record: Record, options: tuple[str, ...]
) -> None:
    """In a sampled recording too, where the call went straight to the heap."""
    run = record(target("heapgrowth"), options=[*OWN, *options]).expect(0)
    rec = run.rec
    serves(rec)
    blocks = run.words("block")
    assert len(blocks) == 7
    for address, size, function in blocks:
        assert growth(rec, int(address), int(size))[-1] == function
    # Each byte of the break that the kernel has given, and no more.
    ((start, now),) = run.words("break")
    found = neap_json("maps", run.path, "--source", "heap", "--limit", 0)
    moved = rec.one(
        "SELECT coalesce(sum(size - old_size), 0) FROM map_event WHERE op = 'brk'"
    )
    assert moved == int(now) - int(start)
    # 20 000 small blocks, six large ones, one of which grew and one of which went.
    by_function = {row["frames"][0]["function"]: row for row in found["rows"]}
    assert by_function["grow_large"]["anonymous"]["grown"] >= sum(range(40, 46)) * MIB
    assert by_function["grow_small"]["anonymous"]["grown"] >= 20000 * 1000 - 2 * MIB
    kept = found["total"]["anonymous"]["kept"]
    ((mapped,),) = run.words("mapped")
    assert kept == found["total"]["net"] == int(mapped), "what mallinfo2 says"
    assert kept >= (100 + 42 + 43 + 44 + 45) * MIB + 20000 * 1000
    assert found["total"]["unseen"] == 0


def test_nothing_of_it_shows_while_off(record: Record) -> None:
    run = record(target("heapgrowth"), options=[*OWN, "--dormant"]).expect(0)
    serves(run.rec)
    assert run.rec.one("SELECT count(*) FROM map_event") == 0


def test_the_programs_own_calls_stay_apart(record: Record) -> None:
    run = record(target("maps"), options=OWN).expect(0)
    rows = run.rec.rows("SELECT op FROM map_event WHERE source = 'hook' ORDER BY ts_ns")
    assert [row["op"] for row in rows] == [words[0] for words in run.words("map")]


@pytest.mark.parametrize("name", ["jemalloc", "tcmalloc", "mimalloc"])
def test_in_place_of_another(record: Record, name: str) -> None:
    """operator new of the one it replaces would hand out blocks of that."""
    env = {"LD_PRELOAD": library(name)}
    for options in ((), EVERY_BLOCK):
        run = record(
            target("entry_points_cxx", "forms"), options=[*OWN, *options], env=env
        ).expect(0)
        serves(run.rec)
        check_counts(run, run.rec)


def test_children_follow(record: Record) -> None:
    """Also those that get an environment of their own."""
    child = " ".join(target("peak", "phases"))
    script = f"{child}; env -i {child}; env -i /usr/bin/env"
    run = record(["/bin/sh", "-c", script], options=[*OWN, "--heap-error=abort"])
    rec = run.expect(0).rec
    serves(rec)
    assert len(rec.processes()) >= 4
    assert "NEAP_ALLOCATOR=neap" in run.stdout
    assert "NEAP_HEAP_ERROR=abort" in run.stdout
    assert "NEAP_HEAP_CHECK" not in run.stdout


@pytest.mark.parametrize("level", ["0", "3"])
@pytest.mark.parametrize("way", ["vfork", "spawn", "system", "fork_live", "forks"])
def test_each_way_to_a_child(record: Record, way: str, level: str) -> None:
    """A forked child's heap is a copy of one that other threads were using."""
    command = target("processes", way, *(["60"] if way == "forks" else []))
    run = record(command, options=[*OWN, "--heap-check", level]).expect(0)
    rec = run.rec.expect_whole()
    serves(rec)
    check_leaves(run, rec, 60 if way == "forks" else 1)
    check_sites(run, rec, rec.main_pid, at_least=0)
    assert rec.process()["foreign_free_count"] == 0
    assert rec.one("SELECT count(*) FROM memory_error") == 0


def test_every_way_to_exec(record: Record) -> None:
    run = record(target("execs"), options=OWN).expect(0)
    rec = run.rec.expect_whole()
    serves(rec)
    rows = rec.rows(LEAVES)
    assert len(rows) == int(run.words("children")[0][0])
    assert {tuple(row)[1:] for row in rows} == {(3, 1035)}


@pytest.mark.parametrize("level", ["0", "3"])
def test_cxx_plugin_of_a_c_program(record: Record, level: str) -> None:
    """Its operator new is found late, and its blocks are ours all the same."""
    run = record(target("plugin"), options=[*OWN, "--heap-check", level]).expect(0)
    rec = run.rec.expect_whole()
    serves(rec)
    [row] = rec.rows(SITE)
    assert list(row) == [int(word) for word in run.words("plugin")[0]] * 2
    assert rec.one("SELECT count(*) FROM memory_error") == 0


# It does not move, and takes the addresses of what others give by its own jumps to it.
FIXED = """
#include <stdio.h>
#include <stdlib.h>
static void *(*volatile get)(size_t) = malloc;
static void *(*volatile resize)(void *, size_t) = realloc;
static void (*volatile give)(void *) = free;
int main(void)
{
    for (size_t i = 0; i < 100; i++)
        give(resize(get(60013), 60014));
    return puts("done") < 0;
}
"""


@pytest.mark.parametrize("allocator", ["app", "neap"])
def test_a_program_at_a_fixed_address(
    record: Record, compile_c: Callable[..., Path], allocator: str
) -> None:
    """python3 is one: dlsym gives the program's jump to malloc, which is none of its
    own."""
    flags = ("-no-pie", "-fno-pie", "-Wl,-z,lazy")
    program = compile_c(FIXED, *flags)
    run = record([program], options=["--allocator", allocator]).expect(0)
    rec = run.rec.expect_whole()
    expected = "neap" if allocator == "neap" else "glibc"
    assert rec.process()["allocator"] == expected
    assert rec.site("main")["alloc_bytes"] >= 100 * (60013 + 60014)
    # Somebody else's malloc between the program and ours is not taken for ours.
    source = "#include <stddef.h>\nvoid *malloc(size_t size) { return NULL; }"
    before = compile_c(source, "-shared", "-fPIC", name="before.so")
    preload = f"LD_PRELOAD={before}:{LIBNEAP}"
    words = ["/usr/bin/env", preload, f"NEAP_ALLOCATOR={allocator}", program]
    rec = record(words, options=["--allocator", "app"]).rec
    assert rec.process()["allocator"] == "own"


def test_a_child_may_choose_another(record: Record) -> None:
    script = f"NEAP_ALLOCATOR=app {' '.join(target('peak', 'phases'))}"
    rec = record(["/bin/sh", "-c", script], options=OWN).expect(0).rec
    names = [row["allocator"] for row in rec.processes()]
    assert names[0] == "neap"
    assert names[-1] != "neap"


def test_a_program_keeps_its_own(
    record: Record, compile_c: Callable[..., Path]
) -> None:
    try:
        program = compile_c(
            Path(__file__).parents[1] / "targets/peak.c",
            *("-l:libjemalloc.a", "-lstdc++", "-lm", "-ldl"),
        )
    except AssertionError:
        pytest.skip("no libjemalloc.a here")
    run = record([program, "phases"], options=OWN).expect(0)
    assert run.rec.process()["allocator"] == "own"
