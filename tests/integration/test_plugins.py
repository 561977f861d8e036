# SPDX-License-Identifier: Apache-2.0
"""C++ in programs that are not: operator new found where the plug-in finds it."""

from __future__ import annotations

from harness import Record, target

SITE = """
    SELECT sum(alloc_count), sum(alloc_bytes), sum(free_count), sum(free_bytes)
    FROM site JOIN frame USING (stack_id) WHERE depth = 0 AND function = 'plugin_work'
"""


def test_cxx_plugin_of_a_c_program(record: Record) -> None:
    """Loaded with RTLD_LOCAL, its libstdc++ is in nobody else's search order."""
    run = record(target("plugin")).expect(0)
    [row] = run.rec.expect_whole().rows(SITE)
    expected = [int(word) for word in run.words("plugin")[0]]
    assert list(row) == expected * 2
