/* The short way of the hooks in hooks/modules.py, for what most modules do: return one plain tensor with a graph, and
   later get a plain gradient for it. Everything else, and whatever is odd, is left to the full way in Python: then a
   tap does nothing and says so.

   All of it runs under the interpreter's lock, and whatever could run other Python code comes before the first row is
   written. So a row and the entries that tell of it are made in one go. */

#include "kernel.h"

#define MOST (1 << 22) /* elements up to which nobody else waits long for the interpreter's lock */

static PyObject *n_append, *n_calls, *n_entries, *n_register_prehook, *n_sites, *n_tasks, *n_tickets, *forward_task;

static PyTypeObject *output_type;

typedef struct {
    PyObject_HEAD
    Rows *rows;
    PyObject *places, *flags, *ordinary, *clock, *guard, *full_way;
    PyObject *called, *measured, *arrived, *passed;
    PyObject *add_site, *add_ticket, *add_task, *calls;
    PyObject *last, *last_site, *last_ticket, *waiting;
    long long last_version, task;
    double spent;
    char listening;
} Tap;

typedef struct {
    PyObject_HEAD
    Tap *tap;
    PyObject *row, *sites, *fired, *guard;
    long long index;
} Output;

/* What both do. */

static void replace(PyObject **held, PyObject *newer)
{
    PyObject *before = *held;
    *held = newer;
    Py_XDECREF(before);
}

static double now(Tap *tap)
{
    PyObject *time = PyObject_CallNoArgs(tap->clock);
    double seconds = time == NULL ? 0 : PyFloat_AsDouble(time);
    Py_XDECREF(time);
    return seconds;
}

static int call(PyObject *function, PyObject *argument)
{
    PyObject *result = PyObject_CallFunctionObjArgs(function, argument, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int enter(Tap *tap, PyObject *site, PyObject *ticket, PyObject *task)
{
    return call(tap->add_site, site) < 0 || call(tap->add_ticket, ticket) < 0 || call(tap->add_task, task) < 0 ? -1 : 0;
}

static PyObject *measure(Tap *tap, const Flat *flat)
{
    Py_ssize_t row = measure_flat(tap->rows, flat);
    return row < 0 ? NULL : PyLong_FromLongLong(tap->rows->base | row);
}

static int short_enough(PyObject *tensor, Flat *flat) { return look_at(tensor, flat) && flat->count <= MOST; }

/* Outputs, whose gradients are waited for. */

static PyObject *make_output(Tap *tap, PyObject *row, PyObject *sites, long long index, PyObject *fired, PyObject *guard)
{
    Output *output = (Output *)PyType_GenericAlloc(output_type, 0);
    if (output != NULL) {
        output->tap = (Tap *)Py_NewRef((PyObject *)tap);
        output->row = Py_NewRef(row);
        output->sites = Py_NewRef(sites);
        output->fired = Py_NewRef(fired);
        output->guard = Py_NewRef(guard);
        output->index = index;
    }
    return (PyObject *)output;
}

static int note_gradient(Output *self, PyObject *gradient, PyObject *task)
{
    Flat flat;
    Tap *tap = self->tap;
    if (gradient != Py_None) {
        if (!unseen() || !short_enough(gradient, &flat))
            return 0;
        PyObject *ticket = measure(tap, &flat);
        int good = ticket != NULL;
        for (Py_ssize_t i = 0; good && i < PyList_Size(self->sites); i++)
            good = enter(tap, PyList_GetItem(self->sites, i), ticket, task) == 0;
        Py_XDECREF(ticket);
        if (!good)
            return -1;
    }
    return PyList_Append(tap->arrived, self->row) < 0 ? -1 : 1;
}

/* 1: done; 0: the full way has to do it; -1: an error. */
static int receive(Output *self, PyObject *gradients)
{
    int result;
    if (self->tap->task == -1 || gradients == NULL || self->tap->calls == NULL)
        return 0;
    PyObject *gradient = PyTuple_GetItem(gradients, (Py_ssize_t)self->index);
    PyObject *task = gradient == NULL ? NULL : PyLong_FromLongLong(self->tap->task);
    if (task == NULL)
        return -1;
    if (self->guard != Py_None)
        result = PySet_Contains(self->fired, task); /* the output's own gradient came first: nothing to stand in for */
    else {
        result = note_gradient(self, gradient, task);
        if (result == 1 && self->fired != Py_None && PySet_Add(self->fired, task) < 0)
            result = -1;
    }
    Py_DECREF(task);
    return result;
}

static PyObject *output_call(Output *self, PyObject *args, PyObject *Py_UNUSED(named))
{
    double start = now(self->tap);
    PyObject *gradients = PyTuple_GetItem(args, 0);
    if (receive(self, gradients) == 1) {
        self->tap->spent += now(self->tap) - start;
        Py_RETURN_NONE;
    }
    PyErr_Clear();
    return PyObject_CallFunctionObjArgs(self->tap->full_way, self, gradients, NULL);
}

static int output_traverse(Output *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->tap);
    Py_VISIT(self->row);
    Py_VISIT(self->sites);
    Py_VISIT(self->fired);
    Py_VISIT(self->guard);
    return 0;
}

static int output_clear(Output *self)
{
    Py_CLEAR(self->sites);
    Py_CLEAR(self->fired);
    Py_CLEAR(self->guard);
    return 0;
}

static void output_dealloc(Output *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    output_clear(self);
    Py_CLEAR(self->tap);
    Py_CLEAR(self->row);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef output_members[] = {
    {"row", T_OBJECT, offsetof(Output, row), READONLY, "The module that returned it."},
    {"sites", T_OBJECT, offsetof(Output, sites), READONLY, "The sites that its gradient is measured for."},
    {"fired", T_OBJECT, offsetof(Output, fired), READONLY, "Of a view, the backwards its gradient came in, or None."},
    {"guard", T_OBJECT, offsetof(Output, guard), READONLY, "For a view's base, which tells whether the view is as it was."},
    {"index", T_LONGLONG, offsetof(Output, index), READONLY, "Which of the node's outputs it is."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot output_slots[] = {
    {Py_tp_doc, "A measured output, whose gradient is waited for: a pre-hook of its autograd node."},
    {Py_tp_call, output_call},
    {Py_tp_dealloc, output_dealloc},
    {Py_tp_traverse, output_traverse},
    {Py_tp_clear, output_clear},
    {Py_tp_members, output_members},
    {0, NULL},
};

static PyType_Spec output_spec = {"gradscope.hooks.meters._kernel.Output", sizeof(Output), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                  output_slots};

PyTypeObject *make_output_type(void) { return output_type = (PyTypeObject *)PyType_FromSpec(&output_spec); }

/* The forward. */

typedef struct {
    PyObject *tensor, *node, *place, *row, *site, *gradient_site;
    Flat flat;
} Returned;

/* Whether a module runs as most do: whether every question has the answer that it should have. */
static int is_ordinary(Tap *tap)
{
    int same = 1;
    for (Py_ssize_t i = 0; same == 1 && i < PyTuple_Size(tap->ordinary); i++) {
        PyObject *pair = PyTuple_GetItem(tap->ordinary, i);
        PyObject *question = PyTuple_GetItem(pair, 0), *expected = PyTuple_GetItem(pair, 1);
        PyObject *answer = question == NULL || expected == NULL ? NULL : PyObject_CallNoArgs(question);
        same = answer == NULL ? -1 : PyObject_RichCompareBool(answer, expected, Py_EQ);
        Py_XDECREF(answer);
    }
    return same == 1;
}

/* Whether it is the output of a known module of the usual kind, of which then everything is known. */
static int understand(Tap *tap, PyObject *module, PyObject *tensor, Returned *returned)
{
    if (!tap->listening || tap->calls == NULL)
        return 0;
    if (!is_ordinary(tap) || !unseen() || !short_enough(tensor, &returned->flat) || !has(tensor, REQUIRES_GRAD))
        return 0;
    PyObject *key = PyLong_FromVoidPtr(module);
    PyObject *place = key == NULL ? NULL : PyDict_GetItemWithError(tap->places, key);
    Py_XDECREF(key);
    if (place == NULL)
        return 0;
    returned->tensor = tensor;
    returned->row = PyTuple_GetItem(place, 0);
    returned->site = PyTuple_GetItem(place, 1);
    returned->gradient_site = PyTuple_GetItem(place, 2);
    returned->node = get(tensor, GRAD_FN);
    if (returned->gradient_site != NULL && returned->node != NULL && returned->node != Py_None) {
        returned->place = Py_NewRef(place); /* what is borrowed of it lives as long */
        return 1;
    }
    Py_CLEAR(returned->node);
    return 0;
}

static int is_last(Tap *tap, PyObject *tensor)
{
    return tap->last != NULL && PyWeakref_GetObject(tap->last) == tensor
        && number(tensor, VERSION) == tap->last_version;
}

static void remember(Tap *tap, PyObject *reference, long long version, PyObject *site, PyObject *ticket,
                     PyObject *waiting)
{
    replace(&tap->last, Py_XNewRef(reference));
    replace(&tap->last_site, Py_XNewRef(site));
    replace(&tap->last_ticket, Py_XNewRef(ticket));
    replace(&tap->waiting, Py_XNewRef(waiting));
    tap->last_version = version;
}

static int hook(PyObject *node, PyObject *output)
{
    PyObject *handle = output == NULL ? NULL : PyObject_CallMethodObjArgs(node, n_register_prehook, output, NULL);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

/* A view that is modified in place gets a new node, and its own hook never fires; its base's does. */
static int hook_base(Tap *tap, const Returned *returned, PyObject *sites, PyObject *fired)
{
    PyObject *base = get(returned->tensor, BASE), *node = NULL, *guard = NULL, *output = NULL;
    int result = -1;
    Flat flat;
    if (base != NULL && (node = get(base, GRAD_FN)) != NULL && node != Py_None && look_at(base, &flat)
        && flat.count == returned->flat.count
        && (guard = PyObject_CallFunctionObjArgs(tap->guard, returned->tensor, NULL)) != NULL) {
        output = make_output(tap, returned->row, sites, number(base, OUTPUT_NR), fired, guard);
        result = hook(node, output);
    }
    Py_XDECREF(base);
    Py_XDECREF(node);
    Py_XDECREF(guard);
    Py_XDECREF(output);
    return result;
}

static int hook_output(Tap *tap, const Returned *returned, PyObject *sites)
{
    int view = says(returned->tensor, IS_VIEW), result = -1;
    PyObject *fired = view ? PySet_New(NULL) : Py_NewRef(Py_None);
    PyObject *output = fired == NULL
        ? NULL
        : make_output(tap, returned->row, sites, number(returned->tensor, OUTPUT_NR), fired, Py_None);
    if (output != NULL && (!view || hook_base(tap, returned, sites, fired) == 0))
        result = hook(returned->node, output);
    Py_XDECREF(fired);
    Py_XDECREF(output);
    return result;
}

static int note_call(Tap *tap, PyObject *row)
{
    PyObject *known = PyDict_GetItemWithError(tap->calls, row), *flags = known == NULL ? Py_NewRef(tap->flags) : NULL;
    if (known != NULL)
        flags = PyNumber_Or(known, tap->flags);
    int result = flags == NULL || PyDict_SetItem(tap->calls, row, flags) < 0 || PySet_Add(tap->called, row) < 0 ? -1 : 0;
    Py_XDECREF(flags);
    return result;
}

static int note_node(Tap *tap, const Returned *returned)
{
    PyObject *pair = PyTuple_Pack(2, returned->node, returned->row);
    int result = pair == NULL ? -1 : PyList_Append(tap->passed, pair);
    Py_XDECREF(pair);
    return result;
}

/* The very tensor that the module before returned: a container's, which waits for the same gradient. */
static int take_again(Tap *tap, const Returned *returned)
{
    if (!PyList_Size(tap->waiting) || PyObject_RichCompareBool(tap->last_site, returned->site, Py_EQ) != 0)
        return 0;
    if (note_node(tap, returned) < 0 || PyList_Append(tap->waiting, returned->gradient_site) < 0)
        return -1;
    replace(&tap->last_site, Py_NewRef(returned->site));
    if (PySet_Add(tap->measured, returned->site) < 0)
        return -1;
    return enter(tap, returned->site, tap->last_ticket, forward_task) < 0 ? -1 : 1;
}

static int take_new(Tap *tap, const Returned *returned)
{
    PyObject *sites = PyList_New(0), *reference = PyWeakref_NewRef(returned->tensor, NULL), *ticket = NULL;
    int good = sites != NULL && reference != NULL && PyList_Append(sites, returned->gradient_site) == 0
        && hook_output(tap, returned, sites) == 0 && note_node(tap, returned) == 0
        && PySet_Add(tap->measured, returned->site) == 0;
    if (good && (ticket = measure(tap, &returned->flat)) != NULL) {
        good = enter(tap, returned->site, ticket, forward_task) == 0;
        remember(tap, reference, number(returned->tensor, VERSION), returned->site, ticket, sites);
    }
    good = good && ticket != NULL;
    Py_XDECREF(sites);
    Py_XDECREF(reference);
    Py_XDECREF(ticket);
    return good ? 1 : -1;
}

static PyObject *tap_forward(Tap *self, PyObject *args)
{
    PyObject *module, *tensor;
    Returned returned;
    if (!PyArg_UnpackTuple(args, "forward", 2, 2, &module, &tensor))
        return NULL;
    double start = self->listening ? now(self) : 0;
    int taken = understand(self, module, tensor, &returned);
    if (taken) {
        taken = is_last(self, tensor) ? take_again(self, &returned) : take_new(self, &returned);
        if (taken == 1)
            taken = note_call(self, returned.row) == 0;
        Py_DECREF(returned.node);
        Py_DECREF(returned.place);
        self->spent += now(self) - start;
    }
    PyErr_Clear();
    return PyBool_FromLong(taken == 1);
}

/* What the full way tells a tap, and asks it. */

static PyObject *tap_output(Tap *self, PyObject *args)
{
    PyObject *row, *sites, *fired, *guard;
    long long index;
    if (!PyArg_ParseTuple(args, "OO!LOO", &row, &PyList_Type, &sites, &index, &fired, &guard))
        return NULL;
    return make_output(self, row, sites, index, fired, guard);
}

static PyObject *tap_connect(Tap *self, PyObject *args)
{
    PyObject *guard, *full_way;
    if (!PyArg_UnpackTuple(args, "connect", 2, 2, &guard, &full_way))
        return NULL;
    replace(&self->guard, Py_NewRef(guard));
    replace(&self->full_way, Py_NewRef(full_way));
    Py_RETURN_NONE;
}

static int follow(PyObject *entries, PyObject *name, PyObject **append)
{
    PyObject *column = PyObject_GetAttr(entries, name);
    PyObject *method = column == NULL ? NULL : PyObject_GetAttr(column, n_append);
    Py_XDECREF(column);
    if (method != NULL)
        replace(append, method);
    return method == NULL ? -1 : 0;
}

static PyObject *tap_follow(Tap *self, PyObject *log)
{
    PyObject *entries = PyObject_GetAttr(log, n_entries), *calls = PyObject_GetAttr(log, n_calls);
    int good = entries != NULL && calls != NULL && follow(entries, n_sites, &self->add_site) == 0
        && follow(entries, n_tickets, &self->add_ticket) == 0 && follow(entries, n_tasks, &self->add_task) == 0;
    Py_XDECREF(entries);
    if (!good) {
        Py_XDECREF(calls);
        return NULL;
    }
    replace(&self->calls, calls);
    Py_RETURN_NONE;
}

static PyObject *tap_again(Tap *self, PyObject *tensor)
{
    if (!is_last(self, tensor))
        Py_RETURN_NONE;
    return PyTuple_Pack(3, self->last_site, self->last_ticket, self->waiting);
}

static PyObject *tap_remember(Tap *self, PyObject *args)
{
    PyObject *tensor, *site, *ticket, *waiting;
    if (!PyArg_ParseTuple(args, "OOOO!", &tensor, &site, &ticket, &PyList_Type, &waiting))
        return NULL;
    PyObject *reference = PyWeakref_NewRef(tensor, NULL);
    if (reference == NULL)
        return NULL;
    remember(self, reference, number(tensor, VERSION), site, ticket, waiting);
    Py_DECREF(reference);
    Py_RETURN_NONE;
}

static PyObject *tap_forget(Tap *self, PyObject *Py_UNUSED(unused))
{
    remember(self, NULL, 0, NULL, NULL, NULL);
    Py_RETURN_NONE;
}

static int tap_traverse(Tap *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    for (PyObject **each = (PyObject **)&self->rows; each <= &self->waiting; each++)
        Py_VISIT(*each);
    return 0;
}

static int tap_clear(Tap *self)
{
    for (PyObject **each = (PyObject **)&self->rows; each <= &self->waiting; each++)
        Py_CLEAR(*each);
    return 0;
}

static void tap_dealloc(Tap *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    tap_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *tap_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(named))
{
    PyObject *rows, *places, *flags, *ordinary, *clock;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O", rows_type, &rows, &PyDict_Type, &places, &PyLong_Type, &flags,
                          &PyTuple_Type, &ordinary, &clock))
        return NULL;
    Tap *self = (Tap *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->rows = (Rows *)Py_NewRef(rows);
    self->places = Py_NewRef(places);
    self->flags = Py_NewRef(flags);
    self->ordinary = Py_NewRef(ordinary);
    self->clock = Py_NewRef(clock);
    self->task = -1;
    self->called = PySet_New(NULL);
    self->measured = PySet_New(NULL);
    self->arrived = PyList_New(0);
    self->passed = PyList_New(0);
    if (self->called == NULL || self->measured == NULL || self->arrived == NULL || self->passed == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef tap_methods[] = {
    {"connect", (PyCFunction)tap_connect, METH_VARARGS,
     "connect(guard, full_way): what makes a guard of a view, and what is called with (output, gradients)."},
    {"follow", (PyCFunction)tap_follow, METH_O, "follow(log): write into this log from now on."},
    {"forward", (PyCFunction)tap_forward, METH_VARARGS,
     "forward(module, output) -> bool: note what a module has returned; False when the full way has to."},
    {"output", (PyCFunction)tap_output, METH_VARARGS,
     "output(row, sites, index, fired, guard) -> Output: the pre-hook for an autograd node."},
    {"again", (PyCFunction)tap_again, METH_O,
     "again(tensor) -> (site, ticket, sites) | None: of the output measured last, if this is it, unchanged."},
    {"remember", (PyCFunction)tap_remember, METH_VARARGS,
     "remember(tensor, site, ticket, sites): the output measured last, and the sites that await its gradient."},
    {"forget", (PyCFunction)tap_forget, METH_NOARGS, "forget(): the output measured last."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef tap_members[] = {
    {"listening", T_BOOL, offsetof(Tap, listening), 0, "Whether outputs may take the short way."},
    {"task", T_LONGLONG, offsetof(Tap, task), 0, "The backward whose gradients may take the short way, or -1."},
    {"spent", T_DOUBLE, offsetof(Tap, spent), READONLY, "Seconds spent so far."},
    {"called", T_OBJECT, offsetof(Tap, called), READONLY, "The rows of the modules that have returned."},
    {"measured", T_OBJECT, offsetof(Tap, measured), READONLY, "The sites of outputs that were measured."},
    {"arrived", T_OBJECT, offsetof(Tap, arrived), READONLY, "The rows of the modules whose gradients arrived."},
    {"passed", T_OBJECT, offsetof(Tap, passed), READONLY, "The (node, row) of outputs."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot tap_slots[] = {
    {Py_tp_doc, "Tap(rows, places, flags, ordinary, clock): the short way of hooks; see gradscope/hooks/tap.py."},
    {Py_tp_new, tap_new},
    {Py_tp_dealloc, tap_dealloc},
    {Py_tp_traverse, tap_traverse},
    {Py_tp_clear, tap_clear},
    {Py_tp_methods, tap_methods},
    {Py_tp_members, tap_members},
    {0, NULL},
};

static PyType_Spec tap_spec = {"gradscope.hooks.meters._kernel.Tap", sizeof(Tap), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, tap_slots};

PyTypeObject *make_tap_type(void) { return (PyTypeObject *)PyType_FromSpec(&tap_spec); }

int prepare_tap(void)
{
    const struct {
        PyObject **name;
        const char *text;
    } names[] = {{&n_append, "append"}, {&n_calls, "calls"}, {&n_entries, "entries"}, {&n_sites, "sites"},
                 {&n_register_prehook, "register_prehook"}, {&n_tasks, "tasks"}, {&n_tickets, "tickets"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((*names[i].name = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    return (forward_task = PyLong_FromLong(-1)) == NULL ? -1 : 0;
}
