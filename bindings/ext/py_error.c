/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From struct neap_error to Python's exceptions, paired by the X-macro of
 * schema/base/error.h: a new code there that has no exception here does not compile.
 */
#include "bindings/ext/docstrings.h"
#include "bindings/ext/py.h"

static const enum neap_py_exception exception_of[] = {[NEAP_ERROR_NONE] = NEAP_PY_Error,
#define PAIR(code, exception) [NEAP_ERROR_##code] = NEAP_PY_##exception,
                                                      NEAP_ERROR_CODES(PAIR)
#undef PAIR
};

/* Make neaptide.<name>, a subclass of Error and of `base` where there is one. */
static PyObject *create(const struct neap_py_state *state, const char *full_name,
                        const char *doc, PyObject *base)
{
    PyObject *error = state->exceptions[NEAP_PY_Error];
    PyObject *bases, *exception;

    if (!error)
        return PyErr_NewExceptionWithDoc(full_name, doc, NULL, NULL);
    bases = base ? PyTuple_Pack(2, error, base) : PyTuple_Pack(1, error);
    if (!bases)
        return NULL;
    exception = PyErr_NewExceptionWithDoc(full_name, doc, bases, NULL);
    Py_DECREF(bases);
    return exception;
}

int neap_py_error_init(PyObject *module, struct neap_py_state *state)
{
#define CREATE(name, base)                                                           \
    state->exceptions[NEAP_PY_##name] =                                              \
        create(state, "neaptide." #name, NEAP_DOC_##name, base);                     \
    if (!state->exceptions[NEAP_PY_##name] ||                                        \
        PyModule_AddObjectRef(module, #name, state->exceptions[NEAP_PY_##name]) < 0) \
        return -1;
    NEAP_PY_EXCEPTIONS(CREATE)
#undef CREATE
    return 0;
}

PyObject *neap_py_raise(const struct neap_py_state *state, struct neap_error *error)
{
    enum neap_py_exception exception = exception_of[error->code];
    PyObject *message;

    /* Whoever cancelled has said why, with KeyboardInterrupt for example. */
    if (error->code == NEAP_ERROR_CANCELLED && PyErr_Occurred()) {
        neap_error_destroy(error);
        return NULL;
    }
    if (exception == NEAP_PY_MemoryError) {
        neap_error_destroy(error);
        return PyErr_NoMemory();
    }
    message = neap_py_text(error->message);
    neap_error_destroy(error);
    if (message) {
        PyErr_SetObject(state->exceptions[exception], message);
        Py_DECREF(message);
    }
    return NULL;
}
