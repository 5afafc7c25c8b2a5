"""A script or a module, run as Python itself would run it: argv, path, `__main__` and what lies in it."""

import io
import os
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from gradscope.errors import ProgramNotFound


@dataclass(frozen=True)
class Program:
    """What stands behind `python`: a script (or a folder or archive with a `__main__.py`), or a module behind `-m`.

    Attributes:
        name: path of the script, or name of the module.
        arguments: what follows it.
        is_module: whether it is a module.
    """

    name: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    def check(self) -> None:
        """Raise `ProgramNotFound` when there is no such script. A module is looked for when it is to run."""
        if not self.is_module and not Path(self.name).exists():
            raise ProgramNotFound(f"there is no script {self.name!r}: give its path, or a module behind -m")

    def run(self) -> None:
        """Run it to its end, in `__main__`; what it raises passes."""
        start = self._module() if self.is_module else self._script()
        start()

    def _script(self) -> Callable[[], None]:
        sys.argv = [self.name, *self.arguments]
        path = str(Path(self.name).absolute())
        importer = pkgutil.get_importer(path)
        spec = None if importer is None else importer.find_spec("__main__")
        if spec is not None:  # a folder, or a zip archive
            _lead_path(path)
            return _prepared(spec, _code(spec), package="")
        if Path(path).is_dir():
            raise ProgramNotFound(f"the folder {self.name!r} holds no __main__.py: give the path of a script")
        _lead_path(os.path.dirname(os.path.realpath(path)))  # noqa: PTH120  as Python does it
        with io.open_code(path) as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        return _prepared(None, code, file=path, loader=SourceFileLoader("__main__", path))

    def _module(self) -> Callable[[], None]:
        sys.argv = ["-m", *self.arguments]
        _lead_path(str(Path.cwd()))
        spec = _found(self.name)
        if spec.submodule_search_locations is not None:  # a package
            spec = _found(f"{self.name}.__main__")
        code = _code(spec)
        sys.argv[0] = spec.origin or self.name
        return _prepared(spec, code, package=spec.parent or "")


def _found(name: str) -> ModuleSpec:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError as error:
        if not name.startswith(error.name or "?"):
            raise
        spec = None
    if spec is None or (spec.loader is None and spec.submodule_search_locations is None):
        raise ProgramNotFound(f"there is no module {name!r}: is it installed, or below the current folder?")
    return spec


def _code(spec: ModuleSpec) -> CodeType:
    code = getattr(spec.loader, "get_code", lambda _name: None)(spec.name)
    if code is None:
        raise ProgramNotFound(f"{spec.name!r} holds no Python code: name a module that does")
    return code  # type: ignore[no-any-return]  # loaders are not typed


def _lead_path(folder: str) -> None:
    """Put a folder where Python puts the program's own, in place of the one that belongs to this command."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _prepared(spec: ModuleSpec | None, code: CodeType, package: str | None = None, **found: Any) -> Callable[[], None]:
    module = ModuleType("__main__")
    if spec is not None:
        found = {"file": spec.origin, "loader": spec.loader, "cached": spec.cached}
    module.__dict__.update(
        __spec__=spec,
        __package__=package,
        __file__=found["file"],
        __loader__=found["loader"],
        __cached__=found.get("cached"),
        __annotations__={},
    )
    sys.modules["__main__"] = module
    return lambda: exec(code, module.__dict__)  # noqa: S102  to run the program is what was asked for
