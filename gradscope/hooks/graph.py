"""Which modules each module's output was computed from, read off the autograd graph as it grows.

Nodes are held only from a module's first forward to the next backward, never in a closure on the graph.
"""

from collections.abc import Iterator
from typing import Any

from gradscope.records import ModuleInfo

LONGEST_WALK = 20_000


class SourceMap:
    """Finds the sources of each module once, at its first output that requires grad.

    `passed` are the nodes of the outputs of this forward so far, each with its module's row.
    """

    def __init__(
        self, modules: list[ModuleInfo], sources: dict[str, tuple[str, ...]], passed: list[tuple[Any, int]]
    ) -> None:
        self._modules = modules
        self._sources = sources
        self._known: set[int] = set()
        self._passed = passed
        self._ends: dict[Any, list[str]] = {}
        self._indexed = 0

    def add(self, row: int, node: Any) -> None:
        """An output of a module that has just run, by its autograd node."""
        if row not in self._known:
            self._known.add(row)
            path = self._modules[row].path
            self._sources[path] = tuple(dict.fromkeys(self._walk(path, node)))
        self._passed.append((node, row))

    def forget(self) -> None:
        """Let go of the graph."""
        self._passed.clear()
        self._ends.clear()
        self._indexed = 0

    def _index(self) -> None:
        """Only a walk needs to know which nodes are outputs of which modules."""
        for node, row in self._passed[self._indexed :]:
            self._ends.setdefault(node, []).append(self._modules[row].path)
        self._indexed = len(self._passed)

    def _walk(self, path: str, node: Any) -> Iterator[str]:
        self._index()
        inside = f"{path}." if path else ""
        seen: set[Any] = set()
        stack = [node]
        while stack and len(seen) < LONGEST_WALK:
            here = stack.pop()
            if here is None or here in seen:
                continue
            seen.add(here)
            outside = [end for end in self._ends.get(here, ()) if not end.startswith(inside)]
            if outside:
                yield outside[0]
            else:
                stack.extend(following for following, _ in here.next_functions)
