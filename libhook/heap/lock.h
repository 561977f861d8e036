/* SPDX-License-Identifier: Apache-2.0 */
/* One lock for all that is not a heap's own. */
#ifndef NEAP_LIBHOOK_HEAP_LOCK_H
#define NEAP_LIBHOOK_HEAP_LOCK_H

/* errno stays. Unlocking tells the observer what has been asked of the kernel meanwhile
 * (os.h), after the lock is free. */
void neap_lock(void);
void neap_unlock(void);

/*
 * Around a fork: taken before it; given back in the parent, and in the child, where
 * what was noted is the parent's to tell. In between the forking thread may take and
 * give it again: handlers of libraries that registered theirs before us run then, and
 * allocate.
 */
void neap_lock_fork(void);
void neap_lock_fork_parent(void);
void neap_lock_fork_child(void);

#endif
