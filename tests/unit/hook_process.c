/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory is what link.c would have mapped: memfds of the full size, of which the
 * process has group 0 of the lanes and its slot of ctl read-only, and the reader all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/emit.h"
#include "libhook/gate.h"
#include "libhook/modules.h"
#include "libhook/real.h"
#include "libhook/selfmem.h"
#include "libhook/stack.h"
#include "libhook/stackset.h"
#include "libhook/unwind.h"
#include "tests/unit/hook_process.h"

enum {
    SLOT = 5
};

static int ctl_fd, data_fd;
static uint8_t *ctl, *data; /* the reader's */
static uint64_t read_to[NEAP_LANES_MAX];

static void *map(int fd, uint64_t offset, size_t bytes, int prot)
{
    void *memory = mmap(NULL, bytes, prot, MAP_SHARED, fd, (off_t)offset);

    assert_true(memory != MAP_FAILED);
    return memory;
}

static int shared(uint64_t bytes)
{
    int fd = memfd_create("neap-test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    return fd;
}

/* Tables of the image: made once, empty again for each test. */
static void make_tables(void)
{
    static bool made;

    neap_real.off = false;
    assert_true(neap_modules_init());
    if (made) {
        neap_stackset_forget();
        neap_unwind_forget();
        return;
    }
    neap_process = neap_selfmem_wiped(sizeof(*neap_process));
    assert_non_null(neap_process);
    assert_true(neap_stackset_init());
    assert_true(neap_unwind_init());
    neap_stack_init();
    made = true;
}

int hook_process_setup(void **state)
{
    (void)state;
    make_tables();
    memset(neap_process, 0, sizeof(*neap_process));
    memset(read_to, 0, sizeof(read_to));
    ctl_fd = shared(NEAP_CTL_BYTES);
    data_fd = shared(NEAP_DATA_BYTES);
    ctl = map(ctl_fd, 0, NEAP_CTL_SLOT_OFFSET(SLOT + 1), PROT_READ | PROT_WRITE);
    data = map(data_fd, 0, NEAP_DATA_BYTES, PROT_READ | PROT_WRITE);
    atomic_store(&hook_ctl()->now_ns, 1);
    atomic_store(&hook_ctl()->mode, NEAP_MODE_EXACT);
    neap_process->pid = (uint32_t)getpid();
    neap_process->policy = NEAP_POLICY_DROP;
    neap_process->ctl = map(ctl_fd, 0, NEAP_PAGE, PROT_READ);
    neap_process->tails =
        map(ctl_fd, NEAP_CTL_SLOT_OFFSET(SLOT), NEAP_CTL_SLOT_BYTES, PROT_READ);
    neap_process->data =
        map(data_fd, 0, NEAP_LANE_OFFSET(NEAP_LANE_GROUP), PROT_READ | PROT_WRITE);
    atomic_store(&neap_process->groups[0],
                 (uint8_t *)neap_process->data + NEAP_LANE_OFFSET(0));
    atomic_store(&neap_process->connection, 1);
    atomic_store(&neap_process->phase, NEAP_PHASE_ON);
    hook_thread();
    neap_filter_reset();
    return 0;
}

int hook_process_teardown(void **state)
{
    (void)state;
    for (unsigned group = 1; group < NEAP_LANE_GROUPS; group++)
        if (atomic_load(&neap_process->groups[group]))
            munmap(atomic_load(&neap_process->groups[group]),
                   (size_t)NEAP_LANE_GROUP * NEAP_LANE_STRIDE);
    /* Frees of real blocks, when entry points are linked in, go on meanwhile. */
    neap_gate_set(&neap_gate_off);
    atomic_store(&neap_process->phase, NEAP_PHASE_NEW);
    neap_filter_reset();
    if (atomic_load(&neap_process->table))
        munmap(atomic_load(&neap_process->table), NEAP_TABLE_BYTES);
    munmap((void *)(uintptr_t)neap_process->ctl, NEAP_PAGE);
    munmap((void *)(uintptr_t)neap_process->tails, NEAP_CTL_SLOT_BYTES);
    munmap(neap_process->data, NEAP_LANE_OFFSET(NEAP_LANE_GROUP));
    munmap(ctl, NEAP_CTL_SLOT_OFFSET(SLOT + 1));
    munmap(data, NEAP_DATA_BYTES);
    close(ctl_fd);
    close(data_fd);
    return 0;
}

struct neap_ctl_header *hook_ctl(void)
{
    return (struct neap_ctl_header *)(void *)ctl;
}

struct neap_table *hook_table(void)
{
    return (struct neap_table *)(void *)(data + NEAP_TABLE_OFFSET);
}

struct neap_lane *hook_lane(unsigned lane)
{
    return (struct neap_lane *)(void *)(data + NEAP_LANE_OFFSET(lane));
}

int hook_data_fd(void)
{
    return data_fd;
}

void hook_open(enum neap_mode mode, uint64_t interval)
{
    atomic_store(&hook_ctl()->interval, interval);
    atomic_store(&hook_ctl()->mode, mode);
    neap_gate_set(&neap_process->ctl->mode);
}

void hook_tick(void)
{
    atomic_fetch_add(&hook_ctl()->now_ns, 1000000);
}

struct neap_tls *hook_thread(void)
{
    memset(&neap_tls, 0, sizeof(neap_tls));
    neap_tls.tid = (uint32_t)gettid();
    neap_tls.connection = atomic_load(&neap_process->connection);
    return &neap_tls;
}

static void copy_module(const struct neap_ev_module *module, struct hook_record *ret)
{
    size_t length = module->path_len < sizeof(ret->path) - 1 ? module->path_len
                                                             : sizeof(ret->path) - 1;

    ret->start = module->start;
    ret->end = module->end;
    ret->generation = module->generation;
    ret->build_id_len = module->build_id_len;
    memcpy(ret->build_id, neap_ev_module_build_id(module), module->build_id_len);
    memcpy(ret->path, neap_ev_module_path(module), length);
}

static void copy_record(const struct neap_event *event, struct hook_record *ret)
{
    *ret = (struct hook_record){
        .kind = event->kind, .seq = event->seq, .delta = event->delta};
    switch (event->kind) {
    case NEAP_EV_TIME:
        ret->now_ns = event->time->now_ns;
        break;
    case NEAP_EV_THREAD:
        ret->tid = event->thread->tid;
        memcpy(ret->name, event->thread->name, sizeof(ret->name));
        break;
    case NEAP_EV_STACK:
        ret->hash = event->stack->hash;
        ret->depth = event->stack->depth;
        ret->flags = event->stack->flags;
        ret->generation = event->stack->generation;
        for (unsigned i = 0; i < 4 && i < event->stack->depth; i++)
            ret->pc[i] = event->stack->pc[i];
        break;
    case NEAP_EV_MODULE:
        copy_module(event->module, ret);
        break;
    case NEAP_EV_ALLOC:
    case NEAP_EV_REALLOC_ALLOC:
        ret->address = event->alloc->address;
        ret->size = event->alloc->size;
        ret->hash = event->alloc->stack;
        break;
    case NEAP_EV_MAP:
        ret->op = event->map->op;
        ret->address = event->map->address;
        ret->size = event->map->size;
        ret->hash = event->map->stack;
        ret->source = event->map->source;
        break;
    case NEAP_EV_MEMORY_ERROR:
        ret->op = event->memory_error->kind;
        ret->address = event->memory_error->address;
        ret->size = event->memory_error->size;
        ret->hash = event->memory_error->stack;
        ret->start = event->memory_error->block;
        ret->alloc_hash = event->memory_error->alloc_stack;
        ret->free_hash = event->memory_error->free_stack;
        break;
    case NEAP_EV_EXIT:
        ret->code = event->exit->code;
        break;
    case NEAP_EV_SAMPLE:
        ret->address = event->sample->address;
        ret->size = event->sample->size;
        ret->hash = event->sample->stack;
        ret->interval = event->sample->interval;
        ret->flags = (uint16_t)event->sample->flags;
        break;
    case NEAP_EV_SAMPLE_FREE:
        ret->address = event->sample_free->address;
        ret->flags = (uint16_t)event->sample_free->flags;
        break;
    case NEAP_EV_THREAD_END:
    case NEAP_EV_REALLOC_DONE:
        break;
    default:
        ret->address = event->free->address;
    }
}

unsigned hook_read(unsigned lane, struct hook_record *ret, unsigned max)
{
    _Atomic uint64_t *word =
        (_Atomic uint64_t *)(void *)(ctl + NEAP_CTL_SLOT_OFFSET(SLOT)) + lane;
    struct neap_lane_view view = {hook_lane(lane), word, read_to[lane]};
    bool corrupt = false;
    unsigned count = 0;
    uint32_t length;

    while (count < max && (length = neap_lane_readable(&view, &corrupt)) > 0) {
        uint32_t at = 0;

        while (at < length && count < max) {
            struct neap_event event;

            if (neap_decode(neap_lane_bytes(&view) + at, length - at, &event) !=
                NEAP_DECODE_OK)
                fail_msg("lane %u is corrupt at %llu", lane,
                         (unsigned long long)view.tail + at);
            if (event.kind != NEAP_EV_PAD)
                copy_record(&event, &ret[count++]);
            at += event.length;
        }
        neap_lane_consume(&view, at);
    }
    assert_false(corrupt);
    read_to[lane] = view.tail;
    return count;
}

unsigned hook_next(const struct hook_record *records, unsigned count, unsigned from,
                   enum neap_ev_kind kind)
{
    while (from < count && records[from].kind != kind)
        from++;
    return from;
}

__attribute__((noinline)) void hook_alloc(uint64_t address, uint64_t size)
{
    struct neap_context caller = NEAP_CALLER();

    neap_tls.busy = NEAP_RECORDING;
    neap_emit_alloc(&neap_tls, NEAP_EV_ALLOC, &caller, (void *)(uintptr_t)address,
                    size);
    neap_tls.busy = NEAP_IDLE;
}

bool hook_free(uint64_t address)
{
    bool kept;

    neap_tls.busy = NEAP_RECORDING;
    kept = neap_emit_free(&neap_tls, NEAP_EV_FREE, (void *)(uintptr_t)address);
    neap_tls.busy = NEAP_IDLE;
    return kept;
}
