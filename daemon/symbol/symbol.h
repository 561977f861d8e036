/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names for addresses: (module, offset) → function, file, line, inlined frames.
 *
 * elfutils libdw reads DWARF where there is any (in the file, or by build-id under
 * /usr/lib/debug), the ELF symbol tables (.symtab, .dynsym, .gnu_debugdata) where
 * not. Names are demangled. A module whose file has another build-id than the one
 * that was mapped is not asked: a wrong name is worse than none.
 *
 * All reading is done by one worker thread, so that a gigabyte of DWARF never holds
 * up the draining of lanes. The caller's side (everything declared here) belongs to
 * one thread. The worker blocks all signals.
 */
#ifndef NEAP_DAEMON_SYMBOL_SYMBOL_H
#define NEAP_DAEMON_SYMBOL_SYMBOL_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/base/error.h"

struct neap_symbolizer;

struct neap_symbol_frame {
    const char *function; /* NULL where unknown */
    const char *file;     /* NULL where unknown */
    uint32_t line;        /* 0 where unknown */
    bool inlined;         /* into the next frame of the same answer */
};

struct neap_symbol_answer {
    uint64_t token; /* as asked */
    uint32_t count; /* at least 1; innermost first; the last has inlined = false */
    const struct neap_symbol_frame *frames;
};

struct neap_error *neap_symbolizer_create(struct neap_symbolizer **ret) NEAP_MUST_CHECK;
/* Ends the worker; unanswered questions are dropped. Takes NULL. */
void neap_symbolizer_destroy(struct neap_symbolizer *symbolizer);

/*
 * Make a module known; the same (path, build_id) gives the same number. The file is
 * opened at once, so that it may be replaced or removed later on.
 */
struct neap_error *neap_symbolizer_module(struct neap_symbolizer *symbolizer,
                                          const char *path, const uint8_t *build_id,
                                          uint32_t build_id_len,
                                          uint32_t *ret) NEAP_MUST_CHECK;

/*
 * Ask for the address `offset` (in the module's own virtual addresses: the address in
 * the process minus the load bias; callers look up return address - 1).
 */
struct neap_error *neap_symbolizer_ask(struct neap_symbolizer *symbolizer,
                                       uint32_t module, uint64_t offset,
                                       uint64_t token) NEAP_MUST_CHECK;

/*
 * Take the answers that are there, each in one call of `take`; frames and strings are
 * valid during the call. With `wait`, return when every question is answered.
 * Returns the number of questions still open.
 */
uint64_t neap_symbolizer_answers(struct neap_symbolizer *symbolizer, bool wait,
                                 void (*take)(void *context,
                                              const struct neap_symbol_answer *answer),
                                 void *context);

#endif
