"""The real Trainer of Transformers, tiny runs on the CPU: healthy ones silent, sick ones named, not a bit changed."""

import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks
from torch.utils.data import Dataset

from benchmarks.architectures.compat import ensure_operators
from gradscope.errors import FindingRaised, NotRecorded, UnknownAnalyzer
from gradscope.findings import Severity
from gradscope.reports.loggers import CSVLogger

ensure_operators()  # Transformers imports torchvision where it is installed

from transformers import (  # noqa: E402
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from gradscope.integrations.transformers import GradScopeCallback  # noqa: E402

WORDS, LENGTH = 50, 12


class Sentences(Dataset[dict[str, Tensor]]):
    """Random words; the class is whether the first is among the smaller half."""

    def __init__(self, samples: int, *, classes: bool) -> None:
        generator = torch.Generator().manual_seed(1)
        self.words = torch.randint(0, WORDS, (samples, LENGTH), generator=generator)
        self.labels = (self.words[:, 0] < WORDS // 2).long() if classes else self.words

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.words[index], "labels": self.labels[index]}


class Classifier(nn.Module):
    """A module of the user's own, as the Trainer takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.head(self.code(input_ids))
        return nn.functional.cross_entropy(scores, labels), scores

    def code(self, input_ids: Tensor) -> Tensor:
        code: Tensor = self.embedding(input_ids).mean(1).relu()
        return code


class Cut(Classifier):
    def code(self, input_ids: Tensor) -> Tensor:
        return super().code(input_ids).detach()


class Transposed(Classifier):
    def code(self, input_ids: Tensor) -> Tensor:
        return super().code(input_ids).T


def bert() -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(vocab_size=WORDS, max_position_embeddings=LENGTH, **sizes))


def gpt() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_positions=LENGTH, n_embd=16, n_layer=2, n_head=2))


def trainer(make: Callable[[], nn.Module], folder: Path, *callbacks: TrainerCallback, **options: Any) -> Trainer:
    set_seed(0)
    defaults = {"num_train_epochs": 3, "learning_rate": 1e-2, "eval_strategy": "epoch", "save_strategy": "no"}
    quiet = {"report_to": "none", "disable_tqdm": True, "logging_strategy": "no", "use_cpu": True}
    classes = make is not gpt
    return Trainer(
        make(),
        TrainingArguments(output_dir=str(folder), **{**defaults, **quiet, **options}),
        train_dataset=Sentences(64, classes=classes),
        eval_dataset=Sentences(16, classes=classes),
        callbacks=list(callbacks),
    )


def trained(make: Callable[[], nn.Module], folder: Path, *callbacks: TrainerCallback, **options: Any) -> Trainer:
    running = trainer(make, folder, *callbacks, **options)
    running.train()
    return running


def state(running: Trainer) -> dict[str, Tensor]:
    """Every tensor that the run has left: weights, buffers, the optimizer's and the generator's state."""
    found = {**running.model.state_dict(), "generator": torch.get_rng_state()}
    for index, values in running.optimizer.state_dict()["state"].items():
        found |= {f"{index}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
    return found


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


HEALTHY: list[tuple[Callable[[], nn.Module], dict[str, Any]]] = [
    (bert, {}),
    (gpt, {}),
    (Classifier, {}),
    (bert, {"bf16": True}),
    (gpt, {"gradient_accumulation_steps": 3}),
    (gpt, {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": False}}),
    (bert, {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}}),
    (bert, {"label_smoothing_factor": 0.1, "max_grad_norm": 0.1, "lr_scheduler_type": "cosine", "warmup_steps": 4}),
    (gpt, {"optim": "adafactor", "max_grad_norm": 0.0}),
    (gpt, {"neftune_noise_alpha": 5.0}),
    (bert, {"save_strategy": "epoch", "load_best_model_at_end": True, "save_total_limit": 1}),
    (bert, {"eval_strategy": "steps", "eval_steps": 3, "eval_on_start": True, "logging_nan_inf_filter": False}),
    (Classifier, {"max_steps": 5, "auto_find_batch_size": True}),
]


@pytest.mark.parametrize(("make", "options"), HEALTHY, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_healthy_run_is_silent_and_has_the_same_bits(
    make: Callable[[], nn.Module], options: dict[str, Any], tmp_path: Path
) -> None:
    callback = GradScopeCallback(every=1)
    watched = trained(make, tmp_path / "1", callback, **options)
    assert [f for f in callback.report().findings if f.severity is not Severity.NOTE] == []
    assert callback.report().notes == ()
    assert callback.report().steps == watched.state.global_step
    assert equal(state(watched), state(trained(make, tmp_path / "2", **options)))


def test_another_run_would_have_other_bits(tmp_path: Path) -> None:
    first = state(trained(Classifier, tmp_path))
    assert not equal(first, state(trained(Classifier, tmp_path, learning_rate=1.1e-2)))


def test_a_sick_run_is_named_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = GradScopeCallback()
    trained(Cut, tmp_path, callback)
    (finding,) = callback.report().findings
    assert finding.analyzer == "detached-tensor"
    assert finding.location is not None
    assert Path(finding.location.file).name == Path(__file__).name
    assert "super().code(input_ids).detach()" in (finding.location.source or "")
    assert capsys.readouterr().out.count("detached-tensor   since step 0") == 1


class Unzeroed(Trainer):
    """A trainer whose author has written the step anew, and forgotten something."""

    def train(self) -> None:
        self.model.zero_grad = lambda *_, **__: None
        super().train()


def test_gradients_that_the_trainer_does_not_clear_are_named(tmp_path: Path) -> None:
    callback = GradScopeCallback()
    running = trainer(Classifier, tmp_path, callback)
    running.__class__ = Unzeroed
    running.train()
    assert [finding.analyzer for finding in callback.report().findings] == ["unzeroed-gradient"]


def test_the_report_is_printed_once_and_not_when_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(Classifier, tmp_path, GradScopeCallback())
    assert capsys.readouterr().out.count("gradscope: no findings in 24 steps") == 1
    trained(Classifier, tmp_path, GradScopeCallback(quiet=True))
    assert "gradscope" not in capsys.readouterr().out


def test_an_exception_is_explained_and_nothing_is_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = GradScopeCallback()
    running = trainer(Transposed, tmp_path, callback)
    with pytest.raises(RuntimeError) as caught:
        running.train()
    assert any("shape-mismatch" in note for note in caught.value.__notes__)
    assert capsys.readouterr().out.count("shape-mismatch") == 1
    assert not _global_forward_hooks
    assert not {"_run_epoch", "training_step"} & set(vars(running))


class Stopped(TrainerCallback):
    """Stops a run from within, like Ctrl-C, a full disk or a loader that fails."""

    def __init__(self, event: str, step: int = 3) -> None:
        def stop(args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step >= step:
                raise KeyboardInterrupt

        setattr(self, event, stop)


@pytest.mark.parametrize("event", ["on_step_begin", "on_pre_optimizer_step", "on_step_end", "on_epoch_end"])
def test_an_interrupted_run_has_its_report(event: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = GradScopeCallback()
    running = trainer(Classifier, tmp_path, callback, Stopped(event))
    with pytest.raises(KeyboardInterrupt):
        running.train()
    assert capsys.readouterr().out.count("gradscope: no findings in ") == 1
    assert not _global_forward_hooks
    assert "_run_epoch" not in vars(running)


@pytest.mark.parametrize("part", ["_run_epoch", "training_step"])
def test_a_part_of_the_trainer_that_the_user_has_replaced_stays(part: str, tmp_path: Path) -> None:
    running = trainer(Classifier, tmp_path, GradScopeCallback())
    method, calls = getattr(running, part), list[object]()

    def replaced(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return method(*args, **kwargs)

    setattr(running, part, replaced)
    running.train()
    assert vars(running)[part] is replaced
    assert calls


def test_a_run_whose_end_nobody_told_gives_way_to_the_next(tmp_path: Path) -> None:
    first, second = GradScopeCallback(), GradScopeCallback()
    running = trainer(Classifier, tmp_path, first, Stopped("on_train_begin", step=0))
    with pytest.raises(KeyboardInterrupt):
        running.train()
    running.pop_callback(Stopped)
    running.add_callback(second)
    running.pop_callback(first)
    running.train()
    assert second.report().steps == 24
    assert not _global_forward_hooks


def test_a_finding_can_stop_the_trainer(tmp_path: Path) -> None:
    callback = GradScopeCallback(on_finding="raise")
    with pytest.raises(FindingRaised, match="detached-tensor"):
        trained(Cut, tmp_path, callback)
    assert not _global_forward_hooks


def test_options_are_those_of_watch(tmp_path: Path) -> None:
    told: list[Any] = []
    options: dict[str, Any] = {"logdir": tmp_path / "runs", "loggers": [CSVLogger(tmp_path)], "on_finding": told.append}
    trained(Cut, tmp_path, GradScopeCallback(ignore=["detached-tensor"], **options))
    assert told == []
    trained(Cut, tmp_path, GradScopeCallback(**options))
    assert [finding.analyzer for finding in told] == ["detached-tensor"]
    assert "detached-tensor" in (tmp_path / "findings.csv").read_text()
    found = EventAccumulator(str(tmp_path / "runs" / "gradscope")).Reload()
    assert "update/ratio/median" in found.Tags()["scalars"]


@pytest.mark.parametrize(("options", "error"), [({"ignore": "detached"}, UnknownAnalyzer), ({"budget": 0}, ValueError)])
def test_a_wrong_option_is_refused_before_any_data_is_loaded(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        GradScopeCallback(**options)


def test_there_is_no_report_before_a_run() -> None:
    with pytest.raises(NotRecorded, match="no training has begun"):
        GradScopeCallback().report()


def test_training_goes_on_from_a_checkpoint_with_and_without_it(tmp_path: Path) -> None:
    trained(bert, tmp_path / "1", GradScopeCallback(), save_strategy="epoch")
    trained(bert, tmp_path / "2", save_strategy="epoch")
    callback = GradScopeCallback(every=1)
    watched, plain = trainer(bert, tmp_path / "1", callback), trainer(bert, tmp_path / "2")
    watched.train(resume_from_checkpoint=str(tmp_path / "1" / "checkpoint-8"))
    assert callback.report().healthy
    assert callback.report().steps == 16
    plain.train(resume_from_checkpoint=str(tmp_path / "2" / "checkpoint-8"))
    assert equal(state(watched), state(plain))


def test_one_callback_watches_several_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = GradScopeCallback(every=1)
    running = trained(Classifier, tmp_path, callback)
    running.train()
    running.evaluate()
    assert callback.report().steps == 24
    trained(Cut, tmp_path, callback)
    assert [finding.analyzer for finding in callback.report().findings] == ["detached-tensor"]
    assert capsys.readouterr().out.count("gradscope: ") == 3


@pytest.mark.parametrize("copy", [deepcopy, lambda callback: pickle.loads(pickle.dumps(callback))])
def test_it_can_be_copied_and_sent_to_another_process(copy: Callable[[Any], Any], tmp_path: Path) -> None:
    callback = GradScopeCallback(every=3)
    trained(Classifier, tmp_path, callback)
    other = copy(callback)
    assert other.scope is None
    trained(Classifier, tmp_path, other)
    assert other.report().steps == callback.report().steps
