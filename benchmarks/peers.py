"""Other tools, attached as their documents say and made to look at every step.

benchmarks/requirements.txt has the versions that these lines were written for; what is not installed is left out.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from tempfile import TemporaryDirectory

from benchmarks.timing import Program, Step, Way


@dataclass(frozen=True)
class Peer:
    """Another tool, and the distribution that it comes in."""

    name: str
    package: str
    enter: Callable[[Program], AbstractContextManager[Step]]

    @property
    def version(self) -> str | None:
        """The installed version."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    @property
    def way(self) -> Way:
        """As a row of the table."""
        return Way(self.name, self.enter)


@contextmanager
def wandb_watch(program: Program) -> Iterator[Step]:
    """Histograms of gradients and parameters, logged with the user's own call in each step."""
    import wandb  # noqa: PLC0415  it may not be installed

    with TemporaryDirectory() as folder:
        run = wandb.init(mode="offline", dir=folder, settings=wandb.Settings(silent=True))
        run.watch(program.model, log="all", log_freq=1)

        def step() -> None:
            program.step()
            run.log({"loss": 0.0})

        try:
            yield step
        finally:
            run.unwatch(program.model)
            run.finish()


@contextmanager
def torchlens_checks(program: Program) -> Iterator[Step]:
    """The checks that look at a training loop, all of them."""
    from torchlens.checks import ChecksSession  # noqa: PLC0415  it may not be installed

    session = ChecksSession(program.model, program.optimizer)
    session.register_change_check()
    session.register_nonfinite_gradient_check()
    session.register_magnitude_check()
    session.register_update_ratio_check()
    with session:
        yield program.step


@contextmanager
def torchinstruments_observer(program: Program) -> Iterator[Step]:
    """Its statistics and histograms; by default it takes them once a minute."""
    import torchinstruments as instruments  # noqa: PLC0415  it may not be installed

    with TemporaryDirectory() as folder:
        instruments.inject_observer(program.model, output_dir=folder, sampler=instruments.AlwaysSampler())
        try:
            yield program.step
        finally:
            instruments.remove_observer(program.model)


@contextmanager
def neural_observatory(program: Program) -> Iterator[Step]:
    """Its defaults: raw copies of activations and gradients; parameters only when a report is made."""
    from neural_observatory import Observatory  # noqa: PLC0415  it may not be installed

    logging.getLogger("neural_observatory").setLevel(logging.ERROR)
    with Observatory(program.model) as observatory:

        def step() -> None:
            observatory.step()
            program.step()

        yield step


PEERS = (
    Peer("wandb.watch, log='all', offline", "wandb", wandb_watch),
    Peer("torchlens checks", "torchlens", torchlens_checks),
    Peer("torchinstruments, every step", "torchinstruments", torchinstruments_observer),
    Peer("neural-observatory", "neural-observatory", neural_observatory),
)
