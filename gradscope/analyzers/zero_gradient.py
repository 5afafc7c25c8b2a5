"""Gradients that arrive and are exactly zero, step after step."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from gradscope.analyzer import Analyzer, Request
from gradscope.dataflow import flow_of
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.stalls import Idle, Stall, idle, is_dead, is_flat, is_saturated, multiplies_zeros, stalls, untraced

FEW = 2


@dataclass(frozen=True)
class ZeroGradient(Analyzer):
    """Parameters that the loss depends on, and that receive gradients of exactly zero in every step.

    ## What it means
    A product of two factors passes on to each of them a multiple of the other. Where both are zero, as the matrices
    A and B of a low-rank adapter, or the last layer of a branch and the gate behind it, neither gets anything but
    zeros, and both stay what they are for ever.

    ## Why it matters
    The block computes nothing and never will. Whatever is above it in the same branch starves with it, while the
    loss falls all the same, because the rest of the model learns.

    ## How it is measured
    A parameter is idle if all elements of its gradient were exactly zero in each observed step from the first one on,
    `steps` at least. The traced operations between it and the loss tell where the gradient becomes zero: the first one
    whose result received more than zeros. If two of that operation's factors hold nothing but zeros and receive nothing
    but zeros, that is an error. Idle parameters that nothing explains are a note at the end of the run.

    ## What it is not
    LoRA with B = 0, ReZero, zero-initialised last layers and gammas (one factor is zero, and the other one's gradient
    is not: it moves in the first step), a warm-up that begins with a learning rate of zero, a loss of exactly zero,
    experts that get no tokens, rows of an embedding that do not occur, biases before a normalisation, biases whose
    gradients cancel (the last one of a WGAN's critic, or of what scores the two sides of a comparison), dead units and
    saturated activations, rounding (those are findings of their own).

    ## How to fix it
    Give one of the two factors random values (`torch.nn.init.kaiming_uniform_`), and keep only the other one at zero.

    ## Fires on
    >>> from gradscope.records import ParameterInfo
    >>> from gradscope.testing import recording
    >>> from gradscope.traces import Operand, Operation, Range
    >>> zero, some = Range(0.0, 0.0), Range(-1.0, 1.0)
    >>> def made_by(index, path=""):
    ...     return Operand(operation=index, parameter=path, has_graph=True)
    >>> trace = [
    ...     Operation(0, "linear", "down", operands=(made_by(None, "down.weight"),), has_graph=True,
    ...               values=zero, gradient=zero),
    ...     Operation(1, "linear", "up", operands=(made_by(0), made_by(None, "up.weight")), has_graph=True,
    ...               values=zero, gradient=some),
    ...     Operation(2, "sum", operands=(made_by(1),), has_graph=True, is_loss=True, values=some, gradient=some),
    ... ]
    >>> names = ("down.weight", "up.weight")
    >>> made = recording(
    ...     parameters=[ParameterInfo(name, name[:-7], optimizer_steps=5, contributions=5) for name in names],
    ...     parameter=dict.fromkeys(names, 0.0), parameter_gradient=dict.fromkeys(names, 0.0), operations=trace,
    ... )
    >>> for found in ZeroGradient().analyze(made):
    ...     print(found)
    ERROR    zero-gradient   since step 0   2 of 2 parameters
             linear in 'up' multiplies zeros by zeros: 'down.weight' and 'up.weight' receive only zeros
             measured: 2 gradients were exactly 0 in all 5 observed steps, and so are both factors
             why: the gradient of each factor is a multiple of the other one, so neither ever leaves zero
             fix: initialise one of the two factors with random values, and keep only the other one at zero

    ## Silent on
    >>> made = recording(
    ...     parameters=[ParameterInfo(name, name[:-7], optimizer_steps=5, contributions=5) for name in names],
    ...     parameter={"down.weight": 1.0, "up.weight": [0.0, 0.1, 0.2, 0.3, 0.4]},
    ...     parameter_gradient={"down.weight": [0.0, 1.0, 1.0, 1.0, 1.0], "up.weight": 1.0},
    ... )
    >>> list(ZeroGradient().analyze(made))
    []

    ## Sources
    - Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, https://arxiv.org/abs/2106.09685 (A random,
      B zero).
    - Bachlechner et al., "ReZero is All You Need", 2020, https://arxiv.org/abs/2003.04887.
    """

    severity: ClassVar[Severity] = Severity.ERROR
    revocable: ClassVar[bool] = True
    explains: ClassVar[frozenset[str]] = frozenset({"vanishing-gradient"})

    steps: int = field(
        default=3,
        metadata={"unit": "observed steps", "reason": "one zero factor after another leaves zero within three steps"},
    )
    patience: int = field(
        default=10,
        metadata={"unit": "observed steps", "reason": "a note may wait until a warm-up has begun in earnest"},
    )

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        """One error for all products of zeros, and at the end a note for what else receives only zeros."""
        still = [each for each in idle(recording) if each.rows >= self.steps]
        if not still:
            return
        products = [stall for stall in stalls(recording) if multiplies_zeros(recording, stall.operation)]
        products = [stall for stall in products if stall.rows >= self.steps]
        if products:
            yield self._product(recording, products)
        if recording.complete:
            yield from self._rest(recording, still, {path for stall in products for path in stall.paths})
        elif untraced(recording):
            yield Request("the gradients of some parameters have become exactly zero: which operation makes them so?")

    def _product(self, recording: Recording, products: Sequence[Stall]) -> Finding:
        first = products[0]
        victims = _once(recording, [victim for stall in products for victim in stall.victims])
        count = min(victim.rows for victim in victims)
        place = f" in {first.operation.module!r}" if first.operation.module else ""
        return self.finding(
            step=min(victim.since for victim in victims),
            message=f"{first.operation.name}{place} multiplies zeros by zeros: {_who(victims)} only zeros",
            evidence=f"{_gradients(victims)} exactly 0 in all {count} observed steps, and so are both factors"
            + _elsewhere(products),
            why="the gradient of each factor is a multiple of the other one, so neither ever leaves zero",
            fix="initialise one of the two factors with random values, and keep only the other one at zero",
            sites=_paths(victims),
            scope=f"{len(victims)} of {len(recording.parameters)} parameters",
            location=first.operation.location,
            cause="product",
        )

    def _rest(self, recording: Recording, still: Sequence[Idle], known: Collection[str]) -> Iterator[Finding]:
        explained = {*known, *_explained(recording), *_cancelling(recording)}
        left = [each for each in still if each.rows >= self.patience and each.parameter.path not in explained]
        silent = {each.parameter.path for each in idle(recording)}
        fed = [p for p in recording.parameters if p.trainable and p.contributions and p.path not in silent]
        if not left or not fed:
            return
        ends = [stall for stall in stalls(recording) if set(stall.paths) & set(_paths(left))]
        place = ends[0].operation if ends else None
        where = f"{place.name} passes on only zeros" if place else "unknown where"
        yield self.finding(
            severity=Severity.NOTE,
            step=min(each.since for each in left),
            message=f"{_who(left)} gradients, and all of them are exactly zero",
            evidence=f"{_gradients(left)} exactly 0 in {min(each.rows for each in left)} observed steps ({where})",
            why="the loss depends on them, but never moves them",
            fix="look for a factor of zero or a mask on their way to the loss, or freeze them if that is meant",
            sites=_paths(left),
            scope=f"{len(left)} of {len(recording.parameters)} parameters",
            location=place.location if place else None,
            cause="unexplained",
        )


def _explained(recording: Recording) -> Iterator[str]:
    """Parameters whose zeros are findings of other analyzers."""
    found = stalls(recording)
    for stall in found:
        if is_dead(stall) or is_saturated(stall) or is_flat(stall):
            yield from stall.paths
    dead = [stall.operation for stall in found if is_dead(stall)]
    for operation in flow_of(recording.operations).downstream(dead):  # whatever they multiply is zero
        yield from operation.parameters


def _cancelling(recording: Recording) -> Iterator[str]:
    """Biases that are added to what receives more than zeros: its elements cancel, and the loss is the same for any."""
    for stall in stalls(recording):
        for each in (victim.parameter for victim in stall.victims):
            if each.path.endswith("bias") and not {each.path, *each.aliases}.isdisjoint(stall.operation.parameters):
                yield each.path


def _once(recording: Recording, victims: Sequence[Idle]) -> tuple[Idle, ...]:
    """Each parameter once, in the order of the model."""
    by_path = {victim.parameter.path: victim for victim in victims}
    return tuple(by_path[each.path] for each in recording.parameters if each.path in by_path)


def _paths(victims: Sequence[Idle]) -> tuple[str, ...]:
    return tuple(victim.parameter.path for victim in victims)


def _who(victims: Sequence[Idle]) -> str:
    paths = _paths(victims)
    few = " and ".join(map(repr, paths)) if len(paths) <= FEW else f"{len(paths)} parameters"
    return f"{few} {'receive' if len(paths) > 1 else 'receives'}"


def _gradients(victims: Sequence[Idle]) -> str:
    return f"{len(victims)} gradients were" if len(victims) > 1 else "its gradient was"


def _elsewhere(products: Sequence[Stall]) -> str:
    more = len(products) - 1
    return f"; {more} more such products" if more > 1 else "; one more such product" if more else ""
