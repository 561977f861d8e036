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
