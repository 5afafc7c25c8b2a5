"""Which optimizers hold what the model no longer has. Pure functions that several analyzers ask."""

from gradscope.inventory import OptimizerInfo, Orphan
from gradscope.records import Recording, StepEnd

ENOUGH = 2


def stale(recording: Recording) -> tuple[tuple[OptimizerInfo, tuple[Orphan, ...]], ...]:
    """Optimizers that hold tensors without any gradient, each with the parameters that they seem to be meant for.

    Those are trained by nobody, and stand where the optimizer's tensors once stood. Or they match the tensors without
    a gradient by their dimensions: where it trains none of the model there is one for each of them, else they are
    more than those or as many.
    """
    return recording.once(_stale)


def _stale(recording: Recording) -> tuple[tuple[OptimizerInfo, tuple[Orphan, ...]], ...]:
    if not recording.inventory.orphans or by_hand(recording):
        return ()
    found = (
        (optimizer, _meant(optimizer, recording.inventory.orphans)) for optimizer in recording.inventory.optimizers
    )
    return tuple((optimizer, orphans) for optimizer, orphans in found if orphans and optimizer.steps >= ENOUGH)


def untrained(recording: Recording) -> tuple[Orphan, ...]:
    """The parameters that receive gradients and are in no optimizer, where no stale optimizer is to blame."""
    if by_hand(recording):
        return ()
    explained = {orphan.path for _, orphans in stale(recording) for orphan in orphans}
    return tuple(orphan for orphan in recording.inventory.orphans if orphan.path not in explained)


def by_hand(recording: Recording) -> bool:
    """Whether the program moves weights without an optimizer."""
    return any(step.end is StepEnd.MANUAL for step in recording.steps)


def _meant(optimizer: OptimizerInfo, orphans: tuple[Orphan, ...]) -> tuple[Orphan, ...]:
    replaced = tuple(orphan for orphan in orphans if orphan.path in optimizer.replaced)
    if replaced:
        return replaced
    dimensions = sorted(len(shape) for shape in optimizer.idle)
    needed = sorted(len(orphan.shape) for orphan in orphans)
    if optimizer.parameters:
        fits = dimensions and all(dimensions.count(each) <= needed.count(each) for each in dimensions)
        return orphans if fits else ()
    whole = len(dimensions) == optimizer.foreign
    return orphans if whole and all(needed.count(each) <= dimensions.count(each) for each in needed) else ()
