"""For tests: assertions on what a run captured, and recordings made by hand.

The assertions take what `gradscope.watch` gave, or its recording, and raise `AssertionError` with a profile of the
layers and the line at fault. They are plain functions, so they work in unittest and in any other test runner:

    with gradscope.watch(model, every=1) as scope:
        train(model)
    assert_gradients_reach(scope, "encoder.*")

Patterns are those of `fnmatch` over module paths and parameter names: `*` matches dots too. Watch with `every=1`, so
that each step is there to be looked at, and assert after the `with` block, when the last step has been judged too.

`recording` and `step_event` make recordings for tests of analyzers. Importing them imports no torch; the assertions are
loaded when they are first touched.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradscope.testing.recordings import recording, step_event

if TYPE_CHECKING:
    from gradscope.testing.bitwise import assert_bitwise_equal
    from gradscope.testing.connections import assert_no_cut
    from gradscope.testing.gradients import assert_gain, assert_gradient_norm, assert_gradients_reach
    from gradscope.testing.health import assert_healthy
    from gradscope.testing.updates import assert_parameters_update

_HOMES = {
    "assert_bitwise_equal": "bitwise",
    "assert_gain": "gradients",
    "assert_gradient_norm": "gradients",
    "assert_gradients_reach": "gradients",
    "assert_healthy": "health",
    "assert_no_cut": "connections",
    "assert_parameters_update": "updates",
}

__all__ = [
    "assert_bitwise_equal",
    "assert_gain",
    "assert_gradient_norm",
    "assert_gradients_reach",
    "assert_healthy",
    "assert_no_cut",
    "assert_parameters_update",
    "recording",
    "step_event",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradscope.testing' has no attribute {name!r}")
    return getattr(import_module(f"gradscope.testing.{_HOMES[name]}"), name)
