from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from gradscope.analyzers.vanishing_gradient import VanishingGradient
from gradscope.findings import Finding
from gradscope.records import Recording, Site
from gradscope.testing import recording

Table = Mapping[str, float | Sequence[float | None]]


def found(made: Recording) -> list[Finding]:
    return list(VanishingGradient().analyze(made))


def falling(factor: float = 0.05, layers: int = 10) -> dict[str, float]:
    return {f"fc{i}": factor ** (layers - 1 - i) for i in range(layers)}


def typed(made: Recording, name: str) -> Recording:
    sites: tuple[Site, ...] = tuple(replace(site, module_type=name) for site in made.sites)
    return replace(made, sites=sites)


def test_fires_on_a_slope_and_names_both_ends() -> None:
    (finding,) = found(recording(activation_gradient=falling()))
    assert "back from 'fc9' to 'fc0'" in finding.message
    assert finding.step == 0
    assert finding.sites == ("fc0", "fc1", "fc2", "fc3", "fc4", "fc5")
    assert finding.scope == "6 of 10 modules"


def test_fires_with_the_worst_module_by_the_graph_or_else_by_neighbours() -> None:
    table = falling() | {"fc4": 0.05**5 / 100}
    (neighbours,) = found(recording(activation_gradient=table))
    assert "across 'fc5'" in neighbours.evidence
    sources = {f"fc{i}": (f"fc{i - 1}",) for i in range(1, 10) if i != 5}
    (edges,) = found(recording(activation_gradient=table | {"fc7": 0.05**2 / 3}, sources=sources))
    assert "across 'fc8'" in edges.evidence


def test_fires_since_the_step_from_which_on_it_holds_without_a_break() -> None:
    table = {name: [1.0, 1.0, rms, rms, rms] for name, rms in falling().items()}
    assert found(recording(activation_gradient=table))[0].step == 2


def test_fires_with_a_fix_for_saturating_activations() -> None:
    (finding,) = found(typed(recording(activation_gradient=falling()), "Sigmoid"))
    assert "replace Sigmoid" in finding.fix


def test_fires_beside_containers_that_repeat_their_last_child() -> None:
    layers = {f"body.{name}": rms for name, rms in falling().items()}
    for table in ({"": 1.0, "body": 1.0} | layers, layers | {"body": 1.0, "": 1.0}):
        assert found(recording(activation_gradient=table))


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("a converged model", {f"fc{i}": 1e-12 for i in range(10)}),
        ("a moderate fall", falling(0.4)),
        ("LoRA with B = 0", {f"lora{i}.{part}": 0.0 if part == "A" else 1.0 for i in range(5) for part in "AB"}),
        ("detached layers", dict.fromkeys(["a", "b", "c", "d"], [None] * 5) | {"e": 1.0, "f": 1.0}),
        ("NaN", dict.fromkeys("abcdef", float("nan"))),
        ("a temperature", {f"fc{i}": 1e-7 for i in range(5)} | {f"head{i}": 1.0 for i in range(5)}),
        (
            "low branches on a healthy trunk",
            {f"b{i}.{p}": 1e-7 if p == "in" else 1.0 for i in range(5) for p in ("in", "out")},
        ),
        ("an auxiliary loss of tiny weight", falling(0.8) | {f"aux{i}": 1e-8 for i in range(3)}),
        ("a wave", {f"fc{i}": 10.0**y for i, y in enumerate([3, 1.5, 0, 1.5, 3, 4.5, 6, 4.5, 3, 1.5])}),
        ("a jump between two slopes", {f"fc{i}": 10.0**y for i, y in enumerate([-12, -10.8, -9.6, -2.4, -1.2, 0])}),
        ("a recurrent network", {"rnn": 1e-9, "head": 1.0}),
        ("nothing but zeros", dict.fromkeys("abcdef", 0.0)),
        ("nothing", {}),
    ],
)
def test_silent_on(name: str, table: Table) -> None:
    assert not found(recording(activation_gradient=table))


def test_silent_on_a_large_vocabulary_whose_norm_does_not_fall() -> None:
    # The first layers have very many elements, so that only their root mean square is small.
    table = falling(0.1)
    count = {name: int(16 / rms**2) for name, rms in table.items()}
    assert not found(recording(activation_gradient=table, count=count))


def test_silent_on_one_odd_step() -> None:
    table = {name: [1.0, 1.0, 1.0, 1.0, rms] for name, rms in falling().items()}
    assert not found(recording(activation_gradient=table))


def test_thresholds_are_fields() -> None:
    made = recording(activation_gradient=falling(0.4))
    assert list(VanishingGradient(fall=100).analyze(made))
    assert not list(VanishingGradient(fall=100, least_sites=11).analyze(made))
