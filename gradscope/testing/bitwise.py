"""Whether two runs are the same, bit by bit; and if not, where and when they part."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradscope.records import Floats, Kind, Recording, Site, Statistic, derive
from gradscope.scope import Scope
from gradscope.watching import Everything, watch_everything

MOST = 8

# The order in which they come about in a step, with the direction in which modules are passed.
ORDER = {
    Kind.ACTIVATION: 1,
    Kind.ACTIVATION_GRADIENT: -1,
    Kind.PARAMETER_GRADIENT: -1,
    Kind.UPDATE: 1,
    Kind.PARAMETER: 1,
}


def assert_bitwise_equal(run_a: object, run_b: object) -> None:
    """Fail unless two runs are the same, bit by bit.

    What is compared depends on what is passed, and must be alike on both sides:

    - what `watch` gave: the statistics of every observed step and site, then the parameters, gradients and buffers that
      the models have at the end. Watch with `every=1`: then the failure names the first step and site that differ.
    - a recording: the statistics alone, which tell two runs apart but for what cancels in them
    - a module: its parameters, their gradients, and its buffers; an optimizer: its state
    - a tensor or an array: shape, dtype and bits, so that NaN equals the same NaN and 0.0 differs from -0.0
    - a mapping (as a state dict) or a sequence: its items; any other value: `==`
    - a function without arguments: first `run_a` is called, then `run_b`. What is compared is every step of every model
      that an optimizer trains in it, and then what it returns. It must seed the random number generators by itself: two
      runs from an unknown state are not expected to be equal.

    Args:
        run_a: one run.
        run_b: the other one.

    Raises:
        AssertionError: they differ; the message names the first place, and the first step where one is known.
        ValueError: the two recordings have no observed step in common.
    """
    __tracebackhide__ = True
    differences = _differences(_done(run_a), _done(run_b), "")
    first = next(differences, None)
    if first is not None:
        raise AssertionError(f"the runs differ: {first}")


@dataclass(frozen=True, eq=False)
class Done:
    """What a function has trained, by the names of the models, and what it returned."""

    trained: Mapping[str, Recording]
    result: object


def _done(run: object) -> object:
    """What there is to compare of a run; of a function, what it does."""
    if isinstance(run, nn.Module) or not callable(run):
        return run
    scopes: dict[str, Scope] = {}

    def remember(everything: Everything) -> None:
        scopes.update(everything.scopes)

    with watch_everything(every=1, analyzers=(), on_step=remember):
        result = run()
    return Done({name: scope.recording for name, scope in scopes.items()}, result)


def _differences(one: Any, other: Any, name: str) -> Iterator[str]:
    """What differs between two values, in words, first things first."""
    for kind, compare in _COMPARISONS:
        if isinstance(one, kind) and isinstance(other, kind):
            yield from compare(one, other, name)
            return
    if type(one) is not type(other):
        yield f"{_at(name)}{type(one).__name__} against {type(other).__name__}"
    elif one != other:
        yield f"{_at(name)}{one!r} against {other!r}"


def _dones(one: Done, other: Done, name: str) -> Iterator[str]:
    yield from _mappings(one.trained, other.trained, name)
    yield from _differences(one.result, other.result, name)


def _scopes(one: Scope, other: Scope, name: str) -> Iterator[str]:
    yield from _recordings(one.recording, other.recording, name)
    yield from _mappings(one.models, other.models, name)


def _modules(one: nn.Module, other: nn.Module, name: str) -> Iterator[str]:
    yield from _mappings(_state(one), _state(other), name)


def _state(module: nn.Module) -> dict[str, object]:
    """Everything that training changes in a module: parameters, their gradients, buffers."""
    parameters = dict(module.named_parameters())
    gradients = {f"{path}.grad": parameter.grad for path, parameter in parameters.items()}
    return {**gradients, **parameters, **dict(module.named_buffers())}


def _optimizers(one: Optimizer, other: Optimizer, name: str) -> Iterator[str]:
    yield from _mappings(one.state_dict(), other.state_dict(), name)


def _mappings(one: Mapping[Any, object], other: Mapping[Any, object], name: str) -> Iterator[str]:
    lacking = [key for key in (*one, *other) if key not in one or key not in other]
    if lacking:
        yield f"{_at(name)}only one of them has {lacking[0]!r}"
    for key in one:
        if key in other:
            yield from _differences(one[key], other[key], f"{name}.{key}".strip("."))


def _sequences(one: Sequence[object], other: Sequence[object], name: str) -> Iterator[str]:
    if len(one) != len(other):
        yield f"{_at(name)}{len(one)} items against {len(other)}"
    pairs = zip(count(), one, other, strict=False)
    # A recording tells when it began, so it is asked before what came of it.
    for index, mine, its in sorted(pairs, key=lambda pair: not isinstance(pair[1], Scope | Recording)):
        yield from _differences(mine, its, f"{name}[{index}]")


def _floats(one: float, other: float, name: str) -> Iterator[str]:
    if struct.pack("d", one) != struct.pack("d", other):
        yield f"{_at(name)}{one!r} against {other!r}"


def _arrays(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], name: str) -> Iterator[str]:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        yield f"{_at(name)}{one.dtype} {one.shape} against {other.dtype} {other.shape}"
    elif one.tobytes() != other.tobytes():
        yield f"{_at(name)}the bits of {one.dtype} {one.shape} differ"


def _tensors(one: Tensor, other: Tensor, name: str) -> Iterator[str]:
    kinds = [f"{str(each.dtype).removeprefix('torch.')} {tuple(each.shape)}" for each in (one, other)]
    if kinds[0] != kinds[1]:
        yield f"{_at(name)}{kinds[0]} against {kinds[1]}"
        return
    unequal = (_bytes(one) != _bytes(other)).any(dim=1)
    if unequal.any():
        at = int(unequal.nonzero()[0])
        values = " against ".join(repr(_dense(each).flatten()[at].item()) for each in (one, other))
        yield f"{_at(name)}{int(unequal.sum())} of {len(unequal)} elements, the first is {values}"


def _bytes(tensor: Tensor) -> Tensor:
    """The bytes of each element, of shape (elements, bytes)."""
    flat = _dense(tensor).contiguous().flatten()
    return flat.view(torch.uint8).reshape(len(flat), -1) if len(flat) else torch.empty(0, 1)


def _dense(tensor: Tensor) -> Tensor:
    """The plain tensor on the host that holds the same values."""
    plain = tensor.detach()
    plain = plain.int_repr() if plain.is_quantized else plain
    plain = plain.to_dense() if plain.layout is not torch.strided else plain
    return plain.resolve_conj().resolve_neg().cpu()


def _recordings(one: Recording, other: Recording, name: str) -> Iterator[str]:
    """What differs in the statistics, in the order of the steps and of what happens in a step."""
    if len(one.observed) == len(other.observed) == 0:
        return
    numbers = [step.index for step in one.observed], [step.index for step in other.observed]
    common = sorted(set(numbers[0]) & set(numbers[1]))
    if not common:
        raise ValueError("the two runs have no observed step in common: watch both of them with every=1")
    mine, its = _sites(one), _sites(other)
    for step in common:
        rows = numbers[0].index(step), numbers[1].index(step)
        found = [
            text
            for key in dict.fromkeys([*mine, *its])
            if (text := _site(one.stored[rows[0]], mine.get(key), other.stored[rows[1]], its.get(key))) is not None
        ]
        if found:
            more = [f"    {text}" for text in found[1:MOST]]
            rest = [f"    and {len(found) - MOST} more sites"] if len(found) > MOST else []
            yield "\n".join([f"{_at(name)}first in step {step}: {found[0]}", *more, *rest])
            return
    if len(one.steps) != len(other.steps):
        yield f"{_at(name)}{len(one.steps)} steps against {len(other.steps)}"


def _sites(recording: Recording) -> dict[tuple[Kind, str], tuple[int, Site]]:
    """The columns of the sites, in the order in which they come about in a step."""
    table: dict[tuple[Kind, str], tuple[int, Site]] = {}
    for kind, direction in ORDER.items():
        columns = [(column, site) for column, site in enumerate(recording.sites) if site.kind is kind]
        table |= {(kind, site.path): (column, site) for column, site in columns[::direction]}
    return table


def _site(one: Floats, mine: tuple[int, Site] | None, other: Floats, its: tuple[int, Site] | None) -> str | None:
    """How one site differs in one step; None if it does not."""
    stored = [None if place is None else table[place[0]] for table, place in ((one, mine), (other, its))]
    if all(row is None or row[0] == 0 for row in stored) or _same_bits(*stored):
        return None
    site = next(place[1] for place in (mine, its) if place is not None)
    return f"{site.kind} of {site.path}: {_value(stored)}"


def _same_bits(one: Floats | None, other: Floats | None) -> bool:
    return one is not None and other is not None and one.tobytes() == other.tobytes()


def _value(stored: Sequence[Floats | None]) -> str:
    """The first statistic in which the digits differ, on both sides."""
    if any(row is None or row[0] == 0 for row in stored):
        return "it was measured in one run only"
    for statistic in (Statistic.RMS, Statistic.MEAN, Statistic.MIN, Statistic.MAX):
        mine, its = (float(derive(row, statistic)) for row in stored if row is not None)
        if mine != its:
            return f"{statistic} {mine:.9g} against {its:.9g}"
    return "the bits of its statistics"


def _at(name: str) -> str:
    return f"{name}: " if name else ""


_COMPARISONS: tuple[tuple[type, Callable[[Any, Any, str], Iterator[str]]], ...] = (
    (Done, _dones),
    (Scope, _scopes),
    (Recording, _recordings),
    (nn.Module, _modules),
    (Optimizer, _optimizers),
    (Tensor, _tensors),
    (np.ndarray, _arrays),
    (Mapping, _mappings),
    (float, _floats),
    (list, _sequences),
    (tuple, _sequences),
)
