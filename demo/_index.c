/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small index of words for demo/wordcount.py, with a leak planted in it: replacing
 * an entry forgets the copy of the word that the old entry owned. Look for
 * `index_put` in what `neap leaks` prints.
 */
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOTS = 4096
};

struct entry {
    char *word;
    long long count;
};

static struct entry slots[SLOTS];

static struct entry *index_slot(const char *word)
{
    unsigned long hash = 5381;

    for (const char *c = word; *c; c++)
        hash = hash * 33 + (unsigned char)*c;
    return &slots[hash % SLOTS];
}

static int index_put(const char *word, long long count)
{
    struct entry *entry = index_slot(word);
    char *copy = strdup(word);

    if (!copy)
        return -1;
    entry->word = copy; /* the leak: what entry->word held before is lost */
    entry->count = count;
    return 0;
}

static PyObject *put(PyObject *module, PyObject *args)
{
    const char *word;
    long long count;

    (void)module;
    if (!PyArg_ParseTuple(args, "sL", &word, &count))
        return NULL;
    if (index_put(word, count) < 0)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *clear(PyObject *module, PyObject *ignored)
{
    (void)module;
    (void)ignored;
    for (int i = 0; i < SLOTS; i++) {
        free(slots[i].word);
        slots[i].word = NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"put", put, METH_VARARGS, "put(word, count): enter a word or replace its count"},
    {"clear", clear, METH_NOARGS, "clear(): forget every word"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_index",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__index(void)
{
    return PyModule_Create(&definition);
}
