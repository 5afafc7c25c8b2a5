"""`gradscope run` next to `python`: the same program sees and leaves the same, without torch and so in no time."""

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from running.commands import environment, gradscope_run, python

NOTHING = (
    "gradscope: nothing was trained: no optimizer of torch.optim made a step, and no weights were moved by hand.\n"
)

LOOK = """
import sys
print(__name__, __file__, __package__, __spec__ and __spec__.name, type(__loader__).__name__, __cached__ is None)
print(sorted(globals()))
print(sys.argv, sys.path[0])
print(sys.modules["__main__"].__dict__ is globals())
print(sorted(name for name in ("torch", "numpy", "gradscope.findings") if name in sys.modules))
"""


def folder(tmp_path: Path) -> Path:
    (tmp_path / "look.py").write_text(LOOK)
    package = tmp_path / "parcel"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "near.py").write_text("WORD = 'near'\n")
    (package / "__main__.py").write_text(LOOK + "from .near import WORD\nprint(WORD)\n")
    (package / "inner.py").write_text(LOOK + "from . import near\nprint(near.WORD)\n")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "__main__.py").write_text(LOOK)
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        archive.writestr("__main__.py", LOOK)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ["look.py"],
        ["look.py", "--json", "x", "-m", "--", "--version", "a b", ""],
        ["parcel/../look.py"],
        ["-m", "look", "--help"],
        ["-m", "parcel"],
        ["-m", "parcel.inner", "-x"],
        ["bundle"],
        ["bundle.zip", "1"],
    ],
)
def test_the_program_sees_what_it_sees_without_us(command: list[str], tmp_path: Path) -> None:
    here = folder(tmp_path)
    bare, watched = python(*command, cwd=here), gradscope_run(*command, cwd=here)
    assert watched.stdout == bare.stdout
    assert bare.stdout
    assert (watched.returncode, watched.stderr) == (0, NOTHING)


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit()",
        "sys.exit(0)",
        "sys.exit(7)",
        "sys.exit(-1)",
        "sys.exit(True)",
        "sys.exit('a reason')",
        "sys.exit((1, 2))",
        "raise SystemExit",
        "1 / 0",
        "def f(): raise KeyError('x') from ValueError('y')\nf()",
        "sys.excepthook = lambda kind, error, trace: print('hook', kind, file=sys.stderr)\n1 / 0",
        "import atexit\natexit.register(print, 'bye')\n1 / 0",
        "def broken(:",
        "import os\nos._exit(5)",
        "import os\nif os.fork(): sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\nsys.exit(9)",
        "import signal, os\nos.kill(os.getpid(), signal.SIGINT)",
        "import signal, os\nos.kill(os.getpid(), signal.SIGTERM)",
    ],
)
@pytest.mark.parametrize("as_module", [False, True])
def test_it_ends_as_without_us(ending: str, as_module: bool, tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(f"import sys\nprint('out')\n{ending}\n")
    command = ["-m", "ends"] if as_module else ["ends.py"]
    (tmp_path / "temporary").mkdir()
    bare = python(*command, cwd=tmp_path)
    watched = gradscope_run(*command, cwd=tmp_path, more={"TMPDIR": str(tmp_path / "temporary")})
    assert list((tmp_path / "temporary").iterdir()) == []
    assert watched.returncode == bare.returncode
    assert watched.stdout == bare.stdout
    told = [line for line in bare.stderr.splitlines(keepends=True) if "<frozen runpy>" not in line]
    assert watched.stderr.removesuffix(NOTHING) == "".join(told)
    assert watched.stderr.endswith(NOTHING) == (bare.returncode not in (5, -signal.SIGTERM))


def test_the_installed_command_is_the_same(tmp_path: Path) -> None:
    here = folder(tmp_path)
    command = Path(sys.executable).with_name("gradscope")
    done = subprocess.run(
        [command, "run", "look.py", "1"], cwd=here, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout == python("look.py", "1", cwd=here).stdout
    assert (done.returncode, done.stderr) == (0, NOTHING)


def test_an_interrupt_from_outside_ends_it_like_python(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "gradscope", "run", "waits.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert told.splitlines()[-2:] == ["KeyboardInterrupt", NOTHING.rstrip()]
    assert "gradscope/" not in told


def test_classes_of_the_main_module_can_be_pickled_and_spawned(tmp_path: Path) -> None:
    (tmp_path / "spawns.py").write_text(
        "import multiprocessing, pickle\n"
        "class Thing:\n    pass\n"
        "def made(number):\n    assert __name__ == '__mp_main__'\n    return type(Thing()), __file__, number\n"
        "if __name__ == '__main__':\n"
        "    print(type(pickle.loads(pickle.dumps(Thing()))))\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(made, [1, 2]))\n"
    )
    bare, watched = python("spawns.py", cwd=tmp_path), gradscope_run("spawns.py", cwd=tmp_path)
    assert bare.returncode == 0, bare.stderr
    assert watched.stdout == bare.stdout
    assert watched.stderr == NOTHING


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.py"], "gradscope: there is no script 'no.py': give its path, or a module behind -m"),
        (["."], "gradscope: the folder '.' holds no __main__.py: give the path of a script"),
        (["-m", "no.such"], "gradscope: there is no module 'no.such': is it installed, or below the current folder?"),
        ([], "gradscope run: the following arguments are required: SCRIPT, ARGS (see gradscope run --help)"),
        (["--every", "0", "x.py"], "gradscope run: argument --every: invalid number of steps, 1 or more, value: '0'"),
        (["--fail-on", "note", "x.py"], "gradscope run: argument --fail-on: invalid choice: 'note'"),
        (["--ignore", "vanishing-gradients", "x.py"], "gradscope: no analyzer is called 'vanishing-gradients'"),
        (["--unknown", "x.py"], "gradscope: unrecognized arguments: --unknown (see gradscope --help)"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("print('ran')\n")
    result = gradscope_run(*arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_files_lie_where_they_lay_when_the_program_began(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moves.py").write_text("import os\nos.chdir('elsewhere')\n")
    result = gradscope_run("--json", "report.json", "--html", "report.html", "moves.py", cwd=tmp_path)
    assert result.returncode == 0
    assert json.loads((tmp_path / "report.json").read_text())["models"] == {}
    assert "nothing was trained" in (tmp_path / "report.html").read_text()


def test_a_file_that_cannot_be_written_is_told_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("raise SystemExit(4)\n")
    result = gradscope_run("--json", "no/such/folder.json", "x.py", cwd=tmp_path)
    assert result.returncode == 4
    assert "could not be written to" in result.stderr


def test_what_the_program_sets_before_it_imports_torch_counts(tmp_path: Path) -> None:
    (tmp_path / "sets.py").write_text(
        "import os, sys\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "os.environ['OMP_NUM_THREADS'] = '1'\nimport torch\nprint(torch.get_num_threads())\n"
        "print(torch.__spec__.loader is torch.__loader__, type(torch.__loader__).__name__)\n"
    )
    watched = gradscope_run("--ignore", "unused-parameter", "sets.py", cwd=tmp_path, more={"OMP_NUM_THREADS": "2"})
    assert watched.stdout == "1\nTrue SourceFileLoader\n"
    assert watched.stderr == NOTHING
