"""The Triton kernels of the fused meter: each reads a tensor once and takes all of its statistics.

Several programs share a tensor. Each reduces block after block in registers, adds up what it finds in double
precision, and writes one slot of (sum, sum of squares, min, max): no atomics, nothing to reset, the same bits on
every run.

A block is shifted by its midrange and scaled by its range before single precision squares it. So nothing
overflows or vanishes at 1e25 or 1e-25, the deviation of values far from zero keeps its digits, and one huge element
costs precision only in proportion to what it adds to the deviation. Double precision for each element would do as
well, but consumer GPUs run it at a 64th of the speed; here each block needs it a dozen times.
"""

import triton
import triton.language as tl


# A number that is 1 or a multiple of 16 would otherwise be compiled into a kernel of its own.
@triton.jit(do_not_specialize=["numel", "first"])
def one(elements: tl.tensor, numel: tl.int64, slots: tl.tensor, first: tl.int64, size: tl.constexpr) -> None:
    """Reduce one tensor into the slots from `first` on, in blocks of `size` elements; each program is a part."""
    part = tl.program_id(0).to(tl.int64)
    _reduce(elements, numel, part, tl.num_programs(0), slots + (first + part) * 4, size)


@triton.jit(do_not_specialize=["first"])
def many(
    table: tl.tensor,
    slots: tl.tensor,
    first: tl.int64,
    element: tl.constexpr,
    aligned: tl.constexpr,
    size: tl.constexpr,
) -> None:
    """Reduce many tensors of `element`s. The table holds for each program the place of its tensor's row in the table.

    A row is (address, elements, first program, programs). `aligned`: all addresses are multiples of 16.
    """
    program = tl.program_id(0).to(tl.int64)
    row = table + tl.load(table + program)
    elements = tl.load(row).to(tl.pointer_type(element))
    if aligned:
        elements = tl.multiple_of(elements, 16)
    part = program - tl.load(row + 2)
    _reduce(elements, tl.load(row + 1), part, tl.load(row + 3), slots + (first + program) * 4, size)


@triton.jit
def _reduce(
    elements: tl.tensor, numel: tl.tensor, part: tl.tensor, parts: tl.tensor, slot: tl.tensor, size: tl.constexpr
) -> None:
    """Reduce every `parts`-th block of a tensor, from number `part` on, into a slot."""
    total = tl.full([], 0.0, tl.float64)
    squares = tl.full([], 0.0, tl.float64)
    low = tl.full([], float("inf"), tl.float64)
    high = tl.full([], float("-inf"), tl.float64)
    places = tl.arange(0, size)
    whole = numel // size
    for block in range(part, whole, parts):  # without a mask, which would narrow the loads to one element
        x = tl.load(elements + block * size + places)
        more, more_squares, lower, higher = _moments(x, True, size * 1.0)
        total += more
        squares += more_squares
        low = tl.minimum(low, lower)
        high = tl.maximum(high, higher)
    rest = numel - whole * size
    if (rest > 0) & (whole % parts == part):
        inside = places < rest
        x = tl.load(elements + whole * size + places, mask=inside, other=0.0)
        more, more_squares, lower, higher = _moments(x, inside, rest.to(tl.float64))
        total += more
        squares += more_squares
        low = tl.minimum(low, lower)
        high = tl.maximum(high, higher)
    tl.store(slot, total)
    tl.store(slot + 1, squares)
    tl.store(slot + 2, low)
    tl.store(slot + 3, high)


@triton.jit
def _moments(x: tl.tensor, inside: tl.tensor, count: tl.tensor) -> tl.tensor:
    """Sum, sum of squares, min and max in double precision of the `count` elements `inside`; the others are 0.

    The sum of squares is NaN where an element is NaN, and only there.
    """
    if x.dtype == tl.float64:
        low = tl.min(tl.where(inside, x, float("inf")))
        high = tl.max(tl.where(inside, x, float("-inf")))
        return tl.sum(x), tl.sum(x * x), low, high
    x = x.to(tl.float32)
    low = tl.min(tl.where(inside, x, float("inf")))
    high = tl.max(tl.where(inside, x, float("-inf")))
    middle = low * 0.5 + high * 0.5
    finite = tl.abs(middle) < float("inf")
    center = tl.where(finite, middle, 0.0)
    # Within limits, so that neither the range nor its inverse is infinite or subnormal. Literals, because Triton
    # looks at every global on every launch.
    inverse = 1.0 / tl.minimum(tl.maximum(high - low, 1e-30), 1e36)
    scaled = tl.where(inside, (x - center) * inverse, 0.0)
    shift = center.to(tl.float64)
    scale = 1.0 / inverse.to(tl.float64)
    total = tl.sum(scaled).to(tl.float64) * scale
    squares = tl.sum(scaled * scaled).to(tl.float64) * scale * scale
    mixed = tl.where(finite, 2.0 * shift * total, 0.0)  # otherwise 0 * inf
    return count * shift + total, count * shift * shift + mixed + squares, low.to(tl.float64), high.to(tl.float64)
