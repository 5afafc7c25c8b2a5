/* Reduces tensors on the CPU in one pass: count, sum, sum of squares, min and max, as five doubles.

   A row of five doubles is the stored form of gradscope/records.py. All functions take the address of the
   first row they write; the caller owns that memory. Nothing here calls torch's kernels: of a tensor only its
   address, size and dtype are asked for, by the attributes that Python code would use, so that the module
   needs no header of torch and no particular version of it.

   Accuracy: single precision around a pivot, in blocks, whose sums are added up in double precision. A block
   whose squares leave the range of single precision is done again in double precision. */

#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define BLOCK 4096
#define ROW 5
#define RELEASE (1 << 18) /* elements from which on other threads may run meanwhile */
#define RUN 16            /* elements of a sample that lie side by side: a cache line of float32 */
#define SAMPLED 4096      /* elements up to which a sample is everything */
#define RAREST 64

/* Blocks of squares between these are exact enough in single precision. */
#define LEAST 1e-28f
#define MOST 1e36f

enum { FLOAT32, FLOAT64, FLOAT16, BFLOAT16, DTYPES };
static const size_t SIZES[DTYPES] = {4, 8, 2, 2};

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define INLINE static inline __attribute__((always_inline))
#define WIDE __attribute__((target("avx2,fma")))
#define HAS_WIDE 1
#else
#define INLINE static inline
#define HAS_WIDE 0
#endif

typedef struct {
    double sum, squares, low, high;
} Part;

typedef struct {
    Part total;
    double pivot;
} State;

typedef union {
    float f[BLOCK];
    uint32_t u[BLOCK];
} Floats;

/* Around a pivot, what one block of elements has; lanes side by side, so that the compiler makes vectors of them.
   A comparison with NaN is false, so min and max pass over it; it stays in the squares. */
#define PART_OF(NAME, ELEMENT, REAL)                                                            \
    INLINE Part NAME(const ELEMENT *x, size_t n, REAL pivot)                                    \
    {                                                                                           \
        REAL sums[LANES] = {0}, squares[LANES] = {0};                                            \
        ELEMENT low[LANES], high[LANES];                                                        \
        Part part = {0, 0, INFINITY, -INFINITY};                                                \
        size_t i = 0;                                                                           \
        for (int l = 0; l < LANES; l++) {                                                       \
            low[l] = INFINITY;                                                                  \
            high[l] = -INFINITY;                                                                \
        }                                                                                       \
        for (; i + LANES <= n; i += LANES)                                                      \
            for (int l = 0; l < LANES; l++)                                                     \
                ADD(l, ELEMENT, REAL, x[i + l])                                                 \
        for (; i < n; i++)                                                                      \
            ADD(0, ELEMENT, REAL, x[i])                                                         \
        for (int l = 0; l < LANES; l++) {                                                       \
            part.sum += sums[l];                                                                \
            part.squares += squares[l];                                                         \
            part.low = low[l] < part.low ? low[l] : part.low;                                   \
            part.high = high[l] > part.high ? high[l] : part.high;                              \
        }                                                                                       \
        return part;                                                                            \
    }

#define ADD(l, ELEMENT, REAL, element)                                                          \
    {                                                                                           \
        ELEMENT value = element;                      \
        REAL apart = (REAL)value - pivot;                                                      \
        sums[l] += apart;                                                                       \
        squares[l] += apart * apart;                                                            \
        low[l] = value < low[l] ? value : low[l];                                               \
        high[l] = value > high[l] ? value : high[l];                                            \
    }

PART_OF(part_in_single, float, float)
PART_OF(part_in_double, float, double)
PART_OF(part_of_doubles, double, double)

static void add(State *state, Part part)
{
    state->total.sum += part.sum;
    state->total.squares += part.squares;
    state->total.low = part.low < state->total.low ? part.low : state->total.low;
    state->total.high = part.high > state->total.high ? part.high : state->total.high;
}

/* The pivot of a block is the mean of the block before it. */
INLINE void add_block(State *state, const float *x, size_t n)
{
    double pivot = state->pivot, count = (double)n;
    Part part = part_in_single(x, n, (float)pivot);
    if (part.squares > LEAST && part.squares < MOST) {
        state->pivot = (float)(pivot + part.sum / count);
        part.squares += 2 * pivot * part.sum + count * pivot * pivot;
        part.sum += count * pivot;
    } else {
        state->pivot = 0;
        part = part_in_double(x, n, 0);
    }
    add(state, part);
}

static void write_row(const State *state, size_t count, double *row)
{
    int nan = isnan(state->total.squares);
    row[0] = (double)count;
    row[1] = state->total.sum;
    row[2] = state->total.squares;
    row[3] = nan ? NAN : state->total.low;
    row[4] = nan ? NAN : state->total.high;
}

/* Exponent and mantissa of a half moved to their places in a float, whose exponent is then off by 112. */
INLINE void widen_float16(const uint16_t *x, size_t n, Floats *out)
{
    for (size_t i = 0; i < n; i++) {
        float magnitude;
        uint32_t bits = (uint32_t)(x[i] & 0x7fff) << 13;
        memcpy(&magnitude, &bits, sizeof bits);
        magnitude *= 0x1p112f;
        memcpy(&bits, &magnitude, sizeof bits);
        bits |= (x[i] & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
        out->u[i] = bits | (uint32_t)(x[i] & 0x8000) << 16;
    }
}

/* A block as floats: where it lies, or widened. */
INLINE const float *as_floats(const char *data, size_t n, int dtype, Floats *space)
{
    const uint16_t *halves = (const uint16_t *)data;
    if (dtype == FLOAT32)
        return (const float *)data;
    if (dtype == FLOAT16)
        widen_float16(halves, n, space);
    else
        for (size_t i = 0; i < n; i++)
            space->u[i] = (uint32_t)halves[i] << 16;
    return space->f;
}

/* The median of three, which one outlier does not move; 0 where it is not finite. */
INLINE float middle(float a, float b, float c)
{
    float low = b < c ? b : c, high = b < c ? c : b, median = a < low ? low : a > high ? high : a;
    return isfinite(median) ? median : 0;
}

INLINE void reduce_body(const char *data, size_t count, int dtype, double *row)
{
    State state = {{0, 0, INFINITY, -INFINITY}, 0};
    Floats space;
    for (size_t done = 0, n; done < count; done += n, data += n * SIZES[dtype]) {
        n = count - done < BLOCK ? count - done : BLOCK;
        if (dtype == FLOAT64) {
            add(&state, part_of_doubles((const double *)data, n, 0));
            continue;
        }
        const float *block = as_floats(data, n, dtype, &space);
        if (done == 0)
            state.pivot = middle(block[0], block[n / 2], block[n - 1]);
        add_block(&state, block, n);
    }
    write_row(&state, count, row);
}

/* What `n` elements have moved by, as the next elements of a block. */
INLINE void subtract(const char *data, const char *saved, size_t n, int dtype, Floats *out, size_t filled)
{
    if (dtype == FLOAT32) {
        const float *now = (const float *)data, *then = (const float *)saved;
        for (size_t i = 0; i < n; i++)
            out->f[filled + i] = now[i] - then[i];
        return;
    }
    Floats wide_now, wide_then;
    const float *now = as_floats(data, n, dtype, &wide_now), *then = as_floats(saved, n, dtype, &wide_then);
    for (size_t i = 0; i < n; i++)
        out->f[filled + i] = now[i] - then[i];
}

INLINE void compare_doubles(State *state, const double *now, const double *then, size_t n)
{
    double apart[BLOCK];
    for (size_t i = 0; i < n; i++)
        apart[i] = now[i] - then[i];
    add(state, part_of_doubles(apart, n, 0));
}

/* Of every `stride` runs one was saved; without gaps, the runs are as long as a block. */
INLINE void compare_body(const char *data, const char *saved, size_t count, size_t stride, int dtype, double *row)
{
    State state = {{0, 0, INFINITY, -INFINITY}, 0};
    Floats moved;
    size_t size = SIZES[dtype], run = stride == 1 ? BLOCK : RUN, filled = 0, done = 0;
    for (size_t at = 0; at < count; at += run * stride) {
        size_t n = count - at < run ? count - at : run;
        const char *now = data + at * size, *then = saved + done * size;
        done += n;
        if (dtype == FLOAT64) {
            compare_doubles(&state, (const double *)now, (const double *)then, n);
            continue;
        }
        if (n == RUN) /* a length that the compiler knows */
            subtract(now, then, RUN, dtype, &moved, filled);
        else
            subtract(now, then, n, dtype, &moved, filled);
        filled += n;
        if (filled + run > BLOCK) {
            add_block(&state, moved.f, filled);
            filled = 0;
        }
    }
    if (filled)
        add_block(&state, moved.f, filled);
    write_row(&state, done, row);
}

#if HAS_WIDE
WIDE static void reduce_wide(const char *data, size_t count, int dtype, double *row)
{
    reduce_body(data, count, dtype, row);
}

WIDE static void compare_wide(const char *data, const char *saved, size_t n, size_t stride, int dtype, double *row)
{
    compare_body(data, saved, n, stride, dtype, row);
}
#endif

static void reduce_plain(const char *data, size_t count, int dtype, double *row)
{
    reduce_body(data, count, dtype, row);
}

static void compare_plain(const char *data, const char *saved, size_t n, size_t stride, int dtype, double *row)
{
    compare_body(data, saved, n, stride, dtype, row);
}

static void (*reduce_elements)(const char *, size_t, int, double *) = reduce_plain;
static void (*compare_elements)(const char *, const char *, size_t, size_t, int, double *) = compare_plain;

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
static PyObject *n_dtype, *n_is_cpu, *n_is_nested, *n_is_neg, *n_is_contiguous, *n_numel, *n_data_ptr, *n_storage_offset, *n_grad,
    *n_version;

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
        size_t offset = number(tensor, n_storage_offset) * SIZES[flat->dtype];
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

static PyObject *kernel_measure_all(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "measure_all(tensors, rows) takes 2 arguments");
    char *rows = address(args[1]);
    return PyErr_Occurred() ? NULL : each(args[0], rows, ROW * sizeof(double), measure_one, NULL);
}

/* How many runs lie between two sampled ones: none in small tensors, at most 64 in large ones, and never a
   power of two, which would meet the same columns of every row of a matrix. */
static size_t stride_of(size_t count)
{
    size_t stride = count / SAMPLED;
    return stride < 2 ? 1 : (stride > RAREST ? RAREST : stride) | 1;
}

static size_t sampled_of(size_t count, size_t stride)
{
    size_t period = RUN * stride, rest = count % period;
    return count / period * RUN + (rest < RUN ? rest : RUN);
}

static PyObject *sample(PyObject *tensor)
{
    Flat flat;
    if (!look_at(tensor, &flat))
        Py_RETURN_NONE;
    size_t size = SIZES[flat.dtype], stride = stride_of(flat.count), length = sampled_of(flat.count, stride) * size;
    PyObject *saved = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (saved == NULL)
        return NULL;
    char *out = PyBytes_AsString(saved);
    if (stride == 1) {
        memcpy(out, flat.data, length);
        return saved;
    }
    for (size_t at = 0, step = RUN * stride * size, whole = flat.count * size; at < whole; at += step) {
        size_t n = whole - at < RUN * size ? whole - at : RUN * size;
        memcpy(out, flat.data + at, n);
        out += n;
    }
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
    double *numbers = (double *)row;
    (void)extra;
    PyObject *saved = PyTuple_GetItem(pair, 1);
    if (saved == NULL || !PyBytes_Check(saved) || !look_at(PyTuple_GetItem(pair, 0), &flat)) {
        PyErr_Clear();
        return 0;
    }
    size_t stride = stride_of(flat.count), sampled = sampled_of(flat.count, stride);
    if ((size_t)PyBytes_Size(saved) != sampled * SIZES[flat.dtype])
        return 0;
    compare_elements(flat.data, PyBytes_AsString(saved), flat.count, stride, flat.dtype, numbers);
    double scale = (double)flat.count / (double)sampled;
    numbers[0] = (double)flat.count;
    numbers[1] *= scale;
    numbers[2] *= scale;
    return 1;
}

static PyObject *kernel_compare(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "compare(pairs, rows) takes 2 arguments");
    char *rows = address(args[1]);
    return PyErr_Occurred() ? NULL : each(args[0], rows, ROW * sizeof(double), compare_one, NULL);
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
#if HAS_WIDE
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        reduce_elements = reduce_wide;
        compare_elements = compare_wide;
    }
#endif
    return PyModule_Create(&definition);
}
