"""Raw tensors that the user wants kept, of the last observed steps."""

from collections import deque
from fnmatch import fnmatchcase

from torch import Tensor

from gradscope.errors import NotRecorded
from gradscope.hooks.meters.arrival import to_host
from gradscope.records import Kind

KEPT_STEPS = 4


class Kept:
    """Tensors on the host. `patterns` are of module paths and of full names of parameters."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.patterns = patterns
        self._steps: deque[tuple[int, dict[tuple[Kind, str], Tensor]]] = deque(maxlen=KEPT_STEPS)

    def wants(self, path: str, module: str) -> bool:
        """Whether tensors of a module, or of a parameter by its full name, are kept."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns for name in {path, module})

    def add(self, step: int, kind: Kind, path: str, tensor: Tensor) -> None:
        """Keep a copy of a tensor; of several in one step, the last."""
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append((step, {}))
        self._steps[-1][1][kind, path] = to_host(tensor)

    def tensor(self, path: str, kind: Kind, step: int) -> Tensor:
        """A kept tensor; `step` is a step's number, or counts kept steps from the end when negative."""
        kept = dict(self._steps)
        if not any(fnmatchcase(path, pattern) for pattern in self.patterns):
            raise NotRecorded(f"no tensor of {path!r} was kept: pass keep={path!r} to watch()")
        index = sorted(kept)[step] if step < 0 and -step <= len(kept) else step
        if index not in kept:
            raise NotRecorded(f"step {step} is not kept: kept are steps {sorted(kept)} (the last observed ones)")
        if (kind, path) not in kept[index]:
            known = sorted({name for k, name in kept[index] if k is kind})
            raise NotRecorded(f"no {kind} of {path!r} was captured in step {index}; captured are {known or 'none'}")
        return kept[index][kind, path]
