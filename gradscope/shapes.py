"""What torch's messages about shapes say, and what to do about them. Pure functions."""

import re
from collections.abc import Callable
from typing import TypeAlias

from gradscope.traces import Failure

Shape: TypeAlias = tuple[int, ...]
Reader: TypeAlias = Callable[[re.Match[str], Failure], str]


def remedy(failure: Failure) -> str:
    """What to do about a failure on shapes; "" if it is none."""
    if failure.expected is not None and failure.got is not None:
        return _pair(failure.expected, failure.got)
    for pattern, read in READERS:
        found = pattern.search(failure.message)
        if found:
            return read(found, failure)
    return ""


def _pair(expected: Shape, got: Shape) -> str:
    """How to turn one shape into the other."""
    if got != expected and got == (*expected[:-2], *expected[:-3:-1]):
        return f"a transposition explains it: {_spoken(got)} becomes {_spoken(expected)} with .transpose(-2, -1)"
    if sorted(got) == sorted(expected):
        return f"the sizes fit in another order: permute {_spoken(got)} to {_spoken(expected)}"
    if [size for size in got if size != 1] == [size for size in expected if size != 1]:
        return "add or drop the dimension of size 1, with unsqueeze() or squeeze()"
    if len(got) >= len(expected) and all(b in (1, a) for a, b in zip(got[::-1], expected[::-1], strict=False)):
        return f"sum over what was broadcast: gradient.sum_to_size({_spoken(expected)})"
    return f"make it {_spoken(expected)}; no transposition of {_spoken(got)} fits"


def _read_pair(found: re.Match[str], _: Failure) -> str:
    return _pair(_sizes(found["expected"]), _sizes(found["got"]))


def _read_product(found: re.Match[str], failure: Failure) -> str:
    rows, columns, inner, outer = (int(size) for size in found.groups())
    layer = failure.phase == "forward" and "weight" in dict(failure.operands)
    if columns == outer and layer:
        return f"its in_features and out_features look exchanged: it takes {inner} features and was given {columns}"
    if columns == outer:
        return f"a transposition explains it: {rows}x{columns} and {outer}x{inner} fit, so transpose the second"
    if rows == inner:
        return f"a transposition explains it: {columns}x{rows} and {inner}x{outer} fit, so transpose the first"
    if layer:
        return f"the layer takes {inner} features and was given {columns}: change in_features or what comes before it"
    return f"the inner sizes must be equal: {columns} columns met {inner} rows; no transposition makes them fit"


def _read_channels(found: re.Match[str], _: Failure) -> str:
    shape, wanted, given = _sizes(found[1]), int(found[2]), int(found[3])
    if shape[-1] == wanted:
        return f"a transposition explains it: the {wanted} channels come last; use input.movedim(-1, 1)"
    return f"the layer takes {wanted} channels and was given {given}: change in_channels or what comes before it"


def _read_elements(found: re.Match[str], failure: Failure) -> str:
    shapes = dict(failure.operands)
    for name, shape in shapes.items():
        for other, its in shapes.items():
            if shape != its and shape[::-1] == its:
                return f"a transposition explains it: {name} transposed has the shape of {other}"
    return f"sizes must be equal or 1: {found[1]} met {found[2]} in dimension {found[3]}"


def _read_hint(found: re.Match[str], _: Failure) -> str:
    return next(hint for pattern, hint in HINTS if pattern == found.re.pattern).format(*found.groups())


def _sizes(text: str) -> Shape:
    return tuple(int(size) for size in re.findall(r"\d+", text))


def _spoken(shape: Shape) -> str:
    return str(list(shape))


AGREE = "make the two shapes agree; print them just before this line"
TAKES = "the layer takes size {0} and was given {1}: change the layer or what comes before it"

HINTS = (
    (
        r"Expected input batch_size \((\d+)\) to match target batch_size \((\d+)\)",
        "{0} predictions met {1} targets: look for a view() or flatten() that mixes the batch with another dimension",
    ),
    (
        r"shape '(\[.*?\])' is invalid for input of size (\d+)",
        "the sizes of {0} must multiply up to {1}: let -1 stand for one of them, or look at what comes before",
    ),
    (
        r"dimensions of batch2 tensor to be: (\[.*?\]) but got: (\[.*?\])",
        "the second operand's first two sizes are {1} and must be {0}",
    ),
    (r"input_size\. Expected (\d+), got (\d+)", TAKES),
    (r"embedding dimension of (\d+), but got (\d+)", TAKES),
    (r"expected input with shape (\[.*?\]), but got input of size ?(\[.*?\])", TAKES),
    (r"should contain \d+ elements not \d+", AGREE),
    (r"size mismatch, got|Sizes of tensors must match|Size does not match|inconsistent input_size", AGREE),
    (r"expected \d\w* .*input|Expected \dD|expanded size of the tensor|same number of elements", AGREE),
    (r"einsum\(\): |stack expects each|The shape of the (?:mask|\dD attn_mask)|match the broadcast shape", AGREE),
    (r"equal to the number of channels|multiply up to the size|does not match weight size", AGREE),
)

READERS: tuple[tuple[re.Pattern[str], Reader], ...] = (
    (re.compile(r"shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)"), _read_product),
    (re.compile(r"expected input(\[.*?\]) to have (\d+) channels, but got (\d+) channels"), _read_channels),
    (re.compile(r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at .*dimension (\d+)"), _read_elements),
    (re.compile(r"got (?P<got>\[.*?\]) but expected shape compatible with (?P<expected>\[.*?\])"), _read_pair),
    (re.compile(r"arget size \((?P<got>.*?\])\)+ .*input size \((?P<expected>.*?\])"), _read_pair),
    (re.compile(r"xpected (?:target|hidden\[\d\]) size (?P<expected>.*?), got (?P<got>\[.*?\])"), _read_pair),
    (re.compile(r"gradient of size '(?P<got>.*?)' to a tensor of size '(?P<expected>.*?)'"), _read_pair),
    (re.compile(r"grad_output\[\d+\] has a shape of (?P<got>.*?) and output\[\d+\].* of (?P<expected>.*)"), _read_pair),
    *((re.compile(pattern), _read_hint) for pattern, _ in HINTS),
)
