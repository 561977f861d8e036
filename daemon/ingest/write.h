/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements that fill a recording, prepared once, and the transaction.
 *
 * Knows rows and no books. After an error the transaction is gone: everything since
 * neap_write_begin has not happened.
 */
#ifndef NEAP_DAEMON_INGEST_WRITE_H
#define NEAP_DAEMON_INGEST_WRITE_H

#include <sqlite3.h>
#include <stdint.h>

#include "schema/base/error.h"

#define NEAP_SQL_NULL INT64_MIN /* no number of ours is that low */

/* name, SQL */
#define NEAP_STATEMENTS(X)                                                             \
    X(RECORDING,                                                                       \
      "INSERT INTO raw_recording (id, version, command, start_utc, duration_ns, host," \
      " kernel, machine, mode, interval, policy, max_size, socket, boot_id,"           \
      " collector_pid, collector_start) VALUES (1, ?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8," \
      " ?9, ?10, ?11, ?12, ?13, ?14)")                                                 \
    X(SWITCH, "INSERT INTO raw_switch (ts_ns, mode) VALUES (?1, ?2)")                  \
    X(DURATION, "UPDATE raw_recording SET duration_ns = max(duration_ns, ?1)")         \
    X(MAIN_PROCESS, "UPDATE raw_recording SET main_process = ?1")                      \
    X(FINISHED, "UPDATE raw_recording SET finished = 1")                               \
    X(MODULE, "INSERT INTO raw_module (id, path, build_id) VALUES (?1, ?2, ?3)")       \
    X(FRAME, "INSERT INTO raw_frame (id, function, file, line, module, offset, kind,"  \
             " inlined) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'native', ?7)")                \
    X(FRAME_NAME,                                                                      \
      "UPDATE raw_frame SET function = ?2, file = ?3, line = ?4 WHERE id = ?1")        \
    X(STACK, "INSERT INTO raw_stack (id, frames, truncated) VALUES (?1, ?2, ?3)"       \
             " ON CONFLICT (id) DO UPDATE SET frames = excluded.frames")               \
    X(PROCESS,                                                                         \
      "INSERT INTO raw_process (id, pid, ppid, exe, command, start_ns, allocator,"     \
      " interval, unwinder) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8)")               \
    X(PROCESS_EVENTS,                                                                  \
      "UPDATE raw_process SET interval = ?2, event_count = ?3,"                        \
      " event_first = max(event_first, ?4), event_first_ns = max(event_first_ns, ?5)," \
      " peak_event = ?6, peak_event_other = ?7, live_variance = ?8,"                   \
      " peak_variance = ?9, fallbacks = ?10 WHERE id = ?1")                            \
    X(EVENTS_GONE, "UPDATE raw_process SET event_first = max(event_first, ?2),"        \
                   " event_first_ns = max(event_first_ns, ?3) WHERE id = ?1")          \
    X(EVENTS, "INSERT OR REPLACE INTO raw_events (id, process, first, count, t0, t1,"  \
              " live_bytes, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")            \
    X(EVENTS_DELETE, "DELETE FROM raw_events WHERE id = ?1")                           \
    X(EVENT_SITE, "INSERT OR REPLACE INTO raw_event_site (process, site, stack)"       \
                  " VALUES (?1, ?2, ?3)")                                              \
    X(PROCESS_STATE,                                                                   \
      "UPDATE raw_process SET end_ns = ?2, exit_kind = ?3, exit_code = ?4,"            \
      " live_bytes = ?5, live_count = ?6, peak_bytes = ?7, peak_count = ?8,"           \
      " peak_ns = ?9, foreign_free_count = ?10, truncated_stacks = ?11,"               \
      " verified = ?12, verify_differences = ?13, waits = ?14 WHERE id = ?1")          \
    X(THREAD, "INSERT INTO raw_thread (id, process, tid, name, start_ns, end_ns)"      \
              " VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE"            \
              " SET name = excluded.name, end_ns = excluded.end_ns")                   \
    X(SITE,                                                                            \
      "INSERT OR REPLACE INTO raw_site (process, stack, alloc_count, alloc_bytes,"     \
      " free_count, free_bytes, live_count, live_bytes, peak_count, peak_bytes,"       \
      " temporary_count, temporary_bytes, alloc_variance, live_variance,"              \
      " peak_variance, temporary_variance)"                                            \
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,"     \
      " ?16)")                                                                         \
    X(SITE_DELETE, "DELETE FROM raw_site WHERE process = ?1 AND stack = ?2")           \
    X(LIVE, "INSERT INTO raw_live (process, address, size, weight, interval, stack,"   \
            " tid, ts_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                    \
    X(MAP, "INSERT INTO raw_map (ts_ns, process, tid, op, address, size, old_address," \
           " old_size, prot, flags, source, stack)"                                    \
           " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")              \
    X(MEMORY_ERROR,                                                                    \
      "INSERT INTO raw_memory_error (ts_ns, process, tid, kind, address, block, size," \
      " alloc_stack, free_stack, stack)"                                               \
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")                             \
    X(LOSS, "INSERT OR REPLACE INTO raw_loss (process, what, ts_ns, count, bytes)"     \
            " VALUES (?1, ?2, ?3, ?4, ?5)")

enum neap_statement {
#define NEAP_STATEMENT_ENUM(name, sql) NEAP_STATEMENT_##name,
    NEAP_STATEMENTS(NEAP_STATEMENT_ENUM)
#undef NEAP_STATEMENT_ENUM
    NEAP_STATEMENT_COUNT
};

struct neap_write {
    sqlite3 *db; /* not ours */
    sqlite3_stmt *statements[NEAP_STATEMENT_COUNT];
};

struct neap_error *neap_write_init(struct neap_write *write,
                                   sqlite3 *db) NEAP_MUST_CHECK;
void neap_write_deinit(struct neap_write *write);

struct neap_error *neap_write_begin(struct neap_write *write) NEAP_MUST_CHECK;
struct neap_error *neap_write_commit(struct neap_write *write) NEAP_MUST_CHECK;
/* Also after an error that has ended the transaction already. */
void neap_write_rollback(struct neap_write *write);

/*
 * Run a statement. `types` has one letter a parameter: i an int64_t (NEAP_SQL_NULL is
 * NULL), d a double, s a const char * (NULL is NULL), b a const void * and a size_t,
 * which must stay until this returns. Text that is no UTF-8 is stored with '?' in place
 * of what is wrong: readers refuse a table otherwise.
 */
struct neap_error *neap_write_row(struct neap_write *write,
                                  enum neap_statement statement, const char *types,
                                  ...) NEAP_MUST_CHECK;

#endif
