"""A dozen real models, one or more of each kind, under the sweep that `make models` runs over all of them."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from benchmarks.architectures import architectures
from benchmarks.architectures.architecture import Architecture
from benchmarks.architectures.compat import nms
from benchmarks.models import page, row
from benchmarks.trial import Result, Rows, attempt

CHOSEN = (
    "mobilenet_v3_small",
    "faster_rcnn",
    "lraspp_mobilenet_v3_large",
    "mc3_18",
    "ghostnet_050",  # returns views that are modified in place
    "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224, checkpointed",
    "ModernBertForMaskedLM",
    "MixtralForCausalLM",
    "MambaForCausalLM",
    "T5ForConditionalGeneration",
    "CLIPModel",  # returns a view that nothing uses
    "Wav2Vec2ForCTC",
    "LlamaForCausalLM, checkpointed, reentrant",
)

# These libraries' warnings are their own affair.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", CHOSEN)
def test_a_real_model_trains_the_same_and_is_captured_whole(name: str) -> None:
    (architecture,) = (each for each in architectures() if each.name == name)
    result = attempt(architecture)
    assert result.problems == ()
    assert result.deterministic
    assert result.modules > 10
    assert result.gradients.wanted > 10


def test_the_sweep_covers_what_it_promises() -> None:
    everything = list(architectures())
    assert len({(each.library, each.name) for each in everything}) == len(everything) >= 120
    assert sum(each.library == "timm" for each in everything) >= 50
    assert sum(each.library == "transformers" for each in everything) >= 30
    assert sum("checkpointed" in each.name for each in everything) >= 5


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))


def loss(model: nn.Module) -> Tensor:
    output: Tensor = model(torch.randn(8, 4))
    return output.square().mean()


def trial(of: Architecture) -> Result:
    result = attempt(of)
    assert not result.error
    return result


def test_a_changed_bit_would_be_noticed() -> None:
    def disturbed(model: nn.Module) -> Tensor:
        watched = len(torch.nn.modules.module._global_forward_hooks) > 0
        return loss(model) * (1 + 1e-6 * watched)

    result = trial(Architecture("disturbed", "ours", net, disturbed))
    assert result.deterministic
    assert {"loss in step 0", "gradient of 0.weight in step 0", "0.weight at the end"} <= set(result.differences)
    assert "not bit-identical" in result.problems[0]


def test_a_random_number_drawn_too_many_would_be_noticed() -> None:
    def greedy(model: nn.Module) -> Tensor:
        value = loss(model)
        if torch.nn.modules.module._global_forward_hooks:
            torch.rand(1)
        return value

    result = trial(Architecture("greedy", "ours", net, greedy))
    assert set(result.differences) == {"torch's generator in step 0", "torch's generator in step 1"}


def test_a_missing_row_would_be_noticed() -> None:
    class Secretive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, inputs: Tensor) -> Tensor:
            watched = len(torch.nn.modules.module._global_forward_hooks) > 0
            output: Tensor = self.outer(self.inner.forward(inputs) if watched else self.inner(inputs))
            return output

    result = trial(Architecture("secretive", "ours", Secretive, loss))
    assert result.activations.missing == ("inner",)
    assert result.gradients.missing == ("inner",)


def test_a_model_that_is_random_by_itself_is_not_judged() -> None:
    generator = torch.Generator().manual_seed(0)

    def random(model: nn.Module) -> Tensor:
        return loss(model) + torch.rand((), generator=generator)

    result = trial(Architecture("random", "ours", net, random))
    assert not result.deterministic
    assert not any("bit" in problem for problem in result.problems)
    assert "differs bare from bare" in row(result)


def test_a_model_that_fails_is_a_row() -> None:
    def broken() -> nn.Module:
        raise ValueError("no such layer")

    result = attempt(Architecture("broken", "ours", broken, loss))
    assert result.problems == ("ValueError: no such layer",)
    assert "| broken | ours | ValueError: no such layer |" in row(result)


def test_the_page_shows_totals_and_rows() -> None:
    whole = Result("a", "timm", modules=3, activations=Rows(3), gradients=Rows(2), overhead=1.5)
    partly = Result("b", "timm", modules=4, activations=Rows(4, ("x",)), differences=("loss in step 0",), overhead=2.5)
    text = page([whole, partly])
    assert "**2 models, 7 modules: 1 of 2 bit-identical; activations of 6 of 7 modules" in text
    assert "| a | timm | 3 | 3 of 3 / 2 of 2 | yes | none | 1.50 |\n" in text
    assert "| b | timm | 4 | 3 of 4 / 0 of 0 | no | none | 2.50 |\n" in text


def test_non_maximum_suppression_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 4]])
    kept = partial(nms, boxes, torch.tensor([0.5, 0.9, 0.1, 0.7]))
    assert kept(0.5).tolist() == [1, 3, 2]
    assert kept(0.3).tolist() == [1, 2]
    assert kept(0.95).tolist() == [1, 3, 0, 2]
