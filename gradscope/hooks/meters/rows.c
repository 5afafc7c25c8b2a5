/* A growing table of what was measured: a row of five doubles, the stored form of gradscope/records.py, for each
   tensor. Rows are counted from the last `take` on. */

#include "kernel.h"

#include <math.h>
#include <string.h>

#define RELEASE (1 << 18) /* elements from which on other threads may run meanwhile */
#define LEAST 512

PyTypeObject *rows_type;

/* Elements to reduce, and with `saved` what to compare them with; `sampled` ones of many. */
typedef struct {
    Flat flat;
    const char *saved;
    int sampled;
} Task;

static void reduce(const Task *task, double *row)
{
    if (task->sampled)
        compare_elements(task->flat.data, task->saved, task->flat.count, task->flat.dtype, row);
    else
        reduce_elements(task->flat.data, task->flat.count, task->flat.dtype, row);
}

static void reduce_politely(const Task *task, double *row)
{
    if (task->flat.count < RELEASE) {
        reduce(task, row);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    reduce(task, row);
    Py_END_ALLOW_THREADS
}

/* The number of the first of so many new rows, which hold nothing yet. */
static Py_ssize_t reserve(Rows *rows, Py_ssize_t count)
{
    static const double nothing[ROW] = {0, 0, 0, INFINITY, -INFINITY};
    if (rows->used + count > rows->room) {
        Py_ssize_t room = 2 * (rows->used + count) + LEAST;
        double *table = PyMem_Realloc(rows->table, (size_t)room * sizeof nothing);
        if (table == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        rows->table = table;
        rows->room = room;
    }
    Py_ssize_t first = rows->used;
    rows->used += count;
    for (Py_ssize_t i = first; i < rows->used; i++)
        memcpy(rows->table + ROW * i, nothing, sizeof nothing);
    return first;
}

/* While a row is computed the table may move. */
static void put(Rows *rows, Py_ssize_t number, const double *row)
{
    rows->odd |= !isfinite(row[2]);
    if (number < rows->used)
        memcpy(rows->table + ROW * number, row, ROW * sizeof *row);
}

Py_ssize_t measure_flat(Rows *rows, const Flat *flat)
{
    Py_ssize_t number = reserve(rows, 1);
    if (number >= 0) {
        double *row = rows->table + ROW * number;
        reduce_elements(flat->data, flat->count, flat->dtype, row);
        rows->odd |= !isfinite(row[2]);
    }
    return number;
}

static PyObject *measured(Rows *rows, const Task *task)
{
    double row[ROW];
    reduce_politely(task, row);
    Py_ssize_t number = reserve(rows, 1);
    if (number < 0)
        return NULL;
    put(rows, number, row);
    return PyLong_FromSsize_t(number);
}

static PyObject *rows_measure(Rows *self, PyObject *tensor)
{
    Task task = {.saved = NULL, .sampled = 0};
    if (!unseen() || !look_at(tensor, &task.flat))
        Py_RETURN_NONE;
    return measured(self, &task);
}

static PyObject *rows_reduce(Rows *self, PyObject *args)
{
    Task task = {.saved = NULL, .sampled = 0};
    PyObject *address;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "Oni", &address, &count, &task.flat.dtype))
        return NULL;
    task.flat.data = PyLong_AsVoidPtr(address);
    task.flat.count = (size_t)count;
    if (PyErr_Occurred())
        return NULL;
    if (task.flat.dtype < 0 || task.flat.dtype >= DTYPES)
        return PyErr_Format(PyExc_ValueError, "unknown dtype %d", task.flat.dtype);
    return measured(self, &task);
}

static int whole_tensor(PyObject *tensor, Task *task) { return look_at(tensor, &task->flat); }

static int sampled_tensor(PyObject *tensor, Task *task)
{
    task->sampled = 1;
    return look_at(tensor, &task->flat);
}

static int moved_tensor(PyObject *tensor, PyObject *saved, Task *task)
{
    if (!PyBytes_Check(saved) || !sampled_tensor(tensor, task))
        return 0;
    task->saved = PyBytes_AsString(saved);
    return (size_t)PyBytes_Size(saved) == sampled_of(task->flat.count) * element_size[task->flat.dtype];
}

static int moved_pair(PyObject *pair, Task *task)
{
    return PyTuple_Check(pair) && PyTuple_Size(pair) == 2
        && moved_tensor(PyTuple_GetItem(pair, 0), PyTuple_GetItem(pair, 1), task);
}

/* One row for each item of a list. The first row, and the indices of the items that need the slow way. */
static PyObject *all(Rows *rows, PyObject *list, int (*understand)(PyObject *, Task *))
{
    if (!PyList_Check(list))
        return PyErr_Format(PyExc_TypeError, "a list is needed");
    Py_ssize_t count = PyList_Size(list), first = reserve(rows, count);
    PyObject *left = first < 0 ? NULL : PyList_New(0);
    for (Py_ssize_t i = 0; left != NULL && i < count && i < PyList_Size(list); i++) {
        PyObject *item = Py_NewRef(PyList_GetItem(list, i)), *index = NULL;
        Task task = {.saved = NULL, .sampled = 0};
        double row[ROW];
        if (understand(item, &task)) {
            reduce_politely(&task, row);
            put(rows, first + i, row);
        } else if ((index = PyLong_FromSsize_t(i)) == NULL || PyList_Append(left, index) < 0)
            Py_CLEAR(left);
        Py_XDECREF(index);
        Py_DECREF(item);
    }
    return left == NULL ? NULL : Py_BuildValue("nN", first, left);
}

static PyObject *rows_measure_all(Rows *self, PyObject *tensors) { return all(self, tensors, whole_tensor); }

static PyObject *rows_estimate_all(Rows *self, PyObject *tensors) { return all(self, tensors, sampled_tensor); }

static PyObject *rows_compare(Rows *self, PyObject *pairs) { return all(self, pairs, moved_pair); }

/* What measures one item of a list, with that of another list if there is one, into the rows at a distance of
   `count` from each other; whether it could. */
typedef int Measure(Rows *rows, Py_ssize_t number, Py_ssize_t count, PyObject *item, PyObject *other);

static int measure_gradient(Rows *rows, Py_ssize_t number, Py_ssize_t Py_UNUSED(count), PyObject *parameter,
                            PyObject *Py_UNUSED(other))
{
    Task task = {.saved = NULL, .sampled = 0};
    double row[ROW];
    PyObject *gradient = get(parameter, GRAD);
    int plain = gradient != NULL && whole_tensor(gradient, &task);
    if (plain) {
        reduce_politely(&task, row);
        put(rows, number, row);
    }
    Py_XDECREF(gradient);
    PyErr_Clear();
    return plain;
}

static int measure_step(Rows *rows, Py_ssize_t number, Py_ssize_t count, PyObject *parameter, PyObject *saved)
{
    Task task;
    double row[ROW];
    if (!moved_tensor(parameter, saved, &task))
        return 0;
    Py_INCREF(saved);
    reduce_politely(&task, row);
    put(rows, number + count, row);
    task.saved = NULL;
    reduce_politely(&task, row);
    put(rows, number, row);
    Py_DECREF(saved);
    return 1;
}

/* So many rows for each item. The first row, or None and no row when an item needs the slow way. What an optimizer has
   touched last is still in the caches, so it comes first. */
static PyObject *each(Rows *rows, int times, PyObject *list, PyObject *others, Measure *measure)
{
    Py_ssize_t count = PyList_Size(list), first = reserve(rows, times * count), left = count;
    if (first < 0)
        return NULL;
    for (int good = 1; good && left > 0; left -= good) {
        if (PyList_Size(list) != count || (others != NULL && PyList_Size(others) != count))
            break;
        PyObject *item = Py_NewRef(PyList_GetItem(list, left - 1));
        good = measure(rows, first + left - 1, count, item, others == NULL ? NULL : PyList_GetItem(others, left - 1));
        Py_DECREF(item);
    }
    if (left == 0)
        return PyLong_FromSsize_t(first);
    if (rows->used == first + times * count)
        rows->used = first;
    Py_RETURN_NONE;
}

static PyObject *rows_measure_gradients(Rows *self, PyObject *parameters)
{
    if (!PyList_Check(parameters))
        return PyErr_Format(PyExc_TypeError, "a list is needed");
    return each(self, 1, parameters, NULL, measure_gradient);
}

static PyObject *rows_measure_step(Rows *self, PyObject *args)
{
    PyObject *parameters, *saved;
    return PyArg_ParseTuple(args, "O!O!", &PyList_Type, &parameters, &PyList_Type, &saved)
        ? each(self, 2, parameters, saved, measure_step)
        : NULL;
}

static PyObject *rows_take(Rows *self, PyObject *Py_UNUSED(unused))
{
    const char *bytes = self->used ? (const char *)self->table : "";
    PyObject *taken = PyByteArray_FromStringAndSize(bytes, self->used * ROW * (Py_ssize_t)sizeof(double));
    if (taken != NULL) {
        self->used = 0;
        self->odd = 0;
    }
    return taken;
}

static void rows_dealloc(Rows *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyMem_Free(self->table);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *rows_finite(Rows *self, void *Py_UNUSED(closure)) { return PyBool_FromLong(!self->odd); }

static PyMethodDef methods[] = {
    {"measure", (PyCFunction)rows_measure, METH_O,
     "measure(tensor) -> int | None: the row of a plain contiguous CPU tensor; None for any other."},
    {"reduce", (PyCFunction)rows_reduce, METH_VARARGS,
     "reduce(data, count, dtype) -> int: the row of `count` elements at an address; dtypes count as in bind."},
    {"measure_all", (PyCFunction)rows_measure_all, METH_O,
     "measure_all(tensors) -> (int, list[int]): the first row, one each, and the indices of those that are not plain."},
    {"estimate_all", (PyCFunction)rows_estimate_all, METH_O,
     "estimate_all(tensors) -> (int, list[int]): as measure_all, from a sample of large tensors."},
    {"compare", (PyCFunction)rows_compare, METH_O,
     "compare([(tensor, saved)]) -> (int, list[int]): of the difference from what was saved; as measure_all."},
    {"measure_gradients", (PyCFunction)rows_measure_gradients, METH_O,
     "measure_gradients(parameters) -> int | None: the first row, one for each one's gradient; None: one is not plain."},
    {"measure_step", (PyCFunction)rows_measure_step, METH_VARARGS,
     "measure_step(parameters, saved) -> int | None: the first row, of values as in estimate_all, then of differences from "
     "what was saved as in compare; None: one is not plain."},
    {"take", (PyCFunction)rows_take, METH_NOARGS, "take() -> bytearray: all rows, five doubles each; none are left."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"used", T_PYSSIZET, offsetof(Rows, used), READONLY, "How many rows there are."},
    {"base", T_LONGLONG, offsetof(Rows, base), 0, "What the tickets of these rows begin with."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef computed[] = {
    {"finite", (getter)rows_finite, NULL, "Whether no tensor behind them held NaN or Inf.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Rows(): a growing table of what was measured, five doubles for each tensor."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, rows_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, computed},
    {0, NULL},
};

static PyType_Spec spec = {"gradscope.hooks.meters._kernel.Rows", sizeof(Rows), 0, Py_TPFLAGS_DEFAULT, slots};

PyTypeObject *make_rows_type(void) { return rows_type = (PyTypeObject *)PyType_FromSpec(&spec); }
