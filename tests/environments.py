"""Clean environments, in which gradscope comes from a wheel and not from this folder."""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = ("torch_gradscope", "__editable__", "gradscope")
NOT_SHARED = ("gradscope", "python", "activate", "Activate")


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has what gradscope depends on, and no gradscope."""

    home: Path

    @property
    def scripts(self) -> Path:
        """Where its commands lie."""
        return self.home / "bin"

    def variables(self, **more: str) -> dict[str, str]:
        """The variables of a shell in which it is active, and nothing of the environment that runs the tests."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        path = f"{self.scripts}{os.pathsep}{inherited.get('PATH', os.defpath)}"
        return inherited | {"PATH": path, "VIRTUAL_ENV": str(self.home), "OMP_NUM_THREADS": "1"} | more

    def run(self, command: str, folder: Path, **more: str) -> str:
        """What a shell command prints in a folder, with this environment active; fails with all that it printed."""
        done = subprocess.run(  # noqa: S602  commands are run as a reader would paste them
            command, shell=True, cwd=folder, env=self.variables(**more), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"`{command}` ended with status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def clean_environment(home: Path) -> Environment:
    """A new environment. To download nothing, other packages are shared with the one that runs the tests."""
    venv.create(home, symlinks=True)
    shared = home / "shared"
    shared.mkdir()
    for entry in (entry for folder in _site_packages() for entry in folder.iterdir()):
        if not entry.name.startswith(OURS) and not (shared / entry.name).exists():
            (shared / entry.name).symlink_to(entry)
    (own,) = home.glob("lib/python*/site-packages")
    (own / "shared.pth").write_text(f"{shared}\n", encoding="utf-8")
    made = Environment(home)
    for script in Path(sys.prefix, "bin").iterdir():
        if not script.name.startswith(NOT_SHARED) and not (made.scripts / script.name).exists():
            _share(script, made.scripts)
    return made


def _share(script: Path, folder: Path) -> None:
    """The same command in another environment: a Python script runs with that one's Python."""
    first, _, rest = script.read_bytes().partition(b"\n")
    if not (first.startswith(b"#!") and b"python" in first):
        (folder / script.name).symlink_to(script)
        return
    start = f"#!/bin/sh\n'''exec' '{folder}/python' \"$0\" \"$@\"\n' '''\n"  # sh and Python read it, each in its way
    (folder / script.name).write_bytes(start.encode() + rest)
    (folder / script.name).chmod(0o755)


def _site_packages() -> list[Path]:
    return [Path(place) for place in sys.path if Path(place).name == "site-packages" and Path(place).is_dir()]


def fresh_clone(folder: Path) -> Path:
    """The files of this project, as a clone of its working tree would have them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607  git from the path
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def build(folder: Path, **variables: str) -> tuple[Path, Path]:
    """The sdist of the project in this folder, and the wheel that was built from the sdist."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"],
        cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return sdist, wheel
