-- SPDX-License-Identifier: Apache-2.0
-- Records at rest, as of the first release. Frozen once released: changes are new
-- migrations. Tables are private; people read views.sql.
--
-- Times are ns of CLOCK_MONOTONIC since the recording's start, sizes are bytes.
-- Rows of raw_process stand for program images: a process that execs has two, with
-- one pid. Everything else refers to them by id.

CREATE TABLE raw_recording (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version TEXT NOT NULL,            -- of the neapd that wrote it
    command TEXT NOT NULL,            -- JSON array of the words of CMD
    start_utc TEXT NOT NULL,          -- ISO 8601, with microseconds and Z
    duration_ns INTEGER NOT NULL,     -- grows with each commit
    host TEXT NOT NULL,
    kernel TEXT NOT NULL,             -- uname release
    machine TEXT NOT NULL,
    mode TEXT NOT NULL CHECK (mode IN ('exact', 'sampled')),
    interval INTEGER NOT NULL,        -- mean bytes between samples at the start, 0 in exact mode
    policy TEXT NOT NULL,             -- block, drop, adapt
    socket TEXT NOT NULL DEFAULT '',  -- where the collector listens for `neap switch`
    max_size INTEGER NOT NULL DEFAULT 0, -- bytes of raw_events.data kept; the oldest go first
    boot_id TEXT NOT NULL,            -- with the next two: is the writer still there?
    collector_pid INTEGER NOT NULL,
    collector_start INTEGER NOT NULL, -- field 22 of /proc/PID/stat, clock ticks
    main_process INTEGER,             -- raw_process.id of CMD's first image
    finished INTEGER NOT NULL DEFAULT 0 -- 1: the end was written in good order
) STRICT;

-- When the recording was switched on and off; the first row is how it began.
CREATE TABLE raw_switch (
    id INTEGER PRIMARY KEY,
    ts_ns INTEGER NOT NULL,
    mode TEXT NOT NULL CHECK (mode IN ('off', 'exact', 'sampled'))
) STRICT;

CREATE TABLE raw_process (
    id INTEGER PRIMARY KEY,
    pid INTEGER NOT NULL,
    ppid INTEGER NOT NULL,
    exe TEXT NOT NULL,
    command TEXT NOT NULL,            -- JSON array
    start_ns INTEGER NOT NULL,
    end_ns INTEGER,
    exit_kind TEXT NOT NULL DEFAULT 'running'
        CHECK (exit_kind IN ('exited', 'signaled', 'exec', 'running', 'lost')),
    exit_code INTEGER,                -- status or signal; NULL where nobody could say
    allocator TEXT NOT NULL,          -- who served malloc: glibc, jemalloc ...; neap: libneap.so; own: the program itself, unseen
    interval INTEGER NOT NULL,        -- in force at its last sample; 0 in exact mode
    unwinder TEXT NOT NULL,           -- cfi, libunwind, none
    live_bytes INTEGER NOT NULL DEFAULT 0,
    live_count INTEGER NOT NULL DEFAULT 0,
    peak_bytes INTEGER NOT NULL DEFAULT 0,
    peak_count INTEGER NOT NULL DEFAULT 0,  -- blocks live at the peak
    peak_ns INTEGER NOT NULL DEFAULT 0,
    live_variance REAL NOT NULL DEFAULT 0,  -- of the estimates, in bytes squared
    peak_variance REAL NOT NULL DEFAULT 0,
    -- Events applied, stored or not. The first of them has number 0.
    event_count INTEGER NOT NULL DEFAULT 0,
    event_first INTEGER NOT NULL DEFAULT 0, -- the lowest number still in raw_events
    event_first_ns INTEGER NOT NULL DEFAULT 0, -- its time; what was before is gone
    peak_event INTEGER NOT NULL DEFAULT 0,  -- events applied when the peak was reached
    -- Sampled: each half of the samples dates the peak of the other (daemon/ingest/
    -- estimate.h): blocks of half 1 count at peak_event, those of half 0 at
    -- peak_event_other, those of both half at each.
    peak_event_other INTEGER NOT NULL DEFAULT 0,
    foreign_free_count INTEGER NOT NULL DEFAULT 0, -- frees of blocks never seen allocated
    truncated_stacks INTEGER NOT NULL DEFAULT 0,
    verified INTEGER NOT NULL DEFAULT 0,
    verify_differences INTEGER NOT NULL DEFAULT 0,
    fallbacks INTEGER NOT NULL DEFAULT 0, -- walks that needed more than plain rules
    waits INTEGER NOT NULL DEFAULT 0  -- times an event waited for the collector
) STRICT;

CREATE TABLE raw_thread (
    id INTEGER PRIMARY KEY,
    process INTEGER NOT NULL REFERENCES raw_process (id),
    tid INTEGER NOT NULL,
    name TEXT NOT NULL,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER
) STRICT;

CREATE TABLE raw_module (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    build_id TEXT NOT NULL            -- lower-case hex, '' where the file has none
) STRICT;

-- One row per (module, offset) and, where functions are inlined there, one more per
-- inlined function. Rows with inlined = 0 are the machine's frames: their module and
-- offset are all that is needed to name them again elsewhere.
CREATE TABLE raw_frame (
    id INTEGER PRIMARY KEY,
    function TEXT,                    -- NULL where no name is known
    file TEXT,
    line INTEGER,
    module INTEGER REFERENCES raw_module (id), -- NULL: no file is mapped there
    offset INTEGER NOT NULL,          -- in the module's own addresses; else the address
    kind TEXT NOT NULL CHECK (kind IN ('native', 'python')),
    inlined INTEGER NOT NULL
) STRICT;

CREATE TABLE raw_stack (
    id INTEGER PRIMARY KEY,
    frames TEXT NOT NULL,             -- JSON array of raw_frame.id, innermost first
    truncated INTEGER NOT NULL        -- 1: outer frames are missing
) STRICT;

CREATE TABLE raw_site (
    process INTEGER NOT NULL REFERENCES raw_process (id),
    stack INTEGER NOT NULL REFERENCES raw_stack (id),
    alloc_count INTEGER NOT NULL,
    alloc_bytes INTEGER NOT NULL,
    free_count INTEGER NOT NULL,
    free_bytes INTEGER NOT NULL,
    live_count INTEGER NOT NULL,
    live_bytes INTEGER NOT NULL,
    peak_count INTEGER NOT NULL,      -- this stack's share at its process's peak
    peak_bytes INTEGER NOT NULL,
    temporary_count INTEGER NOT NULL,
    temporary_bytes INTEGER NOT NULL,
    -- of the estimates in sampled mode, in bytes squared; 0 in exact mode
    alloc_variance REAL NOT NULL DEFAULT 0,
    live_variance REAL NOT NULL DEFAULT 0,
    peak_variance REAL NOT NULL DEFAULT 0,
    temporary_variance REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (process, stack)
) STRICT, WITHOUT ROWID;

CREATE TABLE raw_live (
    id INTEGER PRIMARY KEY,
    process INTEGER NOT NULL REFERENCES raw_process (id),
    address INTEGER NOT NULL,
    size INTEGER NOT NULL,
    weight INTEGER NOT NULL,          -- bytes it stands for; size in exact mode
    interval INTEGER NOT NULL DEFAULT 0, -- it was sampled with; 0 in exact mode
    stack INTEGER NOT NULL REFERENCES raw_stack (id),
    tid INTEGER NOT NULL,
    ts_ns INTEGER NOT NULL
) STRICT;

-- Events one by one, some ten thousand a row, in the order they were applied
-- (schema/store/chunk.h). The last row of a process grows with each commit.
CREATE TABLE raw_events (
    id INTEGER PRIMARY KEY,
    process INTEGER NOT NULL REFERENCES raw_process (id),
    first INTEGER NOT NULL,           -- number of its first event in the process
    count INTEGER NOT NULL,
    t0 INTEGER NOT NULL,              -- time of its first event
    t1 INTEGER NOT NULL,              -- and of its last
    live_bytes INTEGER NOT NULL,      -- of the process, before its first event
    data BLOB NOT NULL
) STRICT;

-- The stacks of the sites that events name.
CREATE TABLE raw_event_site (
    process INTEGER NOT NULL REFERENCES raw_process (id),
    site INTEGER NOT NULL,
    stack INTEGER NOT NULL REFERENCES raw_stack (id),
    PRIMARY KEY (process, site)
) STRICT, WITHOUT ROWID;

CREATE TABLE raw_map (
    id INTEGER PRIMARY KEY,
    ts_ns INTEGER NOT NULL,
    process INTEGER NOT NULL REFERENCES raw_process (id),
    tid INTEGER NOT NULL,
    op TEXT NOT NULL,                 -- mmap munmap mremap brk madvise
    address INTEGER NOT NULL,
    size INTEGER NOT NULL,
    old_address INTEGER NOT NULL,
    old_size INTEGER NOT NULL,
    prot INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('hook', 'heap')),
    stack INTEGER REFERENCES raw_stack (id)
) STRICT;

-- Mistakes of a program that Neaptide's own allocator found.
CREATE TABLE raw_memory_error (
    id INTEGER PRIMARY KEY,
    ts_ns INTEGER NOT NULL,
    process INTEGER NOT NULL REFERENCES raw_process (id),
    tid INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('double-free', 'invalid-free', 'interior-free',
        'overflow', 'write-after-free', 'size-mismatch')),
    address INTEGER NOT NULL,         -- that was freed, or the first byte written
    block INTEGER,                    -- start of the block it belongs to; NULL: none
    size INTEGER,                     -- of that block
    alloc_stack INTEGER REFERENCES raw_stack (id), -- NULL where not known
    free_stack INTEGER REFERENCES raw_stack (id),  -- of the first free
    stack INTEGER REFERENCES raw_stack (id)        -- of the call that found it
) STRICT;

CREATE TABLE raw_loss (
    process INTEGER NOT NULL,         -- raw_process.id, 0 for the recording itself
    what TEXT NOT NULL,               -- events stacks lanes corrupt order store process
    ts_ns INTEGER NOT NULL,           -- when it last grew
    count INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (process, what)
) STRICT, WITHOUT ROWID;
