"""What each step of a regular loop leaves behind, told from others by how often its gradients were written to."""

from weakref import ref

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradscope.hooks.glance import ODD, ZERO, glance
from gradscope.hooks.marks import version, versions


class Pattern:
    """A step like those before: gradients that are new and written to as often, or older by as many writes.

    `advance` is by how many writes each parameter's gradient is older after every step: those of zeroing it in place
    and adding to it. It is zero where gradients are cleared to None. A step that does not clear does one less of the
    former, and one more of the latter.

    `sample` are a few small parameters. With `rewritten`, gradients are written to by others than backwards and could
    be zeroed after one instead of before it: those of the sample must hold something when the step has used them.
    """

    def __init__(
        self,
        parameters: list[Tensor],
        sample: list[Tensor],
        advance: NDArray[np.int64],
        *,
        rewritten: bool = False,
    ) -> None:
        self._parameters = parameters
        self._sample = sample
        self._versions = versions(parameters)
        self._advance = advance if advance.any() else None
        self._rewritten = rewritten
        self._last: tuple[ref[Tensor], int] | None = None
        self._expect_next()
        self.renewed(self.gradients())

    def gradients(self) -> list[Tensor]:
        """A few small gradients, as they are now."""
        return [parameter.grad for parameter in self._sample if parameter.grad is not None]

    def renewed(self, gradients: list[Tensor]) -> bool:
        """Whether a backward has run since this was last asked: a gradient is another or, zeroing aside, newer."""
        last, self._last = self._last, None
        if not gradients:
            return False
        self._last = ref(gradients[0]), version(gradients[0])
        return last is None or last[0]() is not gradients[0] or self._last[1] > last[1]

    def look(self, gradients: list[Tensor]) -> tuple[bool, bool | None]:
        """Whether a step was like those before it, a backward aside, and its gradients finite, where that is known.

        To be asked once per step.
        """
        expected, seen = self._versions, glance(gradients)
        self._expect_next()
        fits = versions(self._parameters) == expected
        if self._rewritten:
            fits = fits and seen is not None and ZERO not in seen
        return fits, None if seen is None else ODD not in seen

    def _expect_next(self) -> None:
        if self._advance is not None:
            self._versions = (np.frombuffer(self._versions, np.int64) + self._advance).tobytes()
