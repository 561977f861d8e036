# SPDX-License-Identifier: Apache-2.0
"""Programs that carry their own malloc: it comes first, and must not meet us in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Record, execute

SOURCE = """
#include <cstdio>
#include <string>
#include <vector>
int main()
{
    std::vector<std::string> words;
    for (int i = 0; i < 1000; i++)
        words.push_back(std::string(100, 'x'));
    std::printf("%zu\\n", words.size());
}
"""


def test_jemalloc_in_the_program(record: Record, tmp_path: Path) -> None:
    """Its first sbrk is made with its lock held, before anything of ours has run."""
    found = execute(["g++", "-print-file-name=libjemalloc.a"]).expect(0).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip("no libjemalloc.a: install libjemalloc-dev")
    (tmp_path / "own.cc").write_text(SOURCE)
    program = tmp_path / "own"
    execute(
        ["g++", tmp_path / "own.cc", found, "-pthread", "-ldl", "-o", program]
    ).expect(0)
    run = record([str(program)]).expect(0)
    assert run.stdout == "1000\n"
    [row] = run.rec.rows("SELECT allocator FROM process")
    assert row["allocator"] == "own"


# Every block comes from the arena, or the program ends.
ARENA = """
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
static char arena[1 << 24];
static size_t used;
extern "C" void *malloc(size_t size)
{
    size_t at = used;
    used += 16 + (size + 15) / 16 * 16;
    if (used > sizeof(arena))
        std::abort();
    std::memcpy(arena + at, &size, sizeof(size));
    return arena + at + 16;
}
extern "C" void free(void *block)
{
    if (block && (block < arena || block >= arena + sizeof(arena)))
        std::abort();
}
extern "C" void *calloc(size_t count, size_t size)
{
    return std::memset(malloc(count * size), 0, count * size);
}
extern "C" void *realloc(void *old, size_t size)
{
    void *block = malloc(size);
    return old ? std::memmove(block, old, size) : block;
}
extern "C" void *aligned_alloc(size_t, size_t size) { return malloc(size); }
int main()
{
    for (size_t i = 0; i < 100; i++) {
        int *numbers = new int[i + 1];
        std::string text(100 + i, 'x');
        free(::operator new(i));
        ::operator delete(malloc(i));
        free(reallocarray(malloc(i), i + 1, 2));
        asm volatile("" : : "r"(numbers), "r"(&text) : "memory");
        delete[] numbers;
    }
    std::puts("done");
}
"""


@pytest.mark.parametrize("fixed", ["-pie", "-no-pie"])
@pytest.mark.parametrize(
    "option", ["--interval=exact", "--interval=1", "--dormant", "--allocator=neap"]
)
def test_new_is_over_the_programs_malloc(
    record: Record, tmp_path: Path, option: str, fixed: str
) -> None:
    """operator new takes its memory from where the program has it, not from libc."""
    (tmp_path / "own.cc").write_text(ARENA)
    program = tmp_path / "own"
    pic = "-fPIE" if fixed == "-pie" else "-fno-pie"
    words = ["g++", "-w", pic, fixed, tmp_path / "own.cc", "-o", program]
    execute(words).expect(0)
    run = record([str(program)], options=[option]).expect(0)
    assert run.stdout == "done\n"
    assert run.rec.process()["allocator"] == "own"
