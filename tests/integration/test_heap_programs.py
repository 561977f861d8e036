# SPDX-License-Identifier: Apache-2.0
"""Programs of the world on our allocator alone: the same output, status and files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import (
    BUILD,
    Record,
    Result,
    clean_environment,
    execute,
    target,
    wait_until,
)
from test_real_programs import PROGRAMS, git_repository, python3

LIBNEAPHEAP = BUILD / "lib" / "libneapheap.so"
PRELOAD = {"LD_PRELOAD": str(LIBNEAPHEAP)}
MODULES = {
    "quick": "test_list test_dict test_json test_gc test_set test_bytes",
    "threads": "test_threading test_queue test_thread",
    "processes": "test_fork1 test_subprocess test_posix",
}


def run_both(
    argv: list[str],
    status: int = 0,
    *,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Result:
    """Plain, and on our allocator; what they say must be the same."""
    assert LIBNEAPHEAP.exists(), f"{LIBNEAPHEAP} is not built: make all"
    bare = execute(argv, stdin=stdin, env=env, cwd=cwd).expect(status)
    both = {**(env or {}), **PRELOAD}
    ours = execute(argv, stdin=stdin, env=both, cwd=cwd).expect(status)
    assert ours.raw_stdout == bare.raw_stdout
    assert ours.stderr == bare.stderr
    return bare


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} here")
    return found


def test_it_is_used() -> None:
    """What all of the others stand on: malloc is ours, and its memory is."""
    script = (
        "import ctypes; c = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p;"
        "c.malloc_usable_size.argtypes = [ctypes.c_void_p];"
        "print(c.malloc_usable_size(c.malloc(129)))"
    )
    done = execute([python3(), "-I", "-c", script], env=PRELOAD).expect(0)
    assert done.stdout == "144\n"


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(tmp_path: Path, name: str) -> None:
    program = PROGRAMS[name]
    need(program.argv[0])
    if program.prepare is not None:
        program.prepare(tmp_path)
    run_both(
        program.argv,
        program.status,
        stdin=program.stdin,
        env=program.env,
        cwd=tmp_path,
    )


# Threads, C++ with exceptions, fork, vfork and posix_spawn; whether they say the same
# each time.
TARGETS = [
    (("heap_conform",), True),
    (("entry_points_cxx", "forms"), True),
    (("control_flow", "throw"), False),
    (("peak", "threads"), False),
    (("handoff", "race"), False),
    (("lifetimes",), False),
    (("processes", "spawn"), False),
    (("processes", "vfork"), False),
    (("dlchurn",), False),
]


@pytest.mark.parametrize(
    ("mode", "same"), TARGETS, ids=[" ".join(mode) for mode, _ in TARGETS]
)
def test_target(mode: tuple[str, ...], same: bool) -> None:
    if same:
        run_both(target(*mode))
    else:
        execute(target(*mode), env=PRELOAD).expect(execute(target(*mode)).status)


# A library's handlers around fork are asked for before the program's own: ours have to
# be innermost all the same.
@pytest.mark.parametrize("mode", ["allocate", "join"])
def test_fork_handlers_that_use_the_heap(mode: str) -> None:
    done = run_both(target("atforkers", mode))
    assert int(done.stdout) > 0


@pytest.mark.parametrize(("mode", "calls"), [("allocate", 10), ("join", 5)])
def test_the_same_recorded(record: Record, mode: str, calls: int) -> None:
    run = record(target("atforkers", mode), options=["--allocator", "neap"])
    rec = run.expect(0).rec
    assert int(run.stdout) == calls
    assert {row["allocator"] for row in rec.processes()} == {"neap"}
    assert len(rec.processes()) == 6


def python_with_tests() -> str:
    """A Python that has its own tests: not all come with them."""
    homes = sorted(Path(os.path.expanduser("~/.pyenv/versions")).glob("3.1*/bin"))
    pythons = [home / "python3" for home in reversed(homes)]
    for python in [*pythons, Path("/usr/bin/python3")]:
        if python.exists():
            done = execute([python, "-c", "import test.test_list"])
            if done.status == 0:
                return str(python)
    pytest.skip("no Python here that has its tests")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "allocator"),
    [*((group, "malloc") for group in MODULES), ("quick", "default")],
)
def test_python_s_own_tests(tmp_path: Path, group: str, allocator: str) -> None:
    python = python_with_tests()
    argv = [python, "-m", "test", "-q", "--timeout", "100", *MODULES[group].split()]
    env = {**PRELOAD, "PYTHONMALLOC": allocator, "HOME": str(tmp_path)}
    done = execute(argv, env=env, cwd=tmp_path, timeout=200)
    if done.status != 0:
        # Some fail in a container anyway: then the same ones.
        bare = execute(argv, env={"HOME": str(tmp_path)}, cwd=tmp_path, timeout=200)
        assert bare.status == done.status, done.stdout[-3000:] + done.stderr[-3000:]


def large_source() -> str:
    functions = "\n".join(
        f"int f{i}(int a, int b) {{ int s = {i}; for (int k = a; k < b; k++) "
        f"s += k * {i % 13} ^ (s >> {i % 7}); return s ? s : f{max(i - 1, 0)}(b, a); }}"
        for i in range(1200)
    )
    return f"{functions}\nint main(void) {{ return f1199(1, 2) & 1; }}\n"


@pytest.mark.slow
def test_gcc_makes_the_same_object(tmp_path: Path) -> None:
    need("gcc")
    (tmp_path / "large.c").write_text(large_source())
    objects = []
    for env in ({}, PRELOAD):
        argv = ["gcc", "-O2", "-c", "large.c", "-o", "large.o"]
        execute(argv, env=env, cwd=tmp_path).expect(0)
        objects.append((tmp_path / "large.o").read_bytes())
    assert objects[0] == objects[1]


def test_git(tmp_path: Path) -> None:
    need("git")
    git_repository(tmp_path / "repo")
    git = ["git", "--no-pager", "-C", str(tmp_path / "repo")]
    run_both([*git, "log", "-p"])
    for words in (["repack", "-adfq", "--threads=4"], ["gc", "-q"]):
        execute([*git, *words], env=PRELOAD).expect(0)
    run_both([*git, "fsck", "--full"])
    run_both([*git, "log", "--stat"])


def test_archives(tmp_path: Path) -> None:
    """tar, and xz with threads: the same bytes."""
    need("xz")
    (tmp_path / "in").mkdir()
    for i in range(200):
        (tmp_path / "in" / f"file{i}").write_bytes(bytes([i]) * i * 50)
    words = ["--sort=name", "--mtime=@0", "-cf", "-", "in"]
    bare = run_both(["tar", *words], cwd=tmp_path)
    run_both(["xz", "-6", "-T4", "-c"], stdin=bare.raw_stdout * 4)
    run_both(["gzip", "-nc"], stdin=bare.raw_stdout)


def test_make_and_shell(tmp_path: Path) -> None:
    need("make")
    rules = "all: " + " ".join(f"t{i}" for i in range(100)) + "\n"
    rules += "t%:\n\t@echo $@ > $@\n"
    (tmp_path / "Makefile").write_text(rules)
    run_both(["make", "-s"], cwd=tmp_path)
    assert (tmp_path / "t99").read_text() == "t99\n"
    script = "f() { [ $1 = 0 ] || { x=$(f $(($1 - 1))); echo $x$1; }; }; f 40"
    run_both(["bash", "-c", script])


def test_openssl() -> None:
    need("openssl")
    run_both(["openssl", "dgst", "-sha256"], stdin=b"x" * 1000000)
    execute(["openssl", "genrsa", "2048"], env=PRELOAD).expect(0)


@pytest.mark.slow
def test_redis(tmp_path: Path) -> None:
    """A server and its benchmark, both on our allocator as far as they use malloc."""
    server, bench = need("redis-server"), need("redis-benchmark")
    address = str(tmp_path / "s")
    words = ["--port", "0", "--unixsocket", address, "--save", "", "--io-threads", "2"]
    process = subprocess.Popen(
        [server, *words, "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        env=clean_environment(PRELOAD),
        start_new_session=True,
    )
    try:
        wait_until(lambda: Path(address).exists(), "the server's socket")
        tests = "set,get,lpush,lpop,sadd,hset,zadd,mset"
        argv = [bench, "-s", address, "-q", "-n", "5000", "-r", "1000", "-t", tests]
        done = execute([*argv, "-d", "300"], env=PRELOAD).expect(0)
        assert done.stdout.count("requests per second") >= 8
        cli = shutil.which("redis-cli")
        if cli is not None:
            execute([cli, "-s", address, "shutdown", "nosave"])
            assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


LIMITED = r"""
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
int main(void)
{
    struct rlimit limit = {200 << 20, 200 << 20};
    static void *blocks[100000];
    int count = 0, round;

    setvbuf(stdout, NULL, _IONBF, 0);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
    setrlimit(RLIMIT_DATA, &limit);
    for (round = 0; round < 3; round++) {
        count = 0;
        errno = 0;
        while (count < 100000 && (blocks[count] = malloc(5000)))
            memset(blocks[count++], 1, 5000);
        printf("%d %d\n", count > 30000 && count < 45000, errno == ENOMEM);
        while (count)
            free(blocks[--count]);
        malloc_trim(0);
    }
    char *own = sbrk(10000);
    memset(own, 7, 10000);
    for (count = 0; count < 10000; count++)
        blocks[count] = malloc(count);
    char *more = sbrk(10000);
    memset(more, 8, 10000);
    while (count)
        free(blocks[--count]);
    malloc_trim(0);
    for (count = 0; count < 10000; count++)
        if (own[count] != 7 || more[count] != 8)
            return 1;
    printf("%d\n", mallinfo2().uordblks < (1 << 20));
    return 0;
}
"""


def test_limits_sbrk_and_settings(compile_c: Callable[..., Path]) -> None:
    run_both([str(compile_c(LIMITED))])
