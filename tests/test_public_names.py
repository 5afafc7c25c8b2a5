"""The public names: sorted, loadable, and from the homes that the package names."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import gradscope


def test_names_are_sorted_and_have_homes() -> None:
    assert gradscope.__all__ == sorted(gradscope._HOMES)
    assert dir(gradscope) == gradscope.__all__


@pytest.mark.parametrize("name", gradscope.__all__)
def test_a_name_is_what_its_home_defines(name: str) -> None:
    home = import_module(f"gradscope.{gradscope._HOMES[name]}")
    value = getattr(gradscope, name)
    assert value is getattr(home, name)
    assert value.__module__ == home.__name__


def test_type_checkers_see_the_same_homes() -> None:
    tree = ast.parse(Path(gradscope.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    seen = {
        alias.name: (node.module or "").removeprefix("gradscope.")
        for node in imports
        for alias in node.names
        if (node.module or "").startswith("gradscope.")
    }
    assert seen == gradscope._HOMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'wacth'"):
        _ = gradscope.wacth
