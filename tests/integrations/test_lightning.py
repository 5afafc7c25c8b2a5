"""The real Lightning, tiny runs on the CPU: healthy ones silent, sick ones named, and not a bit changed."""

import io
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.architectures.compat import ensure_operators
from gradscope.errors import FindingRaised, NotRecorded, UnknownAnalyzer
from gradscope.findings import Severity
from gradscope.reports.loggers import CSVLogger

ensure_operators()  # Lightning imports torchvision where it is installed

from lightning import pytorch as pl  # noqa: E402
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, StochasticWeightAveraging  # noqa: E402
from lightning.pytorch.loggers import CSVLogger as LightningCSVLogger  # noqa: E402
from lightning.pytorch.loggers import TensorBoardLogger  # noqa: E402

from gradscope.integrations.lightning import GradScopeCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings(  # what Lightning says of tiny runs, and torch of Lightning
    "ignore:.*does not have many workers",
    "ignore:.*exists and is not empty",
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:The dirpath has changed",
)

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Lightning ignores Ctrl-C from the first one on."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


class Classifier(pl.LightningModule):
    """A module as in Lightning's own first pages."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.encoder(x))
        return output

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        loss = self.loss(batch)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("validation", self.loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Cut(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.encoder(x).detach())
        return output


class Manual(Classifier):
    """Two optimizers that the module drives itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.05) for part in (self.encoder, self.head)]

    def training_step(self, batch: list[Tensor], _: int) -> None:  # type: ignore[override]
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            self.clip_gradients(optimizer, gradient_clip_val=1.0)
            optimizer.step()


class Unzeroed(Manual):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def training_step(self, batch: list[Tensor], _: int) -> None:  # type: ignore[override]
        self.manual_backward(self.loss(batch))
        self.optimizers().step()


class Game(Classifier):
    """A generator and a discriminator in turn, with Lightning's toggling."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = (
            nn.Sequential(nn.Linear(n, 16), nn.LeakyReLU(0.2), nn.Linear(16, m)) for n, m in ((4, 8), (8, 1))
        )
        del self.encoder, self.head

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("validation", self.discriminator(batch[0]).mean())

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters(), lr=1e-3) for part in (self.generator, self.discriminator)]

    def training_step(self, batch: list[Tensor], _: int) -> None:  # type: ignore[override]
        generating, discriminating = self.optimizers()
        real, ones = batch[0], torch.ones(len(batch[0]), 1)
        made = self.generator(torch.randn(len(real), 4))
        self.toggle_optimizer(generating)
        self._step(generating, nn.functional.binary_cross_entropy_with_logits(self.discriminator(made), ones))
        self.untoggle_optimizer(generating)
        self.toggle_optimizer(discriminating)
        logits = self.discriminator(torch.cat([real, made.detach()]))
        self._step(
            discriminating,
            nn.functional.binary_cross_entropy_with_logits(logits, torch.cat([ones, torch.zeros_like(ones)])),
        )
        self.untoggle_optimizer(discriminating)

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


class Transposed(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.encoder(x).T)
        return output


def batches(samples: int = 48) -> DataLoader[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, 8, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=8)


def trainer(*callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {"max_epochs": 4, "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    return pl.Trainer(accelerator="cpu", devices=1, callbacks=list(callbacks), **{**defaults, **quiet, **options})


def fitted(kind: type[Classifier], *callbacks: pl.Callback, **options: Any) -> tuple[Classifier, pl.Trainer]:
    torch.manual_seed(0)
    module, running = kind(), trainer(*callbacks, **options)
    running.fit(module, batches(), batches(16))
    return module, running


def state(module: nn.Module, running: pl.Trainer) -> dict[str, Tensor]:
    """Every tensor that the run has left: weights, buffers, gradients, the optimizers' and the generator's state."""
    found = {**module.state_dict(), "generator": torch.get_rng_state()}
    found |= {f"{name}.grad": p.grad for name, p in module.named_parameters() if p.grad is not None}
    for number, optimizer in enumerate(running.optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            found |= {f"{number}.{index}.{name}": value for name, value in values.items() if value is not None}
    return found


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


HEALTHY: list[tuple[type[Classifier], dict[str, Any]]] = [
    (Classifier, {}),
    (Classifier, {"precision": "bf16-mixed"}),
    (Classifier, {"precision": "bf16-true"}),
    (Classifier, {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5}),
    (Classifier, {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value", "val_check_interval": 2}),
    (Classifier, {"num_sanity_val_steps": 0, "limit_val_batches": 0}),
    (Classifier, {"detect_anomaly": True}),
    (Classifier, {"inference_mode": False}),
    (Manual, {}),
    (Game, {"max_epochs": 8}),
]


@pytest.mark.parametrize(("kind", "options"), HEALTHY, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_healthy_run_is_silent_and_has_the_same_bits(kind: type[Classifier], options: dict[str, Any]) -> None:
    callback = GradScopeCallback(every=1)
    watched = state(*fitted(kind, callback, **options))
    assert [f for f in callback.report().findings if f.severity is not Severity.NOTE] == []
    assert callback.report().notes == ()
    assert callback.report().steps > 5
    assert equal(watched, state(*fitted(kind, **options)))


def test_another_run_would_have_other_bits() -> None:
    assert not equal(state(*fitted(Classifier)), state(*fitted(Classifier, gradient_clip_val=0.1)))


def test_what_trains_is_what_is_recorded() -> None:
    callback = GradScopeCallback(every=1)
    fitted(Classifier, callback, max_epochs=2)
    assert callback.scope is not None
    assert {site.path for site in callback.scope.recording.sites} >= {"encoder.0", "encoder.0.weight", "head.bias"}
    assert callback.report().steps == 2 * 6, "neither the sanity check nor validation counts"


def test_accumulated_batches_are_one_step() -> None:
    callback = GradScopeCallback(every=1)
    fitted(Classifier, callback, max_epochs=2, accumulate_grad_batches=3)
    assert callback.report().steps == 2 * 2


@pytest.mark.parametrize(
    ("kind", "name", "line"),
    [(Cut, "detached-tensor", "self.encoder(x).detach()"), (Unzeroed, "unzeroed-gradient", "self.optimizers().step()")],
)
def test_a_sick_run_is_named_with_its_line(
    kind: type[Classifier], name: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = GradScopeCallback()
    fitted(kind, callback)
    (finding,) = callback.report().findings
    assert finding.analyzer == name
    assert finding.location is not None
    assert Path(finding.location.file).name == Path(__file__).name
    assert line in (finding.location.source or "")
    assert f"{name}   since step" in capsys.readouterr().out


def test_the_report_is_printed_once_and_not_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    fitted(Classifier, GradScopeCallback())
    assert capsys.readouterr().out.count("gradscope: no findings in 24 steps") == 1
    fitted(Classifier, GradScopeCallback(quiet=True))
    assert "gradscope" not in capsys.readouterr().out


def test_a_report_that_cannot_be_printed_does_not_stop_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    callback = GradScopeCallback()
    fitted(Classifier, callback)
    assert callback.report().healthy


def test_an_exception_is_explained_and_nothing_is_left_behind(capsys: pytest.CaptureFixture[str]) -> None:
    callback = GradScopeCallback()
    with pytest.raises(RuntimeError) as caught:
        fitted(Transposed, callback, num_sanity_val_steps=0)
    assert any("shape-mismatch" in note for note in caught.value.__notes__)
    assert "shape-mismatch" in capsys.readouterr().out
    assert not _global_forward_hooks
    fitted(Classifier, callback)
    assert callback.report().healthy


class Interrupted(Classifier):
    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        if self.global_step == 3:
            raise KeyboardInterrupt
        return super().training_step(batch, index)


def test_an_interrupted_run_has_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fitted(Interrupted, GradScopeCallback())
    assert "no findings in 3 steps" in capsys.readouterr().out
    assert not _global_forward_hooks


def test_a_finding_can_stop_the_trainer() -> None:
    callback = GradScopeCallback(on_finding="raise")
    with pytest.raises(FindingRaised, match="unzeroed-gradient"):
        fitted(Unzeroed, callback)
    assert not _global_forward_hooks
    assert callback.report().steps == 2


def test_options_are_those_of_watch() -> None:
    told: list[Any] = []
    fitted(Cut, GradScopeCallback(ignore=["detached-tensor"], on_finding=told.append))
    fitted(Unzeroed, GradScopeCallback(analyzers=["detached-tensor"], on_finding=told.append))
    assert told == []
    fitted(Cut, GradScopeCallback(budget=0.5, on_finding=told.append))
    assert [finding.analyzer for finding in told] == ["detached-tensor"]


@pytest.mark.parametrize(("options", "error"), [({"ignore": "detached"}, UnknownAnalyzer), ({"every": 0}, ValueError)])
def test_a_wrong_option_is_refused_before_any_data_is_loaded(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        GradScopeCallback(**options)


def test_there_is_no_report_before_a_run() -> None:
    with pytest.raises(NotRecorded, match="no training has begun"):
        GradScopeCallback().report()


def scalars(folder: Path) -> set[str]:
    return set(EventAccumulator(str(folder / "gradscope")).Reload().Tags()["scalars"])


def test_it_writes_beside_the_trainers_tensorboard_logger(tmp_path: Path) -> None:
    _, running = fitted(
        Classifier, GradScopeCallback(), logger=[LightningCSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path)]
    )
    folder = Path(str(running.loggers[1].log_dir))
    assert "update/ratio/median" in scalars(folder)
    assert "loss" in set(EventAccumulator(str(folder)).Reload().Tags()["scalars"])


@pytest.mark.parametrize("logger", [False, True])
def test_a_logdir_of_its_own_comes_first(logger: bool, tmp_path: Path) -> None:
    loggers = TensorBoardLogger(tmp_path / "theirs") if logger else False
    fitted(Classifier, GradScopeCallback(logdir=tmp_path / "ours"), logger=loggers)
    assert "update/ratio/median" in scalars(tmp_path / "ours")
    assert list(tmp_path.glob("theirs/**/gradscope")) == []


def test_without_a_tensorboard_logger_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fitted(Classifier, GradScopeCallback(), logger=LightningCSVLogger("logs"))
    assert [path.name for path in tmp_path.glob("**/*") if "gradscope" in path.name or "events" in path.name] == []


def test_other_loggers_are_fed(tmp_path: Path) -> None:
    fitted(Cut, GradScopeCallback(loggers=[CSVLogger(tmp_path)]))
    assert "detached-tensor" in (tmp_path / "findings.csv").read_text()


def test_one_callback_watches_several_runs(capsys: pytest.CaptureFixture[str]) -> None:
    callback = GradScopeCallback(every=1)
    module, running = fitted(Classifier, callback)
    first = callback.report()
    running.fit_loop.max_epochs = 6
    running.fit(module, batches(), batches(16))
    assert (first.steps, callback.report().steps) == (24, 12)
    running.validate(module, batches(16), verbose=False)
    running.test_step = None
    fitted(Cut, callback)
    assert [finding.analyzer for finding in callback.report().findings] == ["detached-tensor"]
    assert capsys.readouterr().out.count("gradscope: ") == 3


def checkpoint(folder: Path, *callbacks: pl.Callback, resume: Path | None = None, epochs: int = 2) -> dict[str, Any]:
    torch.manual_seed(0)
    saving = ModelCheckpoint(folder, filename="saved", enable_version_counter=False)
    folder.mkdir()
    running = trainer(*callbacks, saving, max_epochs=epochs, enable_checkpointing=True)
    running.fit(Classifier(), batches(), batches(16), ckpt_path=resume)
    found: dict[str, Any] = torch.load(folder / "saved.ckpt", weights_only=False)
    return found


def flat(value: Any, path: str = "") -> dict[str, Tensor]:
    """The tensors in nested dicts and lists; other values count by their text."""
    if isinstance(value, Tensor):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        return {f"{path}={value}": torch.zeros(0)}
    return {name: leaf for key, item in items for name, leaf in flat(item, f"{path}/{key}").items()}


def test_a_checkpoint_is_the_same_and_resumes_with_and_without_the_callback(tmp_path: Path) -> None:
    watched = checkpoint(tmp_path / "1", GradScopeCallback())
    plain = checkpoint(tmp_path / "2")
    for made in (watched, plain):
        made.pop("callbacks")  # where Lightning's own has saved to
    assert equal(flat(watched), flat(plain))
    callback = GradScopeCallback()
    saved = tmp_path / "1" / "saved.ckpt"
    resumed = checkpoint(tmp_path / "3", callback, resume=saved, epochs=4)
    straight = checkpoint(tmp_path / "4", resume=saved, epochs=4)
    assert callback.report().healthy
    assert callback.report().steps == 12
    assert equal(resumed["state_dict"], straight["state_dict"])


def test_other_callbacks_do_their_work_beside_it() -> None:
    def others() -> list[pl.Callback]:
        return [EarlyStopping("validation", patience=1), StochasticWeightAveraging(1e-3)]

    callback = GradScopeCallback(every=1)
    watched = state(*fitted(Classifier, callback, *others()))
    assert callback.report().healthy
    assert equal(watched, state(*fitted(Classifier, *others())))


@pytest.mark.parametrize("copy", [deepcopy, lambda callback: pickle.loads(pickle.dumps(callback))])
def test_it_can_be_copied_and_sent_to_another_process(copy: Callable[[Any], Any]) -> None:
    callback = GradScopeCallback(every=3)
    fitted(Classifier, callback)
    other = copy(callback)
    assert other.scope is None
    fitted(Classifier, other)
    assert other.report().steps == callback.report().steps


PROGRAM = """
import sys
from benchmarks.architectures.compat import ensure_operators
ensure_operators()
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
{imports}

class Net(pl.LightningModule):
    def __init__(self, cut):
        super().__init__()
        self.encoder, self.head, self.cut = nn.Linear(8, 4), nn.Linear(4, 3), cut
    def training_step(self, batch, _):
        code = self.encoder(batch[0])
        code = code.detach() if self.cut else code
        return nn.functional.cross_entropy(self.head(code.relu()), batch[1])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
    def on_fit_end(self):
        sys.stdout.write(f"bits {{sum(p.double().sum().item() for p in self.parameters()).hex()}}\\n")

def fit(*callbacks, cut=False, **options):
    torch.manual_seed(0)
    x = torch.randn(32, 8)
    data = DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=4)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks), **options)
    trainer.fit(Net(cut), data)

if __name__ == "__main__":
    {fits}
    print("loaded", *(name for name in ("lightning", "pytorch_lightning") if name in sys.modules))
"""
OURS = "from gradscope.integrations.lightning import GradScopeCallback"
NEW, OLD = "import lightning.pytorch as pl", "import pytorch_lightning as pl"


def run(folder: Path, imports: str, *fits: str) -> str:
    """What a program of its own prints."""
    script = folder / "program.py"
    script.write_text(PROGRAM.format(imports=imports, fits="\n    ".join(fits)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("imports", "loaded"),
    [
        (f"{OLD}\n{OURS}", "pytorch_lightning"),
        (f"{OURS}\n{OLD}", "lightning pytorch_lightning"),  # made for the one, it works with the other
    ],
    ids=["before", "after"],
)
def test_lightning_may_have_its_old_name(imports: str, loaded: str, tmp_path: Path) -> None:
    printed = run(tmp_path, imports, "fit(GradScopeCallback(), cut=True)")
    assert "program.py:17  .detach() after 'encoder' cuts the graph" in printed
    assert f"loaded {loaded}\n" in printed


def test_two_processes_train_as_without_it_and_report_once(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        f"{NEW}\n{OURS}",
        "fit(devices=2, strategy='ddp_fork')",
        "fit(GradScopeCallback(every=1), devices=2, strategy='ddp_fork')",
        "fit(GradScopeCallback(), cut=True, devices=2, strategy='ddp_fork_find_unused_parameters_true')",
    )
    assert len(bits := re.findall(r"bits (\S+)\n", printed)) == 6
    assert len(set(bits[:4])) == 1, "with and without it, in both processes"
    assert printed.count("gradscope: no findings in 8 steps, 8 observed") == 1
    assert printed.count("program.py:17  .detach() after 'encoder' cuts the graph") == 1
    assert printed.count("gradscope: 1 error in 8 steps") == 1
