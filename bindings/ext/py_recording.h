/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside neaptide.Recording, for the files that it is made of: py_recording.c opens and
 * asks SQL, py_questions.c, py_maps.c and py_memory_errors.c ask the rest, py_summary.c
 * tells what the recording is about.
 */
#ifndef NEAP_BINDINGS_EXT_PY_RECORDING_H
#define NEAP_BINDINGS_EXT_PY_RECORDING_H

#include "bindings/ext/py.h"

#include <pthread.h>

struct neap_py_recording {
    PyObject ob_base;
    struct neap_recording *recording; /* NULL: closed; changed under the lock only */
    PyObject *path;
    pthread_mutex_t lock; /* error checking; taken without the GIL */
};

/* A question under way: between neap_py_ask_begin and neap_py_ask_end the GIL is not
 * held. */
struct neap_py_ask {
    struct neap_py_recording *self;
    PyThreadState *thread;
};

/* On false an exception is set, the GIL is held, and there is nothing to end. */
bool neap_py_ask_begin(struct neap_py_ask *ask, PyObject *self);
void neap_py_ask_end(struct neap_py_ask *ask);
/* Ask SQL. NULL: an exception is set. */
struct neap_table *neap_py_ask_sql(PyObject *self, const char *sql,
                                   const struct neap_cell *parameters, size_t count);

/* Set a usage error. Returns NULL. */
PyObject *neap_py_raise_usage(PyObject *self, const char *message);
/* The number of an int; a usage error if SQLite has no room for it. */
bool neap_py_int64(PyObject *self, PyObject *object, const char *what, int64_t *ret);

/* A whole number of at least 0, or None for `otherwise`; or one that may be left out.
 * False: an exception is set. */
bool neap_py_whole_number(PyObject *self, PyObject *object, const char *what,
                          int64_t otherwise, int64_t *ret);
bool neap_py_maybe_number(PyObject *self, PyObject *object, const char *what,
                          int64_t *ret, bool *has);

/* Questions. */
PyObject *neap_py_report(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *neap_py_leaks(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *neap_py_maps(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *neap_py_errors(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *neap_py_events(PyObject *self, PyObject *args, PyObject *kwargs);

/* Attributes. */
PyObject *neap_py_get_state(PyObject *self, void *closure);
PyObject *neap_py_get_recording(PyObject *self, void *closure);
PyObject *neap_py_get_processes(PyObject *self, void *closure);
PyObject *neap_py_get_loss(PyObject *self, void *closure);

#endif
