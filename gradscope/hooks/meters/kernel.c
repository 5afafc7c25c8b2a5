/* The rows of tensors on the CPU, for hooks/meters/host.py: what a tensor is, and the way to its arithmetic.

   A row of five doubles is the stored form of gradscope/records.py. All functions take the address of the
   first row they write; the caller owns that memory. Nothing here calls torch's kernels: of a tensor only its
   address, size and dtype are asked for, by the attributes that Python code would use, so that the module
   needs no header of torch and no particular version of it. */

#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>

#include "arithmetic.h"

#define RELEASE (1 << 18) /* elements from which on other threads may run meanwhile */

static void reduce_politely(const char *data, size_t count, int dtype, double *row)
{
    if (count < RELEASE) {
        reduce_elements(data, count, dtype, row);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    reduce_elements(data, count, dtype, row);
    Py_END_ALLOW_THREADS
}

/* What a tensor is, asked through its Python attributes. */

typedef struct {
    const char *data;
    size_t count;
    int dtype;
} Flat;

static PyObject *tensor_type, *parameter_type, *modes, *dtypes[DTYPES];
static PyObject *n_dtype, *n_is_cpu, *n_is_nested, *n_is_neg, *n_is_contiguous, *n_numel, *n_data_ptr,
    *n_storage_offset, *n_grad, *n_version;

static int is_true(PyObject *object, PyObject *name, int call)
{
    PyObject *value = call ? PyObject_CallMethodObjArgs(object, name, NULL) : PyObject_GetAttr(object, name);
    int truth = value != NULL && value == Py_True;
    Py_XDECREF(value);
    return truth;
}

static size_t number(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_CallMethodObjArgs(object, name, NULL);
    size_t result = value == NULL ? 0 : PyLong_AsSize_t(value);
    Py_XDECREF(value);
    return result;
}

/* Whether a tensor is a plain, contiguous one on the CPU, of a dtype known here; anything else takes the slow way. */
static int look_at(PyObject *tensor, Flat *flat)
{
    PyObject *type = (PyObject *)Py_TYPE(tensor);
    if (type != tensor_type && type != parameter_type)
        return 0;
    PyObject *dtype = PyObject_GetAttr(tensor, n_dtype);
    for (flat->dtype = 0; flat->dtype < DTYPES && dtypes[flat->dtype] != dtype; flat->dtype++)
        ;
    Py_XDECREF(dtype);
    if (flat->dtype < DTYPES && is_true(tensor, n_is_cpu, 0) && !is_true(tensor, n_is_nested, 0)
        && is_true(tensor, n_is_contiguous, 1) && !is_true(tensor, n_is_neg, 1)) {
        size_t offset = number(tensor, n_storage_offset) * element_size[flat->dtype];
        flat->count = number(tensor, n_numel);
        flat->data = (const char *)number(tensor, n_data_ptr);
        if (!PyErr_Occurred() && flat->count && (uintptr_t)flat->data > offset) /* else its memory was freed */
            return 1;
    }
    PyErr_Clear();
    return 0;
}

/* A torch function mode on the stack would be told of every attribute that is read. */
static int unseen(void)
{
    PyObject *depth = PyObject_CallNoArgs(modes);
    int result = depth != NULL && PyLong_AsLong(depth) == 0;
    Py_XDECREF(depth);
    PyErr_Clear();
    return result;
}

static void *address(PyObject *number) { return PyLong_AsVoidPtr(number); }

static PyObject *kernel_bind(PyObject *Py_UNUSED(module), PyObject *args)
{
    return PyArg_ParseTuple(args, "OOOOOOO", &tensor_type, &parameter_type, &modes, &dtypes[FLOAT32], &dtypes[FLOAT64],
                            &dtypes[FLOAT16], &dtypes[BFLOAT16])
        ? (Py_INCREF(args), Py_NewRef(Py_None))
        : NULL;
}

static PyObject *kernel_reduce(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    if (n != 4)
        return PyErr_Format(PyExc_TypeError, "reduce(data, count, dtype, row) takes 4 arguments");
    const char *data = address(args[0]);
    size_t count = PyLong_AsSize_t(args[1]);
    long dtype = PyLong_AsLong(args[2]);
    double *row = address(args[3]);
    if (PyErr_Occurred())
        return NULL;
    if (dtype < 0 || dtype >= DTYPES)
        return PyErr_Format(PyExc_ValueError, "unknown dtype %ld", dtype);
    reduce_politely(data, count, (int)dtype, row);
    Py_RETURN_NONE;
}

static PyObject *kernel_measure(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    Flat flat;
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "measure(tensor, row) takes 2 arguments");
    double *row = address(args[1]);
    if (PyErr_Occurred())
        return NULL;
    if (!unseen() || !look_at(args[0], &flat))
        Py_RETURN_FALSE;
    reduce_politely(flat.data, flat.count, flat.dtype, row);
    Py_RETURN_TRUE;
}

/* Calls `work` on each tensor of a list with its row; the indices of those that need the slow way are returned. */
static PyObject *each(PyObject *list, char *rows, size_t step, int (*work)(PyObject *, char *, void *), void *extra)
{
    if (!PyList_Check(list))
        return PyErr_Format(PyExc_TypeError, "tensors must be a list");
    PyObject *left = PyList_New(0);
    for (Py_ssize_t i = 0; left != NULL && i < PyList_Size(list); i++, rows += step) {
        PyObject *tensor = Py_NewRef(PyList_GetItem(list, i));
        if (!work(tensor, rows, extra)) {
            PyObject *index = PyLong_FromSsize_t(i);
            if (index == NULL || PyList_Append(left, index) < 0)
                Py_CLEAR(left);
            Py_XDECREF(index);
        }
        Py_DECREF(tensor);
    }
    return left;
}

static int measure_one(PyObject *tensor, char *row, void *extra)
{
    Flat flat;
    (void)extra;
    if (!look_at(tensor, &flat))
        return 0;
    reduce_politely(flat.data, flat.count, flat.dtype, (double *)row);
    return 1;
}

static int estimate_one(PyObject *tensor, char *row, void *extra)
{
    Flat flat;
    (void)extra;
    if (!look_at(tensor, &flat))
        return 0;
    compare_elements(flat.data, NULL, flat.count, flat.dtype, (double *)row);
    return 1;
}

static PyObject *rows_of(PyObject *const *args, Py_ssize_t n, int (*work)(PyObject *, char *, void *))
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "a list and the address of its rows are needed");
    char *rows = address(args[1]);
    return PyErr_Occurred() ? NULL : each(args[0], rows, ROW * sizeof(double), work, NULL);
}

static PyObject *kernel_measure_all(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    return rows_of(args, n, measure_one);
}

static PyObject *kernel_estimate_all(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    return rows_of(args, n, estimate_one);
}

static PyObject *sample(PyObject *tensor)
{
    Flat flat;
    if (!look_at(tensor, &flat))
        Py_RETURN_NONE;
    size_t length = sampled_of(flat.count) * element_size[flat.dtype];
    PyObject *saved = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (saved != NULL)
        save_elements(flat.data, flat.count, flat.dtype, PyBytes_AsString(saved));
    return saved;
}

static PyObject *kernel_save(PyObject *Py_UNUSED(module), PyObject *tensors)
{
    if (!PyList_Check(tensors))
        return PyErr_Format(PyExc_TypeError, "tensors must be a list");
    Py_ssize_t count = PyList_Size(tensors);
    PyObject *saved = PyList_New(count);
    for (Py_ssize_t i = 0; saved != NULL && i < count; i++) {
        PyObject *one = sample(PyList_GetItem(tensors, i));
        if (one == NULL || PyList_SetItem(saved, i, one) < 0)
            Py_CLEAR(saved);
    }
    return saved;
}

static int compare_one(PyObject *pair, char *row, void *extra)
{
    Flat flat;
    (void)extra;
    PyObject *saved = PyTuple_GetItem(pair, 1);
    if (saved == NULL || !PyBytes_Check(saved) || !look_at(PyTuple_GetItem(pair, 0), &flat)) {
        PyErr_Clear();
        return 0;
    }
    if ((size_t)PyBytes_Size(saved) != sampled_of(flat.count) * element_size[flat.dtype])
        return 0;
    compare_elements(flat.data, PyBytes_AsString(saved), flat.count, flat.dtype, (double *)row);
    return 1;
}

static PyObject *kernel_compare(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    return rows_of(args, n, compare_one);
}

/* Which gradient a parameter holds, and how often it was written to: (id, version), or (0, 0) for None. */
static int mark(PyObject *parameter, char *row, void *extra)
{
    int64_t *pair = (int64_t *)row;
    (void)extra;
    PyObject *gradient = PyObject_GetAttr(parameter, n_grad);
    pair[0] = pair[1] = 0;
    if (gradient != NULL && gradient != Py_None) {
        PyObject *version = PyObject_GetAttr(gradient, n_version);
        pair[0] = (int64_t)(intptr_t)gradient;
        pair[1] = version == NULL ? -1 : PyLong_AsLongLong(version);
        Py_XDECREF(version);
    }
    Py_XDECREF(gradient);
    PyErr_Clear(); /* inference tensors do not count */
    return 1;
}

static PyObject *told(PyObject *parameters, size_t size, int (*work)(PyObject *, char *, void *))
{
    if (!PyList_Check(parameters))
        return PyErr_Format(PyExc_TypeError, "parameters must be a list");
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, PyList_Size(parameters) * (Py_ssize_t)size);
    PyObject *left = bytes == NULL ? NULL : each(parameters, PyBytes_AsString(bytes), size, work, NULL);
    if (left == NULL)
        Py_CLEAR(bytes);
    Py_XDECREF(left);
    return bytes;
}

/* How often a parameter's gradient was written to; -1 where there is none. */
static int version(PyObject *parameter, char *row, void *extra)
{
    int64_t pair[2];
    mark(parameter, (char *)pair, extra);
    *(int64_t *)row = pair[0] ? pair[1] : -1;
    return 1;
}

static PyObject *kernel_marks(PyObject *Py_UNUSED(module), PyObject *parameters)
{
    return told(parameters, 2 * sizeof(int64_t), mark);
}

static PyObject *kernel_versions(PyObject *Py_UNUSED(module), PyObject *parameters)
{
    return told(parameters, sizeof(int64_t), version);
}

/* Whether all plain tensors of a list are free of NaN and Inf; None when one of them is not plain. */
static PyObject *kernel_finite(PyObject *Py_UNUSED(module), PyObject *tensors)
{
    double row[ROW];
    Flat flat;
    int finite = 1;
    if (!PyList_Check(tensors))
        return PyErr_Format(PyExc_TypeError, "tensors must be a list");
    for (Py_ssize_t i = 0; i < PyList_Size(tensors); i++) {
        if (!look_at(PyList_GetItem(tensors, i), &flat))
            Py_RETURN_NONE;
        reduce_elements(flat.data, flat.count, flat.dtype, row);
        finite = finite && isfinite(row[3]) && isfinite(row[4]);
    }
    return PyBool_FromLong(finite);
}

static PyMethodDef methods[] = {
    {"bind", kernel_bind, METH_VARARGS,
     "bind(Tensor, Parameter, function_modes, float32, float64, float16, bfloat16): what to know of torch."},
    {"reduce", (PyCFunction)(void (*)(void))kernel_reduce, METH_FASTCALL,
     "reduce(data, count, dtype, row): write the row of `count` elements at address `data`; dtype counts as in bind."},
    {"measure", (PyCFunction)(void (*)(void))kernel_measure, METH_FASTCALL,
     "measure(tensor, row) -> bool: write the row of a plain contiguous CPU tensor; False for any other."},
    {"measure_all", (PyCFunction)(void (*)(void))kernel_measure_all, METH_FASTCALL,
     "measure_all(tensors, rows) -> list[int]: one row each; returns the indices of those that are not plain."},
    {"estimate_all", (PyCFunction)(void (*)(void))kernel_estimate_all, METH_FASTCALL,
     "estimate_all(tensors, rows) -> list[int]: as measure_all, from a sample of large tensors."},
    {"save", kernel_save, METH_O, "save(tensors) -> list[bytes | None]: a sample of each; None where it is not plain."},
    {"compare", (PyCFunction)(void (*)(void))kernel_compare, METH_FASTCALL,
     "compare([(tensor, saved)], rows) -> list[int]: the row of the difference from what was saved; as measure_all."},
    {"marks", kernel_marks, METH_O,
     "marks(parameters) -> bytes: (id, version) of each gradient as two int64, (0, 0) for none."},
    {"versions", kernel_versions, METH_O,
     "versions(parameters) -> bytes: how often each gradient was written to, as one int64; -1 for none."},
    {"finite", kernel_finite, METH_O,
     "finite(tensors) -> bool | None: whether none holds NaN or Inf; None when one is not plain."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "gradscope.hooks.meters._kernel", "Reduces tensors on the CPU in one pass.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void)
{
    PyObject **names[] = {&n_dtype, &n_is_cpu, &n_is_nested, &n_is_neg, &n_is_contiguous,
                          &n_numel, &n_data_ptr, &n_storage_offset, &n_grad, &n_version};
    const char *texts[] = {"dtype", "is_cpu", "is_nested", "is_neg", "is_contiguous",
                           "numel", "data_ptr", "storage_offset", "grad", "_version"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if ((*names[i] = PyUnicode_InternFromString(texts[i])) == NULL)
            return NULL;
    choose_instructions();
    return PyModule_Create(&definition);
}
