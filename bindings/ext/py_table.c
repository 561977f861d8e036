/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neaptide.Table: a sequence of tuples under named columns, the answer of SQL. Rows
 * become Python objects when they are asked for.
 */
#include "bindings/ext/docstrings.h"
#include "bindings/ext/py.h"

struct table {
    PyObject ob_base;
    struct neap_table *table;
};

PyObject *neap_py_table_wrap(struct neap_py_state *state, struct neap_table *table)
{
    struct table *self = PyObject_New(struct table, state->table);

    if (!self) {
        neap_table_destroy(table);
        return NULL;
    }
    self->table = table;
    return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    neap_table_destroy(((struct table *)object)->table);
    PyObject_Free(object);
    Py_DECREF(type);
}

static const struct neap_table *table_of(PyObject *object)
{
    return ((struct table *)object)->table;
}

static PyObject *cell_value(const struct neap_cell *cell)
{
    switch (cell->type) {
    case NEAP_CELL_NULL:
        break;
    case NEAP_CELL_INTEGER:
        return PyLong_FromLongLong(cell->integer);
    case NEAP_CELL_REAL:
        return PyFloat_FromDouble(cell->real);
    case NEAP_CELL_TEXT:
        return neap_py_text_length(cell->bytes, cell->length);
    case NEAP_CELL_BLOB:
        return PyBytes_FromStringAndSize(cell->bytes, cell->length);
    }
    Py_RETURN_NONE;
}

static PyObject *row_tuple(const struct neap_table *table, size_t row)
{
    const struct neap_cell *cells = neap_table_row(table, row);
    PyObject *tuple = PyTuple_New(table->columns);

    for (uint32_t i = 0; tuple && i < table->columns; i++) {
        PyObject *value = cell_value(&cells[i]);

        if (!value || PyTuple_SetItem(tuple, i, value) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

PyObject *neap_py_table_dict(const struct neap_table *table, size_t row)
{
    const struct neap_cell *cells = neap_table_row(table, row);
    PyObject *dict = PyDict_New();

    for (uint32_t i = 0; dict && i < table->columns; i++) {
        if (neap_py_put(dict, table->names[i], cell_value(&cells[i])) < 0)
            Py_CLEAR(dict);
    }
    return dict;
}

static PyObject *get_columns(PyObject *self, void *closure)
{
    const struct neap_table *table = table_of(self);
    PyObject *columns = PyTuple_New(table->columns);

    (void)closure;
    for (uint32_t i = 0; columns && i < table->columns; i++) {
        PyObject *name = neap_py_text(table->names[i]);

        if (!name || PyTuple_SetItem(columns, i, name) < 0)
            Py_CLEAR(columns);
    }
    return columns;
}

static Py_ssize_t length(PyObject *self)
{
    return (Py_ssize_t)table_of(self)->rows;
}

static PyObject *item(PyObject *self, Py_ssize_t index)
{
    if (index < 0 || (size_t)index >= table_of(self)->rows) {
        PyErr_SetString(PyExc_IndexError, "the table has no such row");
        return NULL;
    }
    return row_tuple(table_of(self), (size_t)index);
}

static PyObject *repr(PyObject *self)
{
    PyObject *columns = get_columns(self, NULL);
    PyObject *text;

    if (!columns)
        return NULL;
    text = PyUnicode_FromFormat("<Table %R, rows: %zu>", columns, table_of(self)->rows);
    Py_DECREF(columns);
    return text;
}

static PyGetSetDef getters[] = {
    {"columns", get_columns, NULL, NEAP_DOC_Table_columns, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

int neap_py_table_init(PyObject *module, struct neap_py_state *state)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)NEAP_DOC_Table}, {Py_tp_dealloc, (void *)dealloc},
        {Py_tp_repr, (void *)repr},          {Py_tp_getset, getters},
        {Py_tp_iter, (void *)PySeqIter_New}, {Py_sq_length, (void *)length},
        {Py_sq_item, (void *)item},          {0, NULL},
    };
    PyType_Spec spec = {
        .name = "neaptide.Table",
        .basicsize = sizeof(struct table),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    return neap_py_add_type(module, &spec, &state->table);
}
