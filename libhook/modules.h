/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which ELF objects the program counters of our stacks lie in.
 *
 * Objects are found when a walk first meets them, through glibc's lock-free
 * _dl_find_object, and announced to the collector right after: build-id, path, range.
 * dlopen is never interposed (that would change whose RPATH it uses). When dlclose
 * unloads something, the generation of the list grows: all rules and stacks are
 * forgotten, so a reused address gets a new stack, announced with its new object.
 */
#ifndef NEAP_LIBHOOK_MODULES_H
#define NEAP_LIBHOOK_MODULES_H

#include <stdbool.h>
#include <stdint.h>

#include "libhook/guard.h"

struct neap_object {
    const uint8_t *start, *end;  /* mapped range */
    const uint8_t *eh_frame_hdr; /* NULL: none */
    const void *link_map;
};

/* Look for _dl_find_object. Caller holds NEAP_INTERNAL; once per image. */
bool neap_modules_init(void);
bool neap_modules_lock_free(void); /* it is there */

/* The object around `pc`; noted for announcement if it is new. */
bool neap_modules_find(uint64_t pc, struct neap_object *ret);
static inline void neap_modules_note(uint64_t pc)
{
    struct neap_object object;

    neap_modules_find(pc, &object);
}

/* In ld.so? Its entry, where constructors' stacks begin, has no unwind rules. */
bool neap_modules_is_loader(uint64_t pc);

/* The loader's name of the object around `pc`; NULL if there is none. */
const char *neap_modules_path(const void *pc);

/* Announce what this thread found (tls->found). Between records, never in one, and
 * before the thread leaves the hook: the objects are on its stack, so they stay. */
void neap_modules_announce(struct neap_tls *tls);

/* Something was unloaded: start a new generation. */
void neap_modules_unloaded(void);

/*
 * A dlclose begins, and is over. From the moment the loader unmaps a library until we
 * know that it did, another thread's dlopen may put its own in that place. Meanwhile
 * walks go by what the loader has at that moment, and objects are compared by name, so
 * that one in another's place is noticed.
 */
void neap_modules_closing(void);
void neap_modules_closed(void);

#endif
