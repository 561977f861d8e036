/* SPDX-License-Identifier: Apache-2.0 */
/* One lock for all that is not a heap's own. */
#ifndef NEAP_LIBHOOK_HEAP_LOCK_H
#define NEAP_LIBHOOK_HEAP_LOCK_H

/* errno stays. Unlocking tells the observer what has been asked of the kernel meanwhile
 * (os.h), after the lock is free. */
void neap_lock(void);
void neap_unlock(void);

/* In the child of a fork, where the lock is this thread's. */
void neap_lock_forked(void);

#endif
