"""Layers whose units are zero on every sample, so that nothing before them learns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from gradscope.analyzer import Analyzer, Request
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.stalls import Stall, first_dead, is_dead, multiplies_zeros, source_values, stalls, untraced, wakes_others


@dataclass(frozen=True)
class DeadUnits(Analyzer):
    """All units of a rectifier are zero on every sample, and so is the gradient behind it.

    ## What it means
    A ReLU passes on nothing where its input is not above zero, neither the value forward nor the gradient back. If
    that holds for all units and all samples, what is before it receives zeros only, and cannot come back by itself.

    ## Why it matters
    Everything before the layer stands still, and everything after it sees the same input for each sample: the
    network is a constant, although the biases behind it still learn and the loss still falls a little.

    ## How it is measured
    Parameters whose gradients were exactly zero in each observed step from the first one on (`steps` at least) or in
    the last 20 are looked up in the trace: if the gradient dies at a rectifier (relu, relu6, a clamp, a threshold,
    hardswish, gelu) whose whole result was zero, the layer is dead. Of several in a row the first is named.

    ## What it is not
    Sparsity, however high (of a trained T5 only 3 % of the units are above zero, but others on each sample); single
    units that are rarely active; one odd batch; a hinge that is satisfied (the loss behind it is zero, and no parameter
    follows it); experts without tokens; layers of zeros (`zero-gradient`); flat ends of sigmoid and tanh
    (`saturated-activation`).

    ## How to fix it
    Look at the biases and the scale of the layer before it: a bias far below zero, inputs that are not normalised, or
    one step with too large a learning rate. LeakyReLU or GELU let a gradient through.

    ## Fires on
    >>> from gradscope.records import ParameterInfo
    >>> from gradscope.testing import recording
    >>> from gradscope.traces import Operand, Operation, Range
    >>> zero, some = Range(0.0, 0.0), Range(-1.0, 1.0)
    >>> def made_by(index, parameter=""):
    ...     return Operand(operation=index, parameter=parameter, has_graph=True)
    >>> trace = [
    ...     Operation(0, "linear", "0", operands=(made_by(None, "0.weight"),), has_graph=True,
    ...               values=Range(-21.0, -18.5), gradient=zero),
    ...     Operation(1, "relu", "1", operands=(made_by(0),), has_graph=True, values=zero, gradient=some),
    ...     Operation(2, "linear", "2", operands=(made_by(1), made_by(None, "2.weight")), has_graph=True, is_loss=True,
    ...               values=some, gradient=some),
    ... ]
    >>> names = ("0.weight", "2.weight")
    >>> fed = [ParameterInfo(name, name[0], optimizer_steps=5, contributions=5) for name in names]
    >>> made = recording(parameters=fed, parameter_gradient={"0.weight": 0.0, "2.weight": 1.0}, operations=trace)
    >>> for found in DeadUnits().analyze(made):
    ...     print(found)
    ERROR    dead-units   since step 0   1 of 2 parameters
             relu in '1' is zero for every unit and sample: '0.weight' receives only zeros
             measured: its input is at most -18.5, and the gradient was exactly 0 in all 5 observed steps (limit 3)
             why: no gradient comes back through a rectifier that lets nothing through, so it stays dead
             fix: raise the biases before it or normalise its input, lower the learning rate, or use LeakyReLU

    ## Silent on
    >>> alive = recording(parameters=fed, parameter_gradient={"0.weight": [0, 0, 0, 0, 1e-3], "2.weight": 1.0},
    ...                   operations=trace)
    >>> list(DeadUnits().analyze(alive))
    []

    ## Sources
    - Lu, Shin, Su and Karniadakis, "Dying ReLU and Initialization: Theory and Numerical Examples", 2019,
      https://arxiv.org/abs/1903.06733.
    - Li et al., "The Lazy Neuron Phenomenon", 2022, https://arxiv.org/abs/2210.06313.
    """

    severity: ClassVar[Severity] = Severity.ERROR
    revocable: ClassVar[bool] = True
    explains: ClassVar[frozenset[str]] = frozenset({"vanishing-gradient"})

    steps: int = field(
        default=3, metadata={"unit": "observed steps", "reason": "a small batch may miss all units once, not each time"}
    )

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        """At most one finding, or the wish for a trace."""
        dead = [
            stall
            for stall in stalls(recording)
            if is_dead(stall)
            and stall.rows >= self.steps
            and not multiplies_zeros(recording, stall.operation)
            and wakes_others(recording, stall)
        ]
        if dead:
            yield self._found(recording, dead)
        if untraced(recording) and not recording.complete:
            yield Request("the gradients of some parameters have become exactly zero: which operation makes them so?")

    def _found(self, recording: Recording, dead: Sequence[Stall]) -> Finding:
        first = first_dead(recording, dead[0].operation)
        sites = tuple(dict.fromkeys(path for stall in dead for path in stall.paths))
        place = f" in {first.module!r}" if first.module else ""
        receive = f"{len(sites)} parameters receive" if len(sites) > 1 else f"{sites[0]!r} receives"
        given = source_values(recording, first)
        input_ = f"its input is at most {given.high:.3g}, and " if given is not None and given.high <= 0 else ""
        gradients = f"{len(sites)} gradients were" if len(sites) > 1 else "the gradient was"
        more = f"; so are {len(dead) - 1} more" if len(dead) > 1 else ""
        return self.finding(
            step=min(stall.since for stall in dead),
            message=f"{first.name}{place} is zero for every unit and sample: {receive} only zeros",
            evidence=f"{input_}{gradients} exactly 0 in all {min(stall.rows for stall in dead)} observed steps "
            f"(limit {self.steps}){more}",
            why="no gradient comes back through a rectifier that lets nothing through, so it stays dead",
            fix="raise the biases before it or normalise its input, lower the learning rate, or use LeakyReLU",
            sites=sites,
            scope=f"{len(sites)} of {len(recording.parameters)} parameters",
            location=first.location,
            cause="layer",
        )
