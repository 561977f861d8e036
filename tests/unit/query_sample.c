/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sample of query_sample.h, written through schema/store. Any failure here is a
 * failure of the test.
 */
#include "tests/unit/query_sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/recordings.h"
#include "tests/unit/scratch.h"

static const char *const rows =
    "INSERT INTO raw_recording (id, version, command, start_utc, duration_ns, host,"
    " kernel, machine, mode, interval, policy, boot_id, collector_pid, collector_start,"
    " main_process, finished) VALUES (1, '0.1.0', '[\"./app\", \"x\"]',"
    " '2025-01-02T03:04:05Z', 3200, 'host', '6.1', 'x86_64', 'exact', 0, 'block',"
    " 'none', 1, 1, 1, 1);"
    "INSERT INTO raw_process (id, pid, ppid, exe, command, start_ns, exit_kind,"
    " exit_code, allocator, interval, unwinder) VALUES"
    " (1, 100, 1, '/bin/app', '[]', 10, 'exited', 3, 'glibc', 0, 'cfi'),"
    " (2, 101, 100, '/bin/app', '[]', 20, 'exec', NULL, 'glibc', 0, 'cfi'),"
    " (3, 101, 100, '/bin/other', '[]', 30, 'signaled', 9, 'glibc', 0, 'cfi');"
    "INSERT INTO raw_module VALUES (1, '/bin/app', ''), (2, '/lib/libx.so', '');"
    "INSERT INTO raw_frame VALUES"
    " (1, 'leaf', 'app.c', 1, 1, 4096, 'native', 0),"
    " (2, 'middle', 'app.c', 2, 1, 4112, 'native', 1),"
    " (3, 'main', 'app.c', 3, 1, 4128, 'native', 0),"
    " (4, 'other', NULL, NULL, 1, 4144, 'native', 0),"
    " (5, NULL, NULL, NULL, 2, 4660, 'native', 0);"
    "INSERT INTO raw_stack VALUES (1, '[1,2,3]', 0), (2, ' [ 4 , 3 ] ', 0),"
    " (3, '[5]', 1);"
    "INSERT INTO raw_site (process, stack, alloc_count, alloc_bytes, free_count,"
    " free_bytes, live_count, live_bytes, peak_count, peak_bytes, temporary_count,"
    " temporary_bytes) VALUES"
    " (1, 1, 60, 6000, 57, 5700, 3, 300, 6, 600, 4, 40),"
    " (3, 1, 40, 4000, 39, 3900, 1, 100, 4, 400, 0, 0),"
    " (1, 2, 20, 1000, 19, 993, 1, 7, 2, 100, 0, 0),"
    " (2, 2, 10, 500, 10, 500, 0, 0, 1, 50, 0, 0),"
    " (1, 3, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0),"
    " (1, 9, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0);"
    "INSERT INTO raw_loss VALUES (0, 'process', 5, 1, 0), (1, 'events', 5, 3, 2048),"
    " (1, 'stacks', 5, 7, 0);";

const char *query_sample_path(void)
{
    return scratch_path("sample.neap");
}

struct neap_recording *query_sample_open(const char *change)
{
    struct neap_recording *recording = NULL;
    sqlite3 *db = NULL;

    assert_ok(neap_store_create(query_sample_path(), true, &db));
    assert_ok(neap_store_exec(db, rows));
    if (change)
        assert_ok(neap_store_exec(db, change));
    neap_store_close(db);
    assert_ok(neap_recording_open(query_sample_path(), &recording));
    return recording;
}
