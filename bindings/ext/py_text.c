/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small steps from C to Python that every class takes.
 */
#include "bindings/ext/py.h"

#include <string.h>

PyObject *neap_py_text_length(const char *text, size_t length)
{
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, "surrogateescape");
}

PyObject *neap_py_text(const char *text)
{
    if (!text)
        Py_RETURN_NONE;
    return neap_py_text_length(text, strlen(text));
}

int neap_py_put(PyObject *dict, const char *key, PyObject *value)
{
    int status;

    if (!value)
        return -1;
    status = PyDict_SetItemString(dict, key, value);
    Py_DECREF(value);
    return status;
}

int neap_py_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **ret)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);

    if (!type)
        return -1;
    *ret = (PyTypeObject *)type;
    return PyModule_AddType(module, *ret);
}
