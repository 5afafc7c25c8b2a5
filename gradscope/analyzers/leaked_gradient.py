"""One optimizer's step uses gradients that the loss of another one has left."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.events import Leaked
from gradscope.findings import Finding, Severity
from gradscope.records import Recording


@dataclass(frozen=True)
class LeakedGradient(Analyzer):
    """One optimizer's step uses, besides its own loss, what the loss of its opponent has left in its gradients.

    ## What it means
    Two networks are trained against each other. The loss of one flows back into the other too, because what goes
    from one to the other is not detached, and the other does not clear its gradients before its own backward.

    ## Why it matters
    The generator steps to please the critic's loss and its own at once, although they are opposed. Much of the
    one is taken away by the other, and training is slow or goes nowhere.

    ## How it is measured
    A backward reached both; the opponent stepped on it; the gradients were not cleared; the next backward, which
    reached both again, was added to them; and the step used the sum. The opponent has not stepped on this second
    loss, but cleared it. It counts when that has happened in `times` steps. Where the next backward reached only the
    one that uses the sum, it is a note: a critic whose actor's loss has left gradients in it looks like a network that
    is meant to learn from two losses.

    ## What it is not
    Generators whose samples are detached, or whose gradients are cleared before their own backward; networks that
    add up the losses of several steps of the opponent; heads and encoders that step on all losses alike; a body whose
    heads have optimizers of their own.

    ## How to fix it
    Pass `fake.detach()` to the critic in the critic's own loss, and call `zero_grad()` of each optimizer right
    before the backward that it steps on.

    ## Fires on
    >>> from gradscope.testing import recording
    >>> leak = Leaked(optimizer="Adam", parameters=2, gradients=("0.weight", "0.bias"), rival="SGD", since=2)
    >>> for found in LeakedGradient().analyze(recording(events={4: [leak], 6: [leak]}, steps=8)):
    ...     print(found)
    WARNING  leaked-gradient   since step 2   2 of 2 parameters
             Adam.step() used gradients that the loss of another optimizer, SGD, had left
             measured: the backward that SGD had stepped on reached 2 parameters, which were not cleared, in 2 steps
             why: it steps on its own loss and on that of its opponent at once, and they are opposed
             fix: detach what goes into the other one's loss, or call zero_grad() right before the own backward

    ## Silent on
    >>> list(LeakedGradient().analyze(recording(events={4: [leak]}, steps=8)))
    []

    ## Sources
    - PyTorch, "DCGAN Tutorial", in which the generator's samples are detached,
      https://docs.pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html
    """

    severity: ClassVar[Severity] = Severity.WARNING

    times: int = field(default=2, metadata={"unit": "steps", "reason": "one odd step, as the first, proves nothing"})

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each optimizer."""
        found: dict[tuple[str, int, str, bool], list[Leaked]] = {}
        for step in recording.steps:
            for event in step.events:
                if isinstance(event, Leaked):
                    found.setdefault((event.optimizer, event.parameters, event.rival, event.opposed), []).append(event)
        for events in found.values():
            if len(events) >= self.times:
                yield self._found(events)

    def _found(self, events: list[Leaked]) -> Finding:
        first, number = events[0], len(events[0].gradients)
        why = "it steps on its own loss and on that of its opponent at once, and they are opposed"
        fix = "detach what goes into the other one's loss, or call zero_grad() right before the own backward"
        if not first.opposed:
            why = "it steps on the sum of both losses; what only judges the other's output shall learn from its own"
            fix = "call zero_grad() right before the own backward, unless it is meant to step on both losses"
        return self.finding(
            severity=self.severity if first.opposed else Severity.NOTE,
            step=first.since,
            message=f"{first.optimizer}.step() used gradients that the loss of another optimizer, {first.rival}, "
            "had left",
            evidence=f"the backward that {first.rival} had stepped on reached {number} parameters, which were not "
            f"cleared, in {len(events)} steps",
            why=why,
            fix=fix,
            sites=first.gradients,
            scope=f"{number} of {first.parameters} parameters",
            location=first.location,
            cause=first.stepper,
        )
