/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one door to CPython: the stable ABI of 3.11, so that one file serves every
 * later Python. Every .c of this directory includes it first, nothing else includes
 * Python.h.
 *
 * All objects of the module keep what they show alive: a frame its report, a row its
 * report. None of them refers back, so there are no cycles to collect.
 */
#ifndef NEAP_BINDINGS_EXT_PY_H
#define NEAP_BINDINGS_EXT_PY_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>

#include "bindings/query/query.h"

/* The module's exceptions: name, further base (NULL: none). Error comes first. */
#define NEAP_PY_EXCEPTIONS(X)                    \
    X(Error, NULL)                               \
    X(UsageError, PyExc_ValueError)              \
    X(MissingFileError, PyExc_FileNotFoundError) \
    X(ForeignFileError, NULL)                    \
    X(DamagedFileError, NULL)                    \
    X(NewerFileError, NULL)                      \
    X(SqlError, NULL)

enum neap_py_exception {
#define NEAP_PY_EXCEPTION_ENUM(name, base) NEAP_PY_##name,
    NEAP_PY_EXCEPTIONS(NEAP_PY_EXCEPTION_ENUM)
#undef NEAP_PY_EXCEPTION_ENUM
    NEAP_PY_EXCEPTION_COUNT,
    NEAP_PY_MemoryError, /* Python's own */
};

struct neap_py_state {
    PyObject *exceptions[NEAP_PY_EXCEPTION_COUNT];
    PyTypeObject *recording, *report, *row, *frame, *table, *total, *map_report,
        *map_row, *map_bytes, *error_report, *error_row;
};

/* Of the module that `object`, of one of our types, belongs to. */
static inline struct neap_py_state *neap_py_state_of(PyObject *object)
{
    return PyType_GetModuleState(Py_TYPE(object));
}

/* py_error.c */
int neap_py_error_init(PyObject *module, struct neap_py_state *state);
/* Set `error` as Python's exception and end it. Returns NULL. */
PyObject *neap_py_raise(const struct neap_py_state *state, struct neap_error *error);

/* py_text.c */
/* Bytes that are no UTF-8 survive as surrogates, as in names of files. NULL is None. */
PyObject *neap_py_text(const char *text);
PyObject *neap_py_text_length(const char *text, size_t length);
/* dict[key] = value, whose reference is taken; a NULL value is an error already. */
int neap_py_put(PyObject *dict, const char *key, PyObject *value);

/* One function a class: make the type, add it to the module. */
int neap_py_recording_init(PyObject *module, struct neap_py_state *state);
int neap_py_report_init(PyObject *module, struct neap_py_state *state);
int neap_py_row_init(PyObject *module, struct neap_py_state *state);
int neap_py_frame_init(PyObject *module, struct neap_py_state *state);
int neap_py_table_init(PyObject *module, struct neap_py_state *state);
int neap_py_maps_init(PyObject *module, struct neap_py_state *state);
int neap_py_errors_init(PyObject *module, struct neap_py_state *state);

/* New objects. Report and Table take the C answer over, whatever happens. */
PyObject *neap_py_recording_open(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *neap_py_report_wrap(struct neap_py_state *state, struct neap_report *report);
PyObject *neap_py_table_wrap(struct neap_py_state *state, struct neap_table *table);
PyObject *neap_py_row_wrap(struct neap_py_state *state, PyObject *report,
                           const struct neap_row *row);
PyObject *neap_py_frame_wrap(struct neap_py_state *state, PyObject *report,
                             const struct neap_frame *frame);

/* A tuple of frames, which keep `owner` alive; `self` is of any of our types. */
PyObject *neap_py_frames(PyObject *self, PyObject *owner,
                         const struct neap_frame *const *frames, uint32_t depth);
/* The number of a stack; None where there is none. */
PyObject *neap_py_stack_id(const struct neap_trace *trace);

/* What the rows of a Report stand for. */
enum neap_report_by neap_py_report_by(PyObject *report);

/* The cells of a row with the columns' names. */
PyObject *neap_py_table_dict(const struct neap_table *table, size_t row);

/* Make a type of `spec`, keep it in `*ret`, give it to the module under its name. */
int neap_py_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **ret);

#endif
