/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of the hosted zone: NULL is success, anything else says in one line what
 * failed, on what, why, and what to do next.
 *
 * The caller owns a returned error and ends it with neap_error_destroy. Failing
 * needs no memory: NEAP_NO_MEMORY is a constant, and destroying it does nothing.
 */
#ifndef NEAP_SCHEMA_BASE_ERROR_H
#define NEAP_SCHEMA_BASE_ERROR_H

#include "schema/attr.h"

/* code, and the Python exception that carries it (bindings/ext pairs them) */
#define NEAP_ERROR_CODES(X)                                                     \
    X(NO_MEMORY, MemoryError)    /* out of memory */                            \
    X(OS, Error)                 /* a system call failed; errnum says how */    \
    X(USAGE, UsageError)         /* a question that makes no sense */           \
    X(MISSING, MissingFileError) /* no such recording */                        \
    X(FOREIGN, ForeignFileError) /* a file, but no recording */                 \
    X(DAMAGED, DamagedFileError) /* a recording that cannot be read */          \
    X(NEWER, NewerFileError)     /* a recording of a later release */           \
    X(EXISTS, Error)             /* would overwrite something */                \
    X(SQL, SqlError)             /* SQLite refused a statement of the user's */ \
    X(STORE, Error)              /* SQLite failed on a statement of ours */     \
    X(CANCELLED, Error)          /* the caller asked for the end */

enum neap_error_code {
    NEAP_ERROR_NONE = 0,
#define NEAP_ERROR_ENUM(code, exception) NEAP_ERROR_##code,
    NEAP_ERROR_CODES(NEAP_ERROR_ENUM)
#undef NEAP_ERROR_ENUM
};

struct neap_error {
    enum neap_error_code code;
    int errnum;     /* errno for OS, SQLite's extended code for SQL and STORE, else 0 */
    char message[]; /* one line, no newline at the end */
};

extern struct neap_error neap_error_no_memory;
#define NEAP_NO_MEMORY (&neap_error_no_memory)

/* New errors. Return NEAP_NO_MEMORY when there is none to be had. */
struct neap_error *neap_error_create(enum neap_error_code code, const char *format, ...)
    NEAP_PRINTF(2, 3) NEAP_MUST_CHECK;
/* "<format>: <strerror(errnum)>" */
struct neap_error *neap_error_os(int errnum, const char *format, ...)
    NEAP_PRINTF(2, 3) NEAP_MUST_CHECK;
/* End an error. Takes NULL. */
void neap_error_destroy(struct neap_error *error);

static inline void neap_error_guard(struct neap_error **error)
{
    neap_error_destroy(*error);
}

#endif
