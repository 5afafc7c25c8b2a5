"""Everything gradscope raises on purpose. Each message ends with the way out.

GradscopeError
├── NotAModule        watch() was given something that is no torch.nn.Module
├── NoParameters      watch() was given a module without parameters
├── AlreadyWatched    the same model is being watched by another scope
├── UnknownAnalyzer   a name in `ignore`, `analyzers` or `explain` that no analyzer has
├── BadSetting        a threshold or another setting, in pyproject.toml or on the command line, that cannot be meant
├── NotRecorded       a tensor was asked for that was not kept
├── NoSuchSite        a pattern that names no module and no parameter
├── ProgramNotFound   `gradscope run` was given a script or module that is not there
├── NothingStored     there is nothing of a run in a log directory
└── FindingRaised     a finding, raised because the user asked for `on_finding="raise"`
"""


class GradscopeError(Exception):
    """Base class of every error that gradscope raises on purpose."""


class NotAModule(GradscopeError, TypeError):
    """`watch` was given something that is no torch.nn.Module."""


class NoParameters(GradscopeError, ValueError):
    """`watch` was given a module that has no parameters, so there is nothing to train."""


class AlreadyWatched(GradscopeError, RuntimeError):
    """The same model is already being watched."""


class UnknownAnalyzer(GradscopeError, ValueError):
    """No analyzer has this name."""


class BadSetting(GradscopeError, ValueError):
    """A setting cannot be meant: no such threshold, no such key, or a value of the wrong type."""


class NotRecorded(GradscopeError, LookupError):
    """The tensor that was asked for was not kept."""


class NoSuchSite(GradscopeError, LookupError):
    """A pattern names no module that ran and no parameter."""


class ProgramNotFound(GradscopeError, LookupError):
    """There is no such script or module to run."""


class NothingStored(GradscopeError, LookupError):
    """A log directory holds nothing that gradscope has written."""


class FindingRaised(GradscopeError):
    """A finding stopped the loop, as `on_finding="raise"` asks.

    Attributes:
        finding: the `gradscope.findings.Finding` that stopped it.
    """

    def __init__(self, finding: object) -> None:
        super().__init__(str(finding))
        self.finding = finding
