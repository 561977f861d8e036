# SPDX-License-Identifier: Apache-2.0
"""Programs and threads laid out in memory in other ways than the usual one."""

from __future__ import annotations

from harness import Record, check_sites, target

VERIFIED = "SELECT verified, verify_differences, truncated_stacks FROM process"


def test_segments_apart(record: Record) -> None:
    """Stacks reach main, the same as libunwind's, and the build-id is known."""
    run = record(target("gaps"), env={"NEAP_VERIFY": "1"}).expect(0)
    rec = run.rec.expect_whole()
    check_sites(run, rec)
    [row] = rec.rows(VERIFIED)
    assert row["verified"] > 0
    assert (row["verify_differences"], row["truncated_stacks"]) == (0, 0)
    [module] = rec.rows("SELECT build_id FROM module WHERE path LIKE '%/gaps'")
    assert module["build_id"]


def test_stack_of_a_thread_that_outlives_main(record: Record) -> None:
    """The main thread is gone: its pid no longer stands for the process's memory."""
    rec = record(target("ends", "main_leaves"), env={"NEAP_VERIFY": "1"}).expect(0).rec
    [row] = rec.rows(VERIFIED)
    assert row["verified"] > 0
    assert (row["verify_differences"], row["truncated_stacks"]) == (0, 0)
