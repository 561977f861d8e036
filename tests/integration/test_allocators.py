# SPDX-License-Identifier: Apache-2.0
"""Other allocators below ours, and other languages above."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import TARGETS, Record, check_sites, execute, target

LIBRARIES = {
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
    "mimalloc": "libmimalloc.so.2",
}
MODES = [
    ("peak", "phases"),
    ("peak", "threads"),
    ("handoff", "race"),
    ("entry_points_cxx", "forms"),
    ("lifetimes",),
    ("processes", "spawn"),
]
Compile = Callable[..., Path]

RUST = """
#[inline(never)]
fn leaky(size: usize) -> &'static mut [u8] {
    Box::leak(std::hint::black_box(vec![1u8; size]).into_boxed_slice())
}
fn main() {
    let mut sum = 0u64;
    for i in 0..10 {
        sum += leaky(40001 + i).len() as u64;
    }
    let mut grown: Vec<u64> = Vec::new();
    for i in 0..5000u64 {
        grown.push(i);
    }
    println!("{} {}", sum, grown.iter().sum::<u64>());
}
"""

GO = """package main

import "fmt"

func main() { fmt.Println("hello", len(make([]byte, 1000))) }
"""

CGO = """package main

// #include <stdlib.h>
import "C"
import "fmt"

func main() {
	for i := 0; i < 25; i++ {
		C.malloc(C.size_t(60013))
	}
	fmt.Println("done")
}
"""


def library(name: str) -> str:
    for directory in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"):
        path = Path(directory) / LIBRARIES[name]
        if path.exists():
            return str(path)
    pytest.skip(f"no {LIBRARIES[name]} here")


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
@pytest.mark.parametrize("name", LIBRARIES)
def test_preloaded(record: Record, name: str, mode: tuple[str, ...]) -> None:
    """LD_PRELOAD=… neap run …: the numbers are the program's, not the allocator's."""
    env = {"LD_PRELOAD": library(name)}
    run = record(target(*mode), env=env).expect(0)
    rec = run.rec.expect_whole()
    if run.words("site"):
        check_sites(run, rec)
    assert name in rec.process()["allocator"]


@pytest.mark.parametrize("name", ["jemalloc", "tcmalloc_minimal"])
def test_linked(record: Record, compile_c: Compile, name: str) -> None:
    library("jemalloc" if name == "jemalloc" else "tcmalloc")
    flags = ["-Wl,--no-as-needed", f"-l{name}"]
    try:
        program = compile_c(TARGETS.parents[1] / "tests/targets/peak.c", *flags)
    except AssertionError:
        pytest.skip(f"no development files of {name} here")
    run = record([program, "threads"]).expect(0)
    check_sites(run, run.rec.expect_whole())
    assert name.split("_")[0] in run.rec.process()["allocator"]


def test_linked_statically(record: Record, compile_c: Compile) -> None:
    """An allocator inside the program itself: it runs, and says why little is seen."""
    flags = ["-l:libjemalloc.a", "-lstdc++", "-lm", "-ldl"]
    try:
        program = compile_c(TARGETS.parents[1] / "tests/targets/peak.c", *flags)
    except AssertionError:
        pytest.skip("no libjemalloc.a here")
    run = record([program, "phases"]).expect(0)
    assert "phase_a" in run.stdout


def test_rust(record: Record, tmp_path: Path) -> None:
    if shutil.which("rustc") is None:
        pytest.skip("no rustc here")
    (tmp_path / "program.rs").write_text(RUST)
    words = ["rustc", "-O", "-g", "-o", tmp_path / "program", tmp_path / "program.rs"]
    execute(words, cwd=tmp_path).expect(0)
    bare = execute([tmp_path / "program"]).expect(0)
    run = record([tmp_path / "program"]).expect(0)
    assert run.stdout == bare.stdout
    rec = run.rec.expect_whole()
    rows = rec.rows(
        "SELECT size, stack_id FROM live WHERE size BETWEEN 40001 AND 40010 "
        "ORDER BY size"
    )
    assert [row["size"] for row in rows] == list(range(40001, 40011))
    functions = [name or "" for name in rec.functions(rows[0]["stack_id"])]
    assert any("leaky" in name for name in functions), functions
    assert any(name.endswith("main") or "main::" in name for name in functions)


def build_go(where: Path, source: str, cgo: str) -> Path:
    if shutil.which("go") is None:
        pytest.skip("no go here")
    (where / "main.go").write_text(source)
    env = {"CGO_ENABLED": cgo, "GOCACHE": str(where / "cache"), "GO111MODULE": "off"}
    env |= {"GOFLAGS": "", "GOPATH": str(where / "gopath"), "HOME": str(where)}
    out = where / "program"
    execute(["go", "build", "-o", out, "main.go"], cwd=where, env=env).expect(0)
    return out


def test_go_static(record: Record, tmp_path: Path) -> None:
    """Nothing of it can be seen: that is said, and it is not started."""
    program = build_go(tmp_path, GO, "0")
    run = record([program], settle=False).expect(125)
    assert run.stdout == ""
    assert "static" in run.stderr
    assert "Go" in run.stderr
    assert len(run.stderr.splitlines()) <= 2
    assert not run.path.exists()


def test_go_with_c(record: Record, tmp_path: Path) -> None:
    """Its C code is seen; that Go's own heap is not malloc is said."""
    program = build_go(tmp_path, CGO, "1")
    run = record([program]).expect(0)
    assert run.stdout == "done\n"
    rec = run.rec.expect_whole()
    assert rec.one("SELECT count(*) FROM live WHERE size = 60013") == 25
