"""What each step of a regular loop leaves behind, told from others by how often its gradients were written to."""

from typing import Protocol
from weakref import ref

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from gradscope.hooks.glance import ODD, ZERO, glance
from gradscope.hooks.marks import Marks, version
from gradscope.hooks.meters import host


class Pattern(Protocol):
    """A step like those before: gradients that are new and written to as often, or older by as many writes.

    Compiled (meters/pattern.c), where there is a compiler: it is asked after each step.
    """

    @property
    def sample(self) -> tuple[Tensor, ...]:
        """The parameters whose gradients are glanced at."""

    def renewed(self) -> bool:
        """Whether a backward has run since this was last asked: a gradient is another or, zeroing aside, newer."""

    def look(self) -> tuple[bool, bool | None]:
        """Whether a step was like those before it, a backward aside, and its gradients finite, where that is known.

        To be asked once per step.
        """


def pattern(
    parameters: list[Tensor],
    sample: list[Tensor],
    modules: list[nn.Module],
    advance: NDArray[np.int64],
    *,
    rewritten: bool = False,
) -> Pattern:
    """The pattern of a step that has just ended.

    `advance` is by how many writes each parameter's gradient is older after every step: those of zeroing it in place
    and adding to it. It is zero where gradients are cleared to None. A step that does not clear does one less of the
    former, and one more of the latter.

    `sample` are a few small parameters. With `rewritten`, gradients are written to by others than backwards and could
    be zeroed after one instead of before it: those of the sample must hold something when the step has used them.

    `modules` stay in the mode they are in.
    """
    if host.AVAILABLE:
        return host.pattern(parameters, sample, modules, advance.astype(np.int64).tobytes(), rewritten)
    return _Pattern(parameters, sample, modules, advance, rewritten)


class _Pattern:
    """As the compiled one."""

    def __init__(
        self,
        parameters: list[Tensor],
        sample: list[Tensor],
        modules: list[nn.Module],
        advance: NDArray[np.int64],
        rewritten: bool,
    ) -> None:
        self._parameters = parameters
        self.sample = tuple(sample)
        self._modules = modules
        self._training = self._modes()
        self._advance = advance
        self._expected = self._versions() + advance
        self._rewritten = rewritten
        self._last: tuple[ref[Tensor], int] | None = None
        self.renewed()

    def renewed(self) -> bool:
        """See `Pattern`."""
        last, self._last = self._last, None
        gradient = next(iter(self._gradients()), None)
        if gradient is None:
            return False
        self._last = ref(gradient), version(gradient)
        return last is None or last[0]() is not gradient or self._last[1] > last[1]

    def look(self) -> tuple[bool, bool | None]:
        """See `Pattern`."""
        seen, expected = glance(self._gradients()), self._expected
        self._expected = expected + self._advance
        fits = bool((self._versions() == expected).all()) and self._modes() == self._training
        if self._rewritten:
            fits = fits and seen is not None and ZERO not in seen
        return fits, None if seen is None else ODD not in seen

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.sample if parameter.grad is not None]

    def _versions(self) -> NDArray[np.int64]:
        marks = Marks.of(self._parameters)
        return np.where(marks.present, marks.versions, -1)

    def _modes(self) -> list[bool]:
        return [module.training for module in self._modules]
