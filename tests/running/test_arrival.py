"""Waiting for a module: it is imported as ever, its loader is its own, and looking for it is not importing it."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from gradscope.running.arrival import when_imported


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_it_calls_back_once_after_the_module_has_run(folder: Path) -> None:
    (folder / "arrives_one.py").write_text("value = 1\n")
    calls: list[object] = []
    finders = list(sys.meta_path)
    when_imported("arrives_one", lambda: calls.append(sys.modules["arrives_one"].value))
    assert importlib.util.find_spec("arrives_one") is not None
    assert calls == []
    module = importlib.import_module("arrives_one")
    assert calls == [1]
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert sys.meta_path == finders
    importlib.reload(module)
    assert calls == [1]


def test_a_module_that_is_there_is_not_waited_for() -> None:
    calls: list[int] = []
    when_imported("json", lambda: calls.append(1))
    assert calls == [1]


def test_an_import_that_fails_may_be_tried_again(folder: Path) -> None:
    (folder / "arrives_two.py").write_text("import builtins\nif not hasattr(builtins, 'second'): raise ValueError\n")
    calls: list[int] = []
    when_imported("arrives_two", lambda: calls.append(1))
    with pytest.raises(ValueError):  # noqa: PT011  it has no message
        importlib.import_module("arrives_two")
    assert calls == []
    (folder / "arrives_two.py").write_text("")
    importlib.invalidate_caches()
    importlib.import_module("arrives_two")
    assert calls == [1]


def test_it_can_be_called_off_and_does_not_make_modules_up() -> None:
    finders = list(sys.meta_path)
    call_off = when_imported("there_is_no_such_module", lambda: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("there_is_no_such_module")
    call_off()
    call_off()
    assert sys.meta_path == finders
