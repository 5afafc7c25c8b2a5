"""Watching everything that an optimizer trains: what is found, when that ends, what is left behind."""

import copy
import gc
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import ref

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from gradscope import watching
from gradscope.errors import AlreadyWatched, UnknownAnalyzer
from gradscope.hooks import broadcast
from gradscope.scope import open_scopes, watch
from gradscope.watching import watch_everything


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class LossOf(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.model(x)).square().mean()


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.01)


def train(model: nn.Module, optimizer: Optimizer, steps: int = 3, *, zero: bool = True) -> None:
    for _ in range(steps):
        if zero:
            optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()


@contextmanager
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_model_is_watched_from_its_optimizer_on() -> None:
    with watch_everything() as everything:
        model = Net()
        optimizer = sgd(model)
        train(model, optimizer, zero=False)
    (report,) = everything.reports().values()
    assert report.steps == 3
    assert [finding.analyzer for finding in report.findings] == ["unzeroed-gradient"]
    assert list(everything.scopes) == ["Net"]
    assert "unzeroed-gradient" in everything.scopes["Net"]._repr_html_()
    assert everything.glance() == report


def test_an_optimizer_made_before_is_found_at_its_first_step() -> None:
    model = Net()
    optimizer = sgd(model)
    with watch_everything() as everything:
        train(model, optimizer, 4)
    assert everything.reports()["Net"].steps == 3
    assert everything.reports()["Net"].healthy


def test_nothing_is_left_behind() -> None:
    init, callbacks = Optimizer.__init__, list(gc.callbacks)
    with watch_everything():
        model = Net()
        optimizer = sgd(model)
        train(model, optimizer)
        copy.deepcopy(model)
        pickle.dumps(optimizer)
    assert Optimizer.__init__ is init
    assert gc.callbacks == callbacks
    assert open_scopes() == ()
    assert broadcast._listeners == ()
    assert not broadcast._handles


def test_training_is_bit_for_bit_the_same() -> None:
    def run() -> list[Tensor]:
        torch.manual_seed(0)
        model = Net()
        train(model, torch.optim.Adam(model.parameters()), 30)
        return [parameter.detach().clone() for parameter in model.parameters()]

    bare = run()
    with watch_everything():
        watched = run()
    assert all(map(torch.equal, bare, watched))


def test_several_models_have_names_of_their_own() -> None:
    with watch_everything() as everything:
        models = [Net(), Net(), nn.Linear(4, 1)]
        optimizers = [sgd(model) for model in models]
        for model, optimizer in zip(models, optimizers, strict=True):
            train(model, optimizer)
    assert {name: report.steps for name, report in everything.reports().items()} == {"Net": 3, "Net#2": 3, "Linear": 3}


def test_several_optimizers_of_a_model_share_its_scope() -> None:
    with watch_everything() as everything:
        model = Net()
        first = torch.optim.SGD(model.body[0].parameters(), lr=0.01)
        second = torch.optim.SGD(model.body[2].parameters(), lr=0.01)
        for _ in range(3):
            model.zero_grad()
            model(torch.randn(5, 4)).square().mean().backward()
            first.step()
            second.step()
    assert {name: report.steps for name, report in everything.reports().items()} == {"Net": 3}
    assert everything.reports()["Net"].findings == ()


def test_one_optimizer_of_two_models_has_two_scopes() -> None:
    with watch_everything() as everything:
        encoder, decoder = Net(), nn.Linear(1, 4)
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
        for _ in range(3):
            optimizer.zero_grad()
            decoder(encoder(torch.randn(5, 4))).square().mean().backward()
            optimizer.step()
    assert {name: report.steps for name, report in everything.reports().items()} == {"Net": 3, "Linear": 3}


def test_a_loss_module_around_the_model_is_the_root() -> None:
    with watch_everything() as everything:
        model = Net()
        criterion = LossOf(model)
        optimizer = sgd(model)
        for _ in range(3):
            optimizer.zero_grad()
            criterion(torch.randn(5, 4)).backward()
            optimizer.step()
    assert list(everything.scopes) == ["LossOf"]
    assert everything.reports()["LossOf"].healthy


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_a_wrapper_is_looked_through(wrap: type[nn.DataParallel[Net]]) -> None:
    with watch_everything() as everything:
        wrapped = wrap(Net())
        train(wrapped, sgd(wrapped))
        assert list(everything.scopes) == []  # its optimizer is gone
    assert list(everything.reports()) == ["Net"]


def test_lbfgs_with_its_closure() -> None:
    with watch_everything() as everything:
        model = Net()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
        x = torch.randn(16, 4)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = (model(x) - 1).square().mean()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
    assert everything.reports()["Net"].healthy
    assert everything.reports()["Net"].steps == 3


def test_a_group_added_later_brings_its_model() -> None:
    with watch_everything() as everything:
        body, head = Net(), nn.Linear(1, 1)
        optimizer = sgd(body)
        train(body, optimizer)
        optimizer.add_param_group({"params": head.parameters()})
        train(nn.Sequential(body, head), optimizer, 4)
    assert everything.reports()["Net"].steps == 7
    assert everything.reports()["Linear"].steps == 3


def test_bare_tensors_are_a_note() -> None:
    with watch_everything() as everything:
        image = torch.zeros(3, requires_grad=True)
        optimizer = torch.optim.Adam([image])
        image.square().sum().backward()
        optimizer.step()
    assert everything.reports() == {}
    assert everything.notes == ("1 tensor trained by Adam: in no torch.nn.Module",)


def test_the_program_s_own_scope_wins() -> None:
    with watch_everything() as everything:
        model = Net()
        optimizer = sgd(model)
        with watch(model) as scope:
            train(model, optimizer, zero=False)
        train(model, optimizer)
    assert everything.reports() == {}
    assert everything.notes == ("Net: the program watches it by itself from then on",)
    assert scope.report().steps == 3
    assert len(scope.findings) == 1


def test_a_scope_of_a_part_of_the_model_wins_too() -> None:
    with watch_everything() as everything:
        model = Net()
        optimizer = sgd(model)
        train(model, optimizer)
        with watch(model.body) as scope:
            train(model, optimizer)
    assert scope.report().steps == 3
    assert everything.reports()["Net"].steps == 3


def test_a_scope_that_was_there_before_wins() -> None:
    model = Net()
    with watch(model), watch_everything() as everything:
        train(model, sgd(model))
        with pytest.raises(AlreadyWatched), watch(model):  # as without us
            pass
    assert everything.reports() == {}
    assert everything.notes == ("Net: the program watches it by itself",)


def test_within_another_the_inner_one_watches() -> None:
    with watch_everything() as outer, watch_everything() as inner:
        model = Net()
        train(model, sgd(model))
    assert [len(inner.reports()), len(outer.reports())] == [1, 0]
    assert Optimizer.__init__.__qualname__ == "Optimizer.__init__"


def test_models_thrown_away_are_freed_at_once_and_their_reports_stay() -> None:
    with watch_everything() as everything, no_collection():
        for _ in range(5):
            model = Net()
            optimizer = sgd(model)
            train(model, optimizer)
            watched = ref(model)
            del model, optimizer
            assert watched() is None
        assert everything.scopes == {}
    assert [report.steps for report in everything.reports().values()] == [3] * 5


def test_an_optimizer_in_a_cycle_ends_with_the_next_one() -> None:
    with watch_everything() as everything:
        model = Net()
        optimizer = sgd(model)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        optimizer.myself = optimizer  # type: ignore[attr-defined]
        train(model, optimizer)
        watched = ref(model)
        del model, optimizer, schedule
        gc.collect()
        again = nn.Linear(4, 1)
        second = sgd(again)
        assert list(everything.scopes) == ["Linear"]
        gc.collect()
        assert watched() is None
        del second
    assert everything.reports()["Net"].steps == 3


def test_a_model_with_one_optimizer_after_the_other_has_one_report() -> None:
    with watch_everything() as everything:
        model = Net()
        train(model, sgd(model))
        train(model, sgd(model), zero=False)
        train(model, sgd(model), zero=False)
    (report,) = everything.reports().values()
    assert report.steps == 9
    assert [(finding.analyzer, finding.step) for finding in report.findings] == [("unzeroed-gradient", 4)]


def test_optimizers_made_too_fast_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FREE_SECONDS", 0.0)
    monkeypatch.setattr(watching, "SHARE", 0.0)
    with watch_everything() as everything:
        models = [Net(), Net(), Net()]
        optimizers = [sgd(model) for model in models]
        train(models[2], optimizers[2])
    assert list(everything.reports()) == ["Net"]
    assert everything.notes == (
        "some of what is trained by SGD: optimizers are made faster than they can be looked at",
    )


def test_a_fault_of_ours_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(watching, "roots_of", broken)
    with watch_everything(on_step=broken) as everything:
        model = Net()
        train(model, sgd(model))
    assert everything.reports() == {}
    assert everything.notes == ("a model: RuntimeError('planted')",)


def test_an_exception_of_the_program_passes() -> None:
    model = Net()

    def crash() -> None:
        optimizer = sgd(model)
        train(model, optimizer)
        model(torch.zeros(2, 3))

    everything = watch_everything()
    with pytest.raises(RuntimeError) as raised, everything:
        crash()
    assert "gradscope" in "".join(raised.value.__notes__)
    assert [f.analyzer for f in everything.reports()["Net"].findings] == ["shape-mismatch"]


def test_objects_that_answer_for_others_are_left_alone() -> None:
    class Proxy:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise AssertionError("somebody asked")

    proxy = Proxy()
    with watch_everything() as everything:
        model = Net()
        train(model, sgd(model))
    assert list(everything.reports()) == ["Net"]
    assert type(proxy) is Proxy


def test_impossible_options_are_refused_at_once() -> None:
    with pytest.raises(UnknownAnalyzer):
        watch_everything(ignore=["no-such-thing"])
    with pytest.raises(ValueError, match="every=0"):
        watch_everything(every=0)


def train_by_hand(model: nn.Module, steps: int, *, zero: bool = True) -> None:
    for _ in range(steps):
        if zero:
            model.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.01 * torch.as_tensor(parameter.grad))


def test_a_model_that_is_trained_by_hand_is_watched_from_its_second_backward_on() -> None:
    backward = torch.autograd.backward
    model = Net()
    with watch_everything() as everything:
        train_by_hand(model, 5)
        assert list(everything.scopes) == ["Net"]
        assert torch.autograd.backward is backward
    (report,) = everything.reports().values()
    assert 3 <= report.steps <= 4
    assert not report.findings


def test_a_fault_of_a_loop_without_an_optimizer_is_found() -> None:
    with watch_everything() as everything:
        train_by_hand(Net(), 5, zero=False)
    (report,) = everything.reports().values()
    assert [finding.analyzer for finding in report.findings] == ["unzeroed-gradient"]


def test_training_by_hand_leaves_the_same_weights() -> None:
    def weights(*, watched: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = Net()
        if watched:
            with watch_everything():
                train_by_hand(model, 6)
        else:
            train_by_hand(model, 6)
        return [parameter.detach() for parameter in model.parameters()]

    assert all(map(torch.equal, weights(watched=False), weights(watched=True)))


def test_where_there_is_an_optimizer_nothing_is_looked_for_by_hand() -> None:
    backward = torch.autograd.backward
    model, other = Net(), nn.Linear(4, 1)
    with watch_everything() as everything:
        optimizer = sgd(model)
        assert torch.autograd.backward is backward
        train(model, optimizer)
        train_by_hand(other, 3)
    assert list(everything.reports()) == ["Net"]


def test_an_optimizer_from_before_moves_the_weights_and_is_no_hand() -> None:
    model = Net()
    optimizer = sgd(model)
    with watch_everything() as everything:
        train(model, optimizer, 4)
        del optimizer
        gc.collect()
        assert not everything.scopes
    (report,) = everything.reports().values()
    assert report.steps


def test_tensors_of_no_model_that_are_trained_by_hand_are_noted() -> None:
    weight = torch.ones(3, requires_grad=True)
    with watch_everything() as everything:
        for _ in range(3):
            weight.square().sum().backward()
            weight.data -= 0.1 * torch.as_tensor(weight.grad)
            weight.grad = None
    assert everything.notes == ("1 tensor trained by hand: in no torch.nn.Module",)


def test_gradients_without_training_are_nothing_to_watch() -> None:
    model = Net()
    with watch_everything() as everything:
        for _ in range(5):
            model(torch.randn(5, 4, requires_grad=True)).sum().backward()
    assert not everything.reports()
    assert not everything.notes
