"""gradscope: the debugger for gradients in PyTorch.

Names are loaded when they are first touched, so that importing gradscope imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscope.analyzer import Analyzer
    from gradscope.errors import FindingRaised, GradscopeError
    from gradscope.findings import Finding, Report, Severity
    from gradscope.records import Kind, Recording, Statistic
    from gradscope.reports.terminal import show
    from gradscope.scope import Scope, watch
    from gradscope.verification import verify

__version__ = "0.1.0"

_HOMES = {
    "Analyzer": "analyzer",
    "Finding": "findings",
    "FindingRaised": "errors",
    "GradscopeError": "errors",
    "Kind": "records",
    "Recording": "records",
    "Report": "findings",
    "Scope": "scope",
    "Severity": "findings",
    "Statistic": "records",
    "show": "reports.terminal",
    "verify": "verification",
    "watch": "scope",
}

__all__ = [
    "Analyzer",
    "Finding",
    "FindingRaised",
    "GradscopeError",
    "Kind",
    "Recording",
    "Report",
    "Scope",
    "Severity",
    "Statistic",
    "show",
    "verify",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradscope' has no attribute {name!r}")
    return getattr(import_module(f"gradscope.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
