"""A callback for the Trainer of Lightning, which is called `lightning` or `pytorch_lightning`."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gradscope.trainers import WatchedRuns

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    # The one that the program has imported, else the one that is installed: two that are imported are two libraries.
    NAMES = ("lightning.pytorch", "pytorch_lightning")
    installed = [name for name in NAMES if name in sys.modules or find_spec(name.partition(".")[0])]
    if not installed:
        raise ImportError("neither lightning nor pytorch_lightning: pip install 'torch-gradscope[lightning]'")
    Callback = import_module(min(installed, key=lambda name: name not in sys.modules)).Callback


class GradScopeCallback(WatchedRuns, Callback):
    """Watches each `fit()` and prints the report when it ends: `Trainer(callbacks=[GradScopeCallback()])`.

    Where the trainer has a TensorBoard logger, the run is written below that logger's folder; `logdir` names another
    one. In a distributed run each process watches its own copy, and the first one writes and prints.
    The arguments are those of `WatchedRuns`.
    """

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """The sanity check is over: begin to watch."""
        self._begin(pl_module, main=trainer.is_global_zero, logdir=_tensorboard(trainer))

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:  # noqa: ARG002
        """Training has ended by itself."""
        self._end()

    def on_fit_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:  # noqa: ARG002
        """The progress bar is done, too: tell what was found."""
        self._tell()

    def on_exception(self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException) -> None:  # noqa: ARG002
        """Training has ended in an exception, or by Ctrl-C."""
        self._end(exception)
        self._tell()


def _tensorboard(trainer: "Trainer") -> str | None:
    """The folder of the trainer's TensorBoard logger, if it has one on a disk; either library's logger will do."""
    folders = [str(logger.log_dir) for logger in trainer.loggers if _is_tensorboard(logger) and logger.log_dir]
    return next((folder for folder in folders if "://" not in folder), None)


def _is_tensorboard(logger: object) -> bool:
    return any(kind.__name__ == "TensorBoardLogger" for kind in type(logger).__mro__)
