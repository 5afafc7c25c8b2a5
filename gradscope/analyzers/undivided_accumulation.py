"""The losses of micro-batches are added up instead of averaged."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from gradscope.analyzer import Analyzer
from gradscope.events import EventKind
from gradscope.findings import Finding, Severity
from gradscope.records import Recording, Step, StepEnd
from gradscope.traces import Location

Line: TypeAlias = tuple[Location | None, str]

MEANS = frozenset(
    {
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "cosine_embedding_loss",
        "cross_entropy",
        "gaussian_nll_loss",
    }
    | {"hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "margin_ranking_loss", "mean", "mse_loss", "nll_loss"}
    | {"multi_margin_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss"}
)
MOST_EVENTS = 64  # as many of a step are kept
BY_ITSELF = ("LBFGS",)  # runs closures, and uses what each has made before it runs the next
ADAPTIVE = ("Adam", "Adagrad", "Adadelta", "Adafactor", "RMSprop", "Rprop", "Lion", "Muon")


@dataclass(frozen=True)
class UndividedAccumulation(Analyzer):
    """Gradients of several micro-batches are added up for one step, and no loss is divided by their number.

    ## What it means
    Each loss is a mean over its micro-batch. `backward()` adds up gradients, so the step uses the sum of the
    means: that of the whole batch, times the number of micro-batches.

    ## Why it matters
    The learning rate is in effect as many times larger, and clipping and weight decay weigh differently. Who
    changes the number of micro-batches to fit them into memory changes the training.

    ## How it is measured
    In each observed step, which one optimizer ends, `backward()` ran equally often, at least `least` times and
    on one line, and as often gave some parameter a gradient. In a traced step, what it ran on is itself a mean, with
    nothing that multiplies or divides it. Whether that is meant only you can tell, so it is a note.

    ## What it is not
    Losses that are divided or weighted, losses that are sums, a loop that makes a step for each loss, several
    different losses. The closures of L-BFGS, which uses each gradient by itself. Calls of `torch.autograd.grad`, which
    adds nothing up. Tasks of meta-learning and chunks of a sequence are added up on purpose, at times.

    ## How to fix it
    Divide each loss by the number of micro-batches: `(loss / n).backward()`.

    ## Fires on
    >>> from gradscope.events import LoopEvent
    >>> from gradscope.testing import recording, step_event
    >>> from gradscope.traces import Operation
    >>> loss = Operation(0, "mse_loss", shapes=((),), has_graph=True, is_loss=True, backward=1)
    >>> events = [LoopEvent(EventKind.BACKWARD)] * 4 + [step_event()]
    >>> made = recording(steps=3, operations=[loss], events={step: events for step in range(3)})
    >>> for found in UndividedAccumulation().analyze(made):
    ...     print(found)
    NOTE     undivided-accumulation   since step 0
             4 means are added up for one step of SGD, and not divided by their number
             measured: backward() ran 4 times in each step, on the result of mse_loss itself
             why: the gradient is 4 times that of the whole batch, as if the learning rate were
             fix: divide each loss by their number before its backward, if these are parts of one batch

    ## Silent on
    >>> from dataclasses import replace
    >>> divided = replace(made, operations=(replace(loss, name="div"),))
    >>> list(UndividedAccumulation().analyze(divided))
    []

    ## Sources
    - Hugging Face, "Fixing Gradient Accumulation", 2024, https://huggingface.co/blog/gradient_accumulation
    - transformers, pull requests 34191, 35203 and 37197.
    """

    severity: ClassVar[Severity] = Severity.NOTE

    least: int = field(
        default=4, metadata={"unit": "backwards in a step", "reason": "two or three are mostly different losses"}
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At most one finding."""
        lines = recording.once(_means)
        step = next((step for step in recording.observed if step.index in lines), None)
        if step is None or _backwards(step) < self.least or _optimizer(step).startswith(BY_ITSELF):
            return
        if _steady(recording, step) and _added_up(recording, self.least):
            yield self._found(step, lines[step.index])

    def _found(self, step: Step, line: Line) -> Finding:
        number = _backwards(step)
        many = f"{number} or more" if number >= MOST_EVENTS else f"{number}"
        optimizer = _optimizer(step)
        spared = f"; {optimizer} itself makes up for that" if optimizer.startswith(ADAPTIVE) else ""
        return self.finding(
            step=step.index,
            message=f"{many} means are added up for one step of {optimizer}, and not divided by their number",
            evidence=f"backward() ran {many} times in each step, on the result of {line[1]} itself",
            why=f"the gradient is {many} times that of the whole batch, as if the learning rate were{spared}",
            fix="divide each loss by their number before its backward, if these are parts of one batch",
            location=line[0],
        )


def _means(recording: Recording) -> dict[int, Line]:
    """The line that made the losses of a step, for each traced step in which all are of one line, and means."""
    losses: dict[int, set[Line]] = {}
    for each in recording.operations:
        if each.is_loss:
            is_mean = each.name in MEANS and each.reduction in ("", "mean")
            losses.setdefault(each.step, set()).add((each.location, each.name if is_mean else ""))
    return {step: next(iter(lines)) for step, lines in losses.items() if len(lines) == 1 and all(n for _, n in lines)}


def _steady(recording: Recording, traced: Step) -> bool:
    """Whether each step has as many backwards, all of one line, and one optimizer's step at its end.

    What comes after the last step may be unfinished.
    """
    steps = [step for step in recording.observed if step.end is not StepEnd.OPEN]
    places = {event.location for step in steps for event in step.events if event.kind is EventKind.BACKWARD}
    ends = {sum(event.kind is EventKind.STEP for event in step.events) for step in steps}
    return len(places) == 1 and ends == {1} and {_backwards(step) for step in steps} == {_backwards(traced)}


def _backwards(step: Step) -> int:
    return sum(event.kind is EventKind.BACKWARD for event in step.events)


def _optimizer(step: Step) -> str:
    return next((event.optimizer for event in step.events if event.kind is EventKind.STEP), "")


def _added_up(recording: Recording, least: int) -> bool:
    """Whether some parameter received as many gradients for each step of its optimizer, as far as that is known."""
    stepped = [each for each in recording.parameters if each.optimizer_steps]
    return not stepped or any(each.contributions >= least * each.optimizer_steps for each in stepped)
