/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that fills up on demand: SQLite's default file system with writes that fail.
 * Links: tests/unit/fail_vfs.c
 */
#ifndef NEAP_TESTS_UNIT_FAIL_VFS_H
#define NEAP_TESTS_UNIT_FAIL_VFS_H

#include <stdbool.h>
#include <stdint.h>

/* Make it the default for files opened from now on. */
void fail_vfs_install(void);

/*
 * The n-th write, truncation or sync from now on fails with `status`, and with
 * `forever` all later ones. 0: none does.
 */
void fail_vfs_at(uint64_t n, int status, bool forever);

/* Has one failed since? */
bool fail_vfs_happened(void);

#endif
