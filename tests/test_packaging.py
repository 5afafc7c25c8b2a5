"""What users install: an sdist that builds, and a wheel that holds all that the package needs."""

import shutil
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

import pytest
from environments import ROOT, Environment, build, clean_environment, fresh_clone
from packaging.requirements import Requirement

from gradscope import __version__

NOT_INSTALLED = {".c", ".h"}
NOT_SOURCE = {".so", ".pyc"}
TRAIN = """
import gradscope, torch
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with gradscope.watch(model, logdir="runs") as scope:
    for _ in range(3):
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
from gradscope.hooks.meters import host
meter = "kernel" if host.AVAILABLE else "torch"
print(gradscope.__file__, meter, *[finding.analyzer for finding in scope.findings], len(scope.frame()) > 0)
"""


class Built(NamedTuple):
    """What `make dist` leaves."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(*build(fresh_clone(tmp_path_factory.mktemp("clone"))))


@pytest.fixture(scope="module")
def environment(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A clean environment with the wheel, whose dependencies must be there already."""
    made = clean_environment(tmp_path_factory.mktemp("environment") / "venv")
    made.run(f"pip install --no-index {built.wheel}", tmp_path_factory.mktemp("elsewhere"))
    return made


def names_in(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def files_of_the_package() -> set[str]:
    """Every file in gradscope/ that was not made by a tool."""
    found = (path for path in (ROOT / "gradscope").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found if path.suffix not in NOT_SOURCE}


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Built) -> None:
    installed = {name for name in names_in(built.wheel) if ".dist-info/" not in name}
    wanted = {name for name in files_of_the_package() if Path(name).suffix not in NOT_INSTALLED}
    assert installed == wanted | {"gradscope/hooks/meters/_kernel.abi3.so"}
    assert {"gradscope/py.typed", "gradscope/hooks/meters/_kernel.pyi"} <= installed


def test_the_sdist_holds_all_that_a_build_and_the_tests_need(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert files_of_the_package() <= names
    assert {"tests/environments.py", "examples/digits.py", "docs/generate.py", "Makefile", "constraints.txt"} <= names


def test_the_metadata_says_what_pip_and_people_ask(built: Built) -> None:
    metadata = metadata_of(built.wheel)
    assert (metadata["Name"], metadata["Version"]) == ("torch-gradscope", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def test_development_pins_what_every_extra_asks_for(built: Built) -> None:
    asked = [Requirement(text) for text in metadata_of(built.wheel).get_all("Requires-Dist", [])]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {Requirement(line).name for line in lines if line and not line.startswith("#")}
    assert {requirement.name for requirement in asked} - {"torch-gradscope"} <= pinned


def test_the_command_works_from_the_wheel(environment: Environment, tmp_path: Path) -> None:
    assert environment.run("gradscope --version", tmp_path) == f"gradscope {__version__}\n"
    assert environment.run("python -m gradscope --version", tmp_path) == f"gradscope {__version__}\n"
    assert "unzeroed-gradient" in environment.run("gradscope analyzers", tmp_path)
    assert "## How to fix it" in environment.run("gradscope explain unzeroed-gradient", tmp_path)


def test_a_model_is_watched_from_the_wheel(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    place, meter, *rest = environment.run("python -W error train.py", tmp_path).split()
    assert Path(place).is_relative_to(environment.home)
    assert [meter, *rest] == ["kernel", "unzeroed-gradient", "True"]
    assert list((tmp_path / "runs").rglob("events.*"))


def test_an_analyzer_in_a_package_of_its_own_is_found_explained_and_run(
    environment: Environment, tmp_path: Path
) -> None:
    example = shutil.copytree(ROOT / "examples" / "custom_analyzer", tmp_path / "custom_analyzer")
    environment.run(f"pip install --no-index --no-build-isolation --no-deps --target plugins {example}", tmp_path)
    installed = {"PYTHONPATH": str(tmp_path / "plugins")}
    assert "constant-output" not in environment.run("gradscope analyzers", tmp_path)
    assert "constant-output" in environment.run("gradscope analyzers", tmp_path, **installed)
    assert "smallest and the largest" in environment.run("gradscope explain constant-output", tmp_path, **installed)
    told = environment.run("python -W error -m pytest -q --doctest-modules .", example, **installed)
    assert "5 passed" in told
    (example / "pyproject.toml").write_text("[tool.gradscope.analyzers.constant-output]\nsteps = 0.5\n")
    told = environment.run("gradscope run missing.py 2>&1 || true", example, **installed)
    assert "constant-output.steps takes a whole number, as in 5, not 0.5" in told


def test_without_a_compiler_it_installs_and_measures_with_torch(
    built: Built, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    _, wheel = build(source, CC="false")
    assert "gradscope/hooks/meters/_kernel.abi3.so" not in names_in(wheel)
    bare = clean_environment(tmp_path_factory.mktemp("bare") / "venv")
    bare.run(f"pip install --no-index {wheel}", tmp_path)
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    assert bare.run("python -W error train.py", tmp_path).split()[1:] == ["torch", "unzeroed-gradient", "True"]
