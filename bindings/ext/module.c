/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neaptide._neap: the method table and the module's life. What it can do is said in
 * bindings/neaptide/_neap.pyi.
 */
#include "bindings/ext/docstrings.h"
#include "bindings/ext/py.h"
#include "schema/base/version.h"

static PyMethodDef methods[] = {
    {"open", (PyCFunction)(void (*)(void))neap_py_recording_open,
     METH_VARARGS | METH_KEYWORDS, NEAP_DOC_open},
    {NULL, NULL, 0, NULL},
};

static int exec(PyObject *module)
{
    struct neap_py_state *state = PyModule_GetState(module);

    if (PyModule_AddStringConstant(module, "__version__", NEAP_VERSION) < 0 ||
        neap_py_error_init(module, state) < 0 ||
        neap_py_recording_init(module, state) < 0 ||
        neap_py_report_init(module, state) < 0 || neap_py_row_init(module, state) < 0 ||
        neap_py_frame_init(module, state) < 0 ||
        neap_py_table_init(module, state) < 0 || neap_py_maps_init(module, state) < 0 ||
        neap_py_errors_init(module, state) < 0)
        return -1;
    return 0;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    struct neap_py_state *state = PyModule_GetState(module);

    for (size_t i = 0; i < NEAP_PY_EXCEPTION_COUNT; i++)
        Py_VISIT(state->exceptions[i]);
    Py_VISIT(state->recording);
    Py_VISIT(state->report);
    Py_VISIT(state->row);
    Py_VISIT(state->frame);
    Py_VISIT(state->table);
    Py_VISIT(state->total);
    Py_VISIT(state->map_report);
    Py_VISIT(state->map_row);
    Py_VISIT(state->map_bytes);
    Py_VISIT(state->error_report);
    Py_VISIT(state->error_row);
    return 0;
}

static int clear(PyObject *module)
{
    struct neap_py_state *state = PyModule_GetState(module);

    for (size_t i = 0; i < NEAP_PY_EXCEPTION_COUNT; i++)
        Py_CLEAR(state->exceptions[i]);
    Py_CLEAR(state->recording);
    Py_CLEAR(state->report);
    Py_CLEAR(state->row);
    Py_CLEAR(state->frame);
    Py_CLEAR(state->table);
    Py_CLEAR(state->total);
    Py_CLEAR(state->map_report);
    Py_CLEAR(state->map_row);
    Py_CLEAR(state->map_bytes);
    Py_CLEAR(state->error_report);
    Py_CLEAR(state->error_row);
    return 0;
}

static void free_module(void *module)
{
    clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)exec},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_neap",
    .m_size = sizeof(struct neap_py_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = free_module,
};

PyMODINIT_FUNC PyInit__neap(void);

PyMODINIT_FUNC PyInit__neap(void)
{
    return PyModuleDef_Init(&definition);
}
