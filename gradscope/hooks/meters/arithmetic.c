#include "arithmetic.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define BLOCK 4096
#define RUN 16       /* elements of a sample that lie side by side: a cache line of float32 */
#define SAMPLED 4096 /* elements up to which a sample is everything */
#define RAREST 64

/* Blocks of squares between these are exact enough in single precision. */
#define LEAST 1e-28f
#define MOST 1e36f

const size_t element_size[DTYPES] = {4, 8, 2, 2};

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
    for (size_t done = 0, n; done < count; done += n, data += n * element_size[dtype]) {
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

/* What `n` elements have moved by, or are when nothing was saved, as the next elements of a block. */
INLINE void subtract(const char *data, const char *saved, size_t n, int dtype, Floats *out, size_t filled)
{
    if (saved == NULL) {
        Floats wide;
        memcpy(out->f + filled, as_floats(data, n, dtype, &wide), n * sizeof(float));
        return;
    }
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
        apart[i] = then == NULL ? now[i] : now[i] - then[i];
    add(state, part_of_doubles(apart, n, 0));
}

/* How many runs lie between two sampled ones: none in small tensors, at most 64 in large ones, and never a
   power of two, which would meet the same columns of every row of a matrix. */
static size_t stride_of(size_t count)
{
    size_t stride = count / SAMPLED;
    return stride < 2 ? 1 : (stride > RAREST ? RAREST : stride) | 1;
}

size_t sampled_of(size_t count)
{
    size_t period = RUN * stride_of(count), rest = count % period;
    return count / period * RUN + (rest < RUN ? rest : RUN);
}

/* Of every `stride` runs one was saved; without gaps, the runs are as long as a block. */
INLINE void compare_body(const char *data, const char *saved, size_t count, int dtype, double *row)
{
    State state = {{0, 0, INFINITY, -INFINITY}, 0};
    Floats moved;
    size_t size = element_size[dtype], stride = stride_of(count), run = stride == 1 ? BLOCK : RUN, filled = 0, done = 0;
    for (size_t at = 0; at < count; at += run * stride) {
        size_t n = count - at < run ? count - at : run;
        const char *now = data + at * size, *then = saved == NULL ? NULL : saved + done * size;
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
        if (done == n && saved == NULL)
            state.pivot = middle(moved.f[0], moved.f[n / 2], moved.f[n - 1]);
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

WIDE static void compare_wide(const char *data, const char *saved, size_t count, int dtype, double *row)
{
    compare_body(data, saved, count, dtype, row);
}
#endif

static void reduce_plain(const char *data, size_t count, int dtype, double *row)
{
    reduce_body(data, count, dtype, row);
}

static void compare_plain(const char *data, const char *saved, size_t count, int dtype, double *row)
{
    compare_body(data, saved, count, dtype, row);
}

static void (*reduce)(const char *, size_t, int, double *) = reduce_plain;
static void (*compare)(const char *, const char *, size_t, int, double *) = compare_plain;

void choose_instructions(void)
{
#if HAS_WIDE
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        reduce = reduce_wide;
        compare = compare_wide;
    }
#endif
}

void reduce_elements(const char *data, size_t count, int dtype, double *row) { reduce(data, count, dtype, row); }

void save_elements(const char *data, size_t count, int dtype, char *saved)
{
    size_t size = element_size[dtype], stride = stride_of(count), whole = count * size;
    size_t run = stride == 1 ? whole : RUN * size;
    for (size_t at = 0; at < whole; at += run * stride) {
        size_t n = whole - at < run ? whole - at : run;
        memcpy(saved, data + at, n);
        saved += n;
    }
}

void compare_elements(const char *data, const char *saved, size_t count, int dtype, double *row)
{
    compare(data, saved, count, dtype, row);
    double scale = (double)count / row[0];
    row[0] = (double)count;
    row[1] *= scale;
    row[2] *= scale;
}
