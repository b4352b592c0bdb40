"""`ppg-jax`: one command over the programs, away from the repository as in it."""

import dataclasses
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ppg_jax import __version__, command, launching, presets
from ppg_jax.command import PROGRAMS
from ppg_jax.errors import UserError
from ppg_jax.presets import documentation
from tests import forked

ROOT = Path(__file__).resolve().parents[1]
CARRIED = ("launch", "configs", "third_party")
BUILT_OF = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
JUNK = shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Of a copy of the tree, without the network."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_OF:
        shutil.copy(ROOT / name, source)
    for name in ("ppg_jax", *CARRIED):
        shutil.copytree(ROOT / name, source / name, ignore=JUNK)
    pip("wheel", "--no-build-isolation", source, f"--wheel-dir={source / 'dist'}")
    (path,) = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder with what the wheel installs, and nothing of the repository."""
    folder = tmp_path_factory.mktemp("site")
    pip("install", f"--target={folder}", wheel)
    return folder


def pip(*arguments) -> None:
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", arguments[0], *options, *arguments[1:]],
        check=True,
    )


@pytest.fixture
def ppg_jax(site, tmp_path):
    """Runs the installed command in an empty folder, with what is installed alone."""

    def run(*arguments, **options) -> subprocess.CompletedProcess:
        path = {"PYTHONPATH": str(site)}
        program = site / "bin" / "ppg-jax"
        return forked.run(program, *arguments, cwd=tmp_path, env=path, **options)

    return run


def call(monkeypatch, *arguments) -> int:
    """The command in this process, where it starts no program; its exit code."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/ppg-jax", *arguments])
    monkeypatch.setattr(command, "end_at_once", lambda: None)
    try:
        command.main()
    except SystemExit as ended:
        return ended.code
    return 0


def files(folder: Path) -> set[str]:
    found = folder.rglob("*")
    return {
        path.relative_to(folder).as_posix()
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_carries_every_module_program_preset_and_manifest(wheel):
    expected = {f"ppg_jax/{name}" for name in files(ROOT / "ppg_jax")}
    for folder in CARRIED:
        expected |= {f"ppg_jax/{folder}/{name}" for name in files(ROOT / folder)}
    expected = {name for name in expected if not name.endswith(".sh")}
    carried = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in carried if ".dist-info/" not in name} == expected
    assert "ppg_jax/py.typed" in carried


def test_the_installed_package_is_told_whole(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
    metadata = archive.read(name).decode()
    assert "Author: The ppg_jax authors" in metadata
    assert "Project-URL: Paper, https://arxiv.org/abs/2111.13833" in metadata
    assert "](docs/" not in metadata  # a relative link leads nowhere on an index


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_of_a_program_is_its_docstring_and_its_own_flags(ppg_jax, name):
    shown = ppg_jax(name, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    first = command._first_line(command.program(name))
    assert shown.stdout.startswith(first)
    flag = {"prepare-data": "data", "benchmark": "suite"}.get(name, "workdir")
    assert f"\n  --{flag}  (" in shown.stdout
    assert "--logtostderr" not in shown.stdout
    assert "python -m launch" not in shown.stdout


def test_all_flags_are_shown_when_asked_for(ppg_jax):
    shown = ppg_jax("prepare-data", "--helpfull")
    assert shown.returncode == 0
    assert "--download" in shown.stdout and "logtostderr" in shown.stdout


def test_the_corpus_is_audited_away_from_the_repository(ppg_jax):
    done = ppg_jax("prepare-data", "--data=persona_world")
    assert (done.returncode, done.stderr) == (0, "")
    assert "dialogues" in done.stdout


def test_errors_bear_the_name_of_the_command(ppg_jax):
    failed = ppg_jax("prepare-data", "--data=nowhere")
    assert failed.returncode == 2
    assert failed.stderr.startswith("ppg-jax prepare-data: ")
    assert "ppg-jax prepare-data --download" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_an_unknown_config_lists_those_there_are(ppg_jax):
    failed = ppg_jax("train", "--config=quickstrt")
    assert failed.returncode == 2
    assert failed.stderr == (
        "ppg-jax train: no config 'quickstrt' (did you mean quickstart?); there are "
        "paper, personachat_scratch, personachat_smollm2, quickstart, or give the path "
        "of a file with get_config().\n"
    )


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("persona.learning_rate", "persona.optimizer.learning_rate"),
        ("persona.batch_sze", "persona.batch_size"),
        ("persona.lerning", "persona.optimizer.learning_rate"),
    ],
)
def test_an_override_of_no_field_names_the_one_that_is_meant(ppg_jax, given, meant):
    failed = ppg_jax("train", "--config=quickstart", f"--config.{given}=1")
    assert failed.returncode == 2
    assert failed.stderr.startswith(
        f"ppg-jax train: --config.{given}: quickstart has no such field "
        f"(did you mean --config.{meant}?)"
    )
    assert len(failed.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_run_is_trained_and_used_away_from_the_repository(ppg_jax, tmp_path):
    tiny = ROOT / "tests" / "end_to_end" / "tiny.py"
    for stage in ("dialogue", "persona", "response"):
        done = ppg_jax("train", f"--config={tiny}", f"--stage={stage}")
        assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "tiny"  # the default: NAME of the config
    assert (run / "response" / "model").is_dir()
    line = '{"id": 1, "self_persona": ["i sing."], "context": ["hi !"]}'
    flags = ("--workdir=runs/tiny", "--batch_size=1")
    done = ppg_jax("generate", *flags, "--input=-", "--output=-", input=line)
    assert done.returncode == 0 and '"response"' in done.stdout, done.stderr
    done = ppg_jax("chat", *flags, input="hi !\n")
    assert done.returncode == 0, done.stderr


def test_the_command_alone_tells_how_it_is_used(monkeypatch, capsys):
    assert call(monkeypatch) == 2
    told = capsys.readouterr().err
    assert told.startswith("usage: ppg-jax COMMAND")
    assert call(monkeypatch, "--help") == 0
    assert capsys.readouterr().out == told
    rows = [line.split()[0] for line in told.splitlines() if line.startswith("  ")]
    assert rows == [*PROGRAMS, "configs"]


def test_an_unknown_command_is_told_with_the_nearest(monkeypatch, capsys):
    assert call(monkeypatch, "trian") == 2
    told = capsys.readouterr().err
    assert told.startswith("ppg-jax: no command 'trian' (did you mean train?); there")
    assert len(told.splitlines()) == 1


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"ppg-jax {__version__}\n"
    told = forked.run("ppg_jax", "--version")
    assert told.stdout == f"ppg-jax {__version__}\n"


def test_the_presets_are_listed(monkeypatch, capsys):
    assert call(monkeypatch, "configs") == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [
        "paper",
        "personachat_scratch",
        "personachat_smollm2",
        "quickstart",
    ]


@pytest.mark.parametrize("name", ["quickstart", "tests/end_to_end/tiny.py"])
def test_a_config_is_shown_as_the_flags_that_make_it(monkeypatch, capsys, name):
    monkeypatch.chdir(ROOT)
    assert call(monkeypatch, "configs", name) == 0
    shown = capsys.readouterr().out
    size = {"quickstart": 4}.get(name, 12)
    assert f"--config.persona.batch_size={size}  (int, default 4)\n      dialo" in shown
    assert "--config.data.source=persona_world  (str, default 'persona_world')" in shown
    assert "  or a file, a folder, hub:NAME\n" in shown
    assert "--config.persona.optimizer.learning_rate=" in shown
    assert "--config.reinforce.updates=" in shown


@pytest.mark.parametrize(
    "code",
    ["x = 1", "def get_config(): return {}", "("],
)
def test_a_file_that_gives_no_config_is_told(monkeypatch, capsys, tmp_path, code):
    file = tmp_path / "mine.py"
    file.write_text(code)
    assert call(monkeypatch, "configs", str(file)) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"ppg-jax configs: {file}: ")
    assert len(told.splitlines()) == 1


def test_a_file_that_is_no_python_is_no_config(monkeypatch, capsys, tmp_path):
    file = tmp_path / "README.md"
    file.write_text("Read me.")
    assert call(monkeypatch, "configs", str(file)) == 2
    told = f"{file}: no config; give a .py file with get_config()."
    assert capsys.readouterr().err == f"ppg-jax configs: {told}\n"


@pytest.mark.parametrize("read", ["configs", "train"])
@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("return 1 / 0", "ZeroDivisionError"),
        ("return nothing", "NameError"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_an_error_of_a_config_file_has_its_line(ppg_jax, tmp_path, line, error, read):
    file = tmp_path / "mine.py"
    file.write_text(f"def get_config():\n    x = 1\n    {line}\n")
    asked = [str(file)] if read == "configs" else [f"--config={file}"]
    failed = ppg_jax(read, *asked)
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"ppg-jax {read}: {file}:3: {error}: ")
    assert len(failed.stderr.splitlines()) == 1


def test_a_config_file_may_have_dataclasses_of_its_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\n"
        "import dataclasses\n"
        "from configs import quickstart\n\n\n"
        "@dataclasses.dataclass\n"
        "class Mine:\n"
        "    x: int = 1\n\n\n"
        "def get_config():\n"
        "    return quickstart.get_config()\n"
    )
    assert presets.load(file).persona.task == "persona"


@dataclasses.dataclass
class Documented:
    """Sizes.

    width: of a layer; in units. depth, height: how
    many. Of nothing else: really.
    """

    width: int
    depth: int = 2  # more is slower
    height: int = 3
    name: str = "a # b"


def test_a_field_is_documented_by_docstring_and_comment():
    doc, docs = documentation(Documented)
    assert doc == "Sizes."
    assert docs == {
        "width": "of a layer; in units.",
        "depth": "how many. Of nothing else: really.; more is slower",
        "height": "how many. Of nothing else: really.",
    }


def test_a_name_is_a_preset_and_a_path_a_file(tmp_path):
    assert presets.config_file("paper") == ROOT / "configs" / "paper.py"
    file = tmp_path / "mine.py"
    file.write_text("")
    assert presets.config_file(str(file)) == file
    with pytest.raises(UserError, match="no config 'mine'; there are paper, "):
        presets.config_file("mine")


def test_without_a_home_nothing_is_cached(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert launching.cache_folder() == tmp_path / ".cache" / "ppg_jax" / "xla"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert launching.cache_folder() is None


def test_a_program_starts_where_the_user_has_no_home():
    code = (
        "import os, pwd, runpy, sys\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = unknown\n"
        "del os.environ['HOME']\n"
        "sys.argv = ['generate', '--workdir=nothing', '--input=-', '--output=-']\n"
        "runpy.run_module('launch.generate', run_name='__main__')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1 and "nothing" in ended.stderr
