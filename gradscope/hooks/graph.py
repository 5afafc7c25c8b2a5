"""Which modules each module's output was computed from, read off the autograd graph as it grows.

Nodes are held only from a module's first forward to the next backward, never in a closure on the graph.
"""

from collections.abc import Iterator
from typing import Any

from gradscope.records import ModuleInfo

LONGEST_WALK = 20_000


class SourceMap:
    """Finds the sources of each module once, at its first output that requires grad."""

    def __init__(self, modules: list[ModuleInfo], sources: dict[str, tuple[str, ...]]) -> None:
        self._modules = modules
        self._sources = sources
        self._ends: dict[Any, list[str]] = {}

    def add(self, row: int, node: Any) -> None:
        """An output of a module that has just run, by its autograd node."""
        path = self._modules[row].path
        if path not in self._sources:
            self._sources[path] = tuple(dict.fromkeys(self._walk(path, node)))
        self._ends.setdefault(node, []).append(path)

    def forget(self) -> None:
        """Let go of the graph."""
        self._ends.clear()

    def _walk(self, path: str, node: Any) -> Iterator[str]:
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
