"""What there is beside the modules: optimizers and what they hold, parameters that nobody trains. Frozen data."""

from dataclasses import dataclass

from gradscope.traces import Location

OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class OptimizerInfo:
    """An optimizer that has stepped while the model was watched, and what it held in its last step.

    Attributes:
        name: its class.
        parameters: full names of the model's parameters that it holds.
        steps: how often it has stepped, of which the first was in step `first`, on the line `location`.
        doubled: parameters that it holds more than once.
        replaced: parameters that it once held and whose place in the model another tensor has taken.
        foreign: how many tensors it holds that are no parameters of the model.
        idle: shapes of those that had no gradient in any of its steps.
        empty: the step since which it has stepped, more than once, and found no gradient at all; None if it found some.
    """

    name: str
    parameters: tuple[str, ...] = ()
    steps: int = 0
    first: int = 0
    location: Location | None = None
    doubled: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    foreign: int = 0
    idle: tuple[tuple[int, ...], ...] = ()
    empty: int | None = None


@dataclass(frozen=True, slots=True)
class Orphan:
    """At the end of a run, a trainable parameter that received gradients, is in no optimizer and has not moved.

    `step` is the first in which that was noticed, `quiet` whether its module is in evaluation mode.
    """

    path: str
    module: str
    shape: tuple[int, ...] = ()
    step: int = 0
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Stray:
    """A parameter that a module of the model holds in a list, tuple, set or dict, where the model does not look.

    Or a parameter of a module that ran beside the model (`kind` is `OUTSIDE`), such as a loss with weights of its own.
    Or a plain tensor that requires grad (`plain`) and may as well be data, in one of those or as an attribute.

    At the end of the run it has received gradients in more than one step, is in no optimizer and has not moved.
    `path` says where it is: "layers[0].weight". `holder` is the path of the module that holds it, `step` the first
    in which it had a gradient.
    """

    path: str
    holder: str
    attribute: str
    kind: str = "list"
    shape: tuple[int, ...] = ()
    step: int = 0
    plain: bool = False


@dataclass(frozen=True, slots=True)
class BrokenTie:
    """Two parameters that were one, or are an embedding and an output layer, and are two of equal values.

    `lost` says that they were one while the model was watched, until step `step`.
    """

    first: str
    second: str
    step: int = 0
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Likeness:
    """At the end of a run, a trainable weight of more than one unit, all of which are nearly equal.

    `spread` is the largest difference between an element and the one in its place in the first unit. The units are
    the weight's rows, or its columns (`columns`).
    """

    path: str
    units: int
    spread: float = 0.0
    columns: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """The optimizers that have stepped; orphans, strays and likenesses, known when the run is over; ties that broke.

    `double` says that a part of another model ran that looks like one of this, has gradients and is in no optimizer.
    """

    optimizers: tuple[OptimizerInfo, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    strays: tuple[Stray, ...] = ()
    ties: tuple[BrokenTie, ...] = ()
    double: bool = False
    likenesses: tuple[Likeness, ...] = ()
