"""The benchmarks' own arithmetic, and that every way to watch leaves a bare program behind."""

import os
import re
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import cost, growth, overhead, timing
from benchmarks.aside import HOOKS, Aside, names_of_clocks, possible
from benchmarks.cost import cell, limit, machine, table, target, verdict, written
from benchmarks.peers import PEERS, Peer
from benchmarks.timing import (
    Figure,
    Program,
    Step,
    Stretch,
    Turns,
    Way,
    figure,
    gathered,
    in_turns,
    steadily,
    total,
    turns_of,
    wholly,
)
from benchmarks.ways import BETWEEN, DEFAULT, FULL, IN_TURNS, LIMIT, LOGDIR, NOISE, STEADY, WHOLE, OneRead, tensors
from benchmarks.workloads import WORKLOADS, Workload, small
from gradscope.scope import watch

OURS = (*STEADY, *WHOLE, *IN_TURNS)


def tiny() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    rows = torch.randn(4, 3)
    return nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1)), lambda model: model(rows).square().mean()


@pytest.fixture
def program() -> Program:
    return Program(Workload("tiny", tiny))


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, seconds: float) -> Step:
        def step() -> None:
            self.now += seconds

        return step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "perf_counter", clock)
    return clock


class Timed:
    """Stands in for a program whose steps take a second, and for a way that makes them take longer."""

    def __init__(self, clock: Clock, watched: float, around: float = 0.0) -> None:
        self.step = clock.takes(1.0)
        self._watched, self._around = clock.takes(watched), clock.takes(around)
        self.way = Way("slow", self._enter)

    @contextmanager
    def _enter(self, _program: Program) -> Iterator[Step]:
        self._around()
        yield self._watched
        self._around()


def test_a_watched_step_is_held_against_the_bare_ones_next_to_it(clock: Clock) -> None:
    durations = iter([1.0, 2.0, 4.0])

    def bare() -> None:
        clock.now += next(durations)

    with Aside() as aside:
        found = list(islice(timing.stretches(bare, clock.takes(3.0), aside, Turns(2, 1)), 2))
    assert found == [Stretch(6.0, 3.0, 2), Stretch(6.0, 6.0, 2)]


def test_a_steady_way_is_the_median_over_blocks(clock: Clock) -> None:
    slow = Timed(clock, 1.5)
    found = steadily(slow, slow.way, Turns(1, 1), 3.0, 20)  # type: ignore[arg-type]
    assert found == Figure(1.5, 1.5, 1.5, 2 * timing.FEWEST_BLOCKS)


@pytest.mark.parametrize(("wanted", "blocks"), [(0.2, 8), (0.1, 14), (0.0, 20)])
def test_a_steady_way_is_measured_until_it_is_known_well_enough(clock: Clock, wanted: float, blocks: int) -> None:
    slow, durations = Timed(clock, 0.0), cycle([1.0, 1.4])

    def step() -> None:
        clock.now += next(durations)

    @contextmanager
    def enter(_program: Program) -> Iterator[Step]:
        yield step

    found = steadily(slow, Way("wavering", enter, wanted), Turns(1, 1), 1.0, 20)  # type: ignore[arg-type]
    assert found.steps == blocks


def test_a_whole_run_holds_its_beginning_and_its_end(clock: Clock) -> None:
    slow = Timed(clock, 1.5, around=2.0)
    parts = wholly(slow, slow.way, Turns(2, 1), 8)  # type: ignore[arg-type]
    assert parts[0] == Stretch(4.0, 0.0, 0)
    assert total(parts) == Figure(2.0, 2.0, 2.0, 8)


def test_ways_that_take_turns_have_a_bare_block_on_each_side(clock: Clock) -> None:
    slow, slower = Timed(clock, 1.5), Timed(clock, 3.0)
    found = in_turns(slow, [slow.way, Way("slower", slower.way.enter)], 3, 4.0)  # type: ignore[arg-type]
    assert found == {"slow": Figure(1.5, 1.5, 1.5, 9), "slower": Figure(3.0, 3.0, 3.0, 6)}


def test_short_steps_take_turns_in_groups() -> None:
    assert turns_of(0.004, 3) == Turns(13, 13)
    assert turns_of(0.05, 3) == Turns(3, 1)
    assert turns_of(0.05) == Turns(1, 1)


def test_a_block_ends_when_it_is_long_enough() -> None:
    flow = iter([Stretch(0.4, 0.3, 1)] * 5)
    found = gathered(flow, 1.0)
    assert found.watched == pytest.approx(1.2)
    assert found.bare == pytest.approx(0.9)
    assert found.steps == 3
    assert len(list(flow)) == 2


def test_quartiles() -> None:
    assert figure([1.0, 2.0, 3.0, 4.0, 5.0], 7) == Figure(3.0, 2.0, 4.0, 7)
    assert figure([1.5], 7) == Figure(1.5, 1.5, 1.5, 7)


def test_the_quartiles_of_a_whole_run_know_that_its_beginning_differs() -> None:
    parts = [Stretch(2.0, 1.0, 1)] * timing.WINDOW + [Stretch(1.0, 1.0, 1)] * 3 * timing.WINDOW
    assert total(parts) == Figure(1.25, 1.25, 1.25, 4 * timing.WINDOW)
    noisy = total([Stretch(1.0 + 0.2 * (i % 2), 1.0, 1) for i in range(100)])
    assert noisy.ratio == pytest.approx(1.1)
    assert 1.08 < noisy.low < noisy.ratio < noisy.high < 1.12


def test_a_step_set_aside_is_bare_and_unseen(program: Program) -> None:
    with Aside() as aside, watch(program.model, every=1) as scope:
        program.step()
        tables = [dict(table) for table in HOOKS]
        assert any(tables)
        with aside.out():
            assert not any(HOOKS)
            program.step()
        assert [dict(table) for table in HOOKS] == tables
        program.step()
    assert scope.report().steps == 2


def test_hooks_come_back_when_a_step_fails(program: Program) -> None:
    with Aside() as aside, watch(program.model):
        tables = [dict(table) for table in HOOKS]
        with pytest.raises(ZeroDivisionError), aside.out():
            raise ZeroDivisionError
        assert [dict(table) for table in HOOKS] == tables


def test_the_clocks_of_gradscope_stand_still_meanwhile() -> None:
    clocks = names_of_clocks("gradscope")
    assert clocks
    with Aside() as aside:
        assert names_of_clocks("gradscope") == []
        start = [names[name]() for names, name, _ in clocks]
        with aside.out():
            time.sleep(0.2)
        assert all(0 <= names[name]() - before < 0.1 for (names, name, _), before in zip(clocks, start, strict=True))
    assert names_of_clocks("gradscope") == clocks


def test_gradscope_has_no_other_clocks() -> None:
    for path in sorted((Path(__file__).parent.parent / "gradscope").rglob("*.py")):
        found = re.search(r"\btime\.(monotonic|perf_counter)", path.read_text(encoding="utf-8"))
        assert found is None, f"{path}: a clock that cannot be made to stand still"


def test_a_traced_step_cannot_be_followed_by_a_bare_one(program: Program) -> None:
    assert possible()
    with watch(program.model, every=1) as scope:
        scope.trace_next()
        program.step()
        program.loss()
    assert possible()


def state(program: Program) -> dict[str, Any]:
    """Everything that a tool may have hung on a process, a model, its parameters or its optimizer."""
    found: dict[str, Any] = {f"global {i}": dict(table) for i, table in enumerate(HOOKS)}
    for path, module in program.model.named_modules():
        for name, value in vars(module).items():
            found[f"{path}.{name}"] = dict(value) if isinstance(value, dict) else value
    for name, parameter in program.parameters():
        found[f"hooks of {name}"] = dict(parameter._backward_hooks or {})
        found[f"late hooks of {name}"] = dict(getattr(parameter, "_post_accumulate_grad_hooks", None) or {})
    for name, value in vars(program.optimizer).items():
        if "hooks" in name:
            found[f"optimizer {name}"] = dict(value)
    return found


def leaves_nothing(program: Program, way: Way) -> None:
    program.step()
    before, weight = state(program), next(program.model.parameters()).detach().clone()
    with way.enter(program) as step:
        for _ in range(3):
            step()
    assert state(program) == before
    assert not torch.equal(weight, next(program.model.parameters()))


@pytest.mark.parametrize("way", OURS, ids=lambda way: way.name)
def test_a_way_takes_steps_and_leaves_nothing(program: Program, way: Way) -> None:
    leaves_nothing(program, way)


@pytest.mark.filterwarnings("ignore")  # other tools' warnings are their own affair
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.package)
def test_another_tool_takes_steps_and_leaves_nothing(program: Program, peer: Peer) -> None:
    if peer.version is None:
        pytest.skip(f"{peer.package} is not installed")
    leaves_nothing(program, peer.way)


def test_what_is_left_behind_would_be_noticed(program: Program) -> None:
    @contextmanager
    def forgetful(program: Program) -> Iterator[Step]:
        program.model[0].register_forward_hook(lambda *_: None)  # type: ignore[index]
        yield program.step

    with pytest.raises(AssertionError, match="_forward_hooks"):
        leaves_nothing(program, Way("forgetful", forgetful))


def test_the_limit_reads_every_tensor_once(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(OneRead, "read", lambda _self, tensor: read.append(tuple(tensor.shape)))
    with LIMIT.enter(program) as step:
        step()
    outputs = [(4, 3), (4, 3), (4, 1)]  # the whole model's output is the last layer's
    assert read == [*outputs, *reversed(outputs), (3, 3), (3,), (1, 3), (1,)]


def test_tensors_of_an_output() -> None:
    one, two = torch.zeros(1), torch.zeros(2)
    assert list(tensors({"a": one, "b": (two, None, torch.zeros(1, dtype=torch.int64))})) == [one, two]


RESULTS = {
    "MLP": {
        FULL.name: Figure(1.1304, 1.12, 1.14, 50),
        DEFAULT.name: Figure(1.0154, 1.01, 1.02, 500),
        LOGDIR.name: Figure(1.0204, 1.02, 1.03, 500),
    },
    "ViT": {FULL.name: Figure(1.2, 1.1, 1.3, 9)},
}


def test_targets_are_judged_to_the_digits_shown() -> None:
    assert verdict(FULL.name, "MLP", {FULL.name: Figure(1.1204, 1, 2, 3)}) == "met"
    assert verdict(FULL.name, "MLP", RESULTS["MLP"]) == "**missed**"
    assert verdict(FULL.name, "ViT", RESULTS["ViT"]) == ""
    assert verdict(LIMIT.name, "MLP", {LIMIT.name: Figure(9.0, 8, 10, 3)}) == ""


def test_a_logdir_is_judged_by_what_it_adds() -> None:
    assert limit(LOGDIR.name, "MLP", RESULTS["MLP"]) == pytest.approx(1.020)
    assert verdict(LOGDIR.name, "MLP", RESULTS["MLP"]) == "met"
    assert limit(LOGDIR.name, "ViT", RESULTS["ViT"]) is None
    assert limit(LOGDIR.name, "MLP", {}) is None


def test_the_table() -> None:
    lines = table(RESULTS, {"MLP": 0.005, "ViT": 0.1}, [FULL, NOISE, LOGDIR]).splitlines()
    assert lines == [
        "|  | target | MLP | ViT | steps |",
        "| --- | --- | --- | --- | --- |",
        "| bare step |  | 5.0 ms | 100.0 ms |  |",
        f"| {FULL.name} | 1.12 | 1.130 (1.120 to 1.140), **missed** | 1.200 (1.100 to 1.300) | 50 / 9 |",
        f"| {LOGDIR.name} | default + 0.005 | 1.020 (1.020 to 1.030), met | - | 500 / - |",
    ]
    assert cell(NOISE.name, "MLP", RESULTS["MLP"]) == "-"


def test_targets_in_words() -> None:
    names = [workload.name for workload in WORKLOADS]
    assert target(FULL.name, names) == "1.05 / 1.05 / 1.12"
    assert target(BETWEEN.name, names) == "1.01"
    assert target(NOISE.name, names) == ""


def test_every_target_is_of_a_workload_there_is() -> None:
    names = {workload.name for workload in WORKLOADS}
    assert all(set(targets) <= names for targets in cost.TARGETS.values())


def test_the_page_is_written_between_its_markers() -> None:
    page = "a\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nb\n"
    assert written(page, "new\n") == page.replace("old", "new")
    with pytest.raises(ValueError, match="no <!-- measured"):
        written("a", "new")
    assert written(cost.PAGE.read_text(encoding="utf-8"), "new\n")


def test_the_machine_is_described() -> None:
    text = machine(2)
    assert f"torch {torch.__version__}" in text
    assert "2 threads used" in text


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    page = tmp_path / "cost.md"
    page.write_text("<!-- measured: begin -->\n<!-- measured: end -->\n", encoding="utf-8")
    monkeypatch.setattr(overhead, "PAGE", page)
    monkeypatch.setattr(overhead, "WORKLOADS", (Workload("tiny", tiny), Workload("other", tiny)))
    for name in ("ENOUGH_SECONDS", "BLOCK_SECONDS", "TURN_SECONDS"):
        monkeypatch.setattr(overhead, name, 0.001)
    monkeypatch.setattr(overhead, "keep_memory", lambda: None)
    monkeypatch.setattr(overhead, "threadpool_limits", lambda _: None)
    return page


def test_the_command_prints_and_writes_one_table(quick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ways = ["gradscope, every", "between", "default", "hand", "against"]
    sizes = ["--pairs", "2", "--rounds", "2", "--steps", "4"]
    overhead.main([*sizes, "--only", "tin", "--ways", *ways, "--write"])
    printed = capsys.readouterr().out
    written_table = quick.read_text(encoding="utf-8").split("\n\n")[2]
    assert written_table in printed
    rows = [line.split(" | ")[0].strip("| ") for line in written_table.splitlines()]
    assert rows[3:] == [
        way.name for way in overhead.ALL if any(text in way.name for text in ways) and way.name not in PEER_NAMES
    ]
    assert re.search(r"gradscope, default: .*, \d+ x 4 steps; observed 4 of 4 steps", printed)
    assert "other" not in printed.replace("other tools", "")


PEER_NAMES = [peer.name for peer in PEERS]


def test_the_command_names_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "PEERS", (Peer("a tool", "no-such-package", NOISE.enter),))
    assert overhead.absent() == [
        "a tool is left out: no-such-package is not installed (pip install -r benchmarks/requirements.txt)"
    ]
    monkeypatch.setattr(overhead, "ALL", ())
    found = overhead.measured(Program(Workload("tiny", tiny)), 1.0, Namespace(ways=["a tool"], rounds=1))
    assert found == {}


def test_each_tool_is_pinned() -> None:
    pins = (Path(overhead.__file__).parent / "requirements.txt").read_text(encoding="utf-8")
    assert all(f"\n{peer.package}==" in pins for peer in PEERS)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_a_workload_trains(workload: Workload) -> None:
    program = Program(workload)
    program.step()
    assert all(parameter.grad is not None for parameter in program.model.parameters())


def test_the_small_modules_are_as_many_as_their_name_says() -> None:
    model, _ = small()
    assert f"{len(list(model.modules()))} small modules" in [workload.name for workload in WORKLOADS]


def test_growth_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "keep_memory", lambda: None)
    monkeypatch.setattr(growth, "MEASURED", 4)
    monkeypatch.setattr(growth, "alone", lambda function, *given, **options: function(*given, **options))
    monkeypatch.setattr(timing, "CHANGE_SECONDS", 0.001)
    monkeypatch.setattr(growth, "SETTLED", 20)
    monkeypatch.setattr(growth, "SAMPLED", 10)
    (row,) = growth.with_size([8]).splitlines()[2:]
    assert row.startswith("| 9 | ")
    (observed, default) = growth.with_steps(40).splitlines()[2:]
    assert observed.endswith(" MB |")
    assert default.endswith(" MB |")
    assert len(growth.with_batch([1]).splitlines()) == 3


def test_a_process_of_its_own() -> None:
    assert growth.alone(os.getpid) != os.getpid()
