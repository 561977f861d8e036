-- SPDX-License-Identifier: Apache-2.0
-- The views people read: names and columns are promises (docs/reference/sql.md).
-- Dropped and made anew whenever a recording is created or migrated.

CREATE VIEW recording AS
SELECT version, command, start_utc AS start, duration_ns, host, kernel, machine, mode,
       interval, policy, finished, max_size,
       (SELECT pid FROM raw_process WHERE id = main_process) AS pid,
       (SELECT iif(allocator = 'neap', 'neap', 'app') FROM raw_process
        WHERE id = main_process) AS allocator
FROM raw_recording;

CREATE VIEW switch AS
SELECT ts_ns, mode FROM raw_switch;

CREATE VIEW process AS
SELECT pid, ppid, exe, command, start_ns, end_ns, exit_kind, exit_code, allocator,
       interval, unwinder, live_bytes, live_count, peak_bytes, peak_count, peak_ns,
       foreign_free_count, truncated_stacks, verified, verify_differences, waits,
       fallbacks, event_count, event_first, event_first_ns, peak_event,
       live_variance, peak_variance
FROM raw_process;

CREATE VIEW thread AS
SELECT p.pid, t.tid, t.name, t.start_ns, t.end_ns
FROM raw_thread t JOIN raw_process p ON p.id = t.process;

CREATE VIEW module AS
SELECT id, path, build_id FROM raw_module;

CREATE VIEW frame AS
SELECT s.id AS stack_id, j.key AS depth, f.function, f.file, f.line,
       m.path AS module, f.offset, f.kind, f.inlined
FROM raw_stack s, json_each(s.frames) j
JOIN raw_frame f ON f.id = j.value
LEFT JOIN raw_module m ON m.id = f.module;

CREATE VIEW site AS
SELECT p.pid, s.stack AS stack_id, s.alloc_count, s.alloc_bytes, s.free_count,
       s.free_bytes, s.live_count, s.live_bytes, s.peak_bytes, s.temporary_count,
       s.peak_count, s.temporary_bytes, s.alloc_variance, s.live_variance,
       s.peak_variance, s.temporary_variance
FROM raw_site s JOIN raw_process p ON p.id = s.process;

CREATE VIEW live AS
SELECT p.pid, l.address, l.size, l.weight, l.stack AS stack_id, l.tid, l.ts_ns,
       l.interval
FROM raw_live l JOIN raw_process p ON p.id = l.process;

CREATE VIEW map_event AS
SELECT m.ts_ns, p.pid, m.tid, m.op, m.address, m.size, m.old_address, m.old_size,
       m.prot, m.flags, m.source, m.stack AS stack_id
FROM raw_map m JOIN raw_process p ON p.id = m.process;

CREATE VIEW memory_error AS
SELECT e.ts_ns, p.pid, e.tid, e.kind, e.address, e.block, e.size,
       e.alloc_stack AS alloc_stack_id, e.free_stack AS free_stack_id,
       e.stack AS stack_id
FROM raw_memory_error e JOIN raw_process p ON p.id = e.process;

CREATE VIEW loss AS
SELECT l.ts_ns, p.pid, l.what, l.count, l.bytes
FROM raw_loss l LEFT JOIN raw_process p ON p.id = l.process;

-- The table neap_events is virtual: neap has it built in, others load libneapsql.so.
CREATE VIEW event AS
SELECT ts_ns, pid, tid, op, address, size, stack_id, weight, owner_tid, temporary, number
FROM neap_events;
