"""However a program ends, it says why in one line, by its exit code too."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ppg_jax import launching, presets
from ppg_jax.config import field_names
from ppg_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("a.json: two\nlines"), 2, "a.json: two lines"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 2, "a/b: No space"),
        (
            PermissionError(errno.EROFS, "Read-only file system"),
            2,
            "prints to: Read-only",
        ),
        (MemoryError("64 GiB"), 2, r"not enough memory (64 GiB)"),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 G\nof"), 2, "on the device (RESOURCE_EX"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=repr,
)
def test_what_ends_a_program_is_one_line_and_an_exit_code(error, code, told, capsys):
    with pytest.raises(SystemExit) as end, launching.exit_codes():
        raise error
    assert end.value.code == code
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "error", [SyntaxError("'(' was never closed"), NameError("x"), IndexError()]
)
def test_a_fault_in_ones_own_config_file_is_one_line(error, capsys):
    with pytest.raises(SystemExit) as end, launching.one_line_errors():
        raise error
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.count("\n") == 1
    assert str(error) in told and len(told.split()) > 1


@pytest.mark.parametrize("program", ["launch.train", "launch.chat", "ppg_jax"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_is_still_importing(number, program, tmp_path):
    (tmp_path / "jax.py").write_text(
        f"import os, signal\nos.kill(os.getpid(), {int(number)})\nsignal.pause()\n"
    )
    command = [sys.executable, "-m", program] + ["chat"] * (program == "ppg_jax")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (128 + number, "interrupted\n")


@pytest.mark.parametrize("module", ["stages.evaluate", "serve.chat", "run_dir"])
def test_a_module_that_is_no_program_says_so(module):
    command = [sys.executable, "-m", f"ppg_jax.{module}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    told = f"ppg_jax.{module} is no program; type: ppg-jax --help\n"
    assert (done.returncode, done.stderr) == (2, told)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_program_with_a_line_and_its_code(number):
    code = (
        "import os, signal, sys; from ppg_jax import launching; "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); launching.end_at_once(); "
        "os.kill(os.getpid(), int(sys.argv[1])); signal.pause()"
    )
    command = [sys.executable, "-c", code, str(int(number))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + number, "interrupted\n")


def test_a_program_whose_stdout_is_closed_has_nobody_to_tell():
    code = "from ppg_jax import launching\nwith launching.exit_codes(): print(1)"
    command = ["bash", "-c", f'{sys.executable} -c "$0" >&-', code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(15)
    try:
        launching.end_at_once(signal.SIGTERM, signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_an_error_shows_no_control_character_of_what_it_quotes(capsys):
    with pytest.raises(SystemExit):
        launching.fail("no \x1b[2Jsystem\x07.")
    assert capsys.readouterr().err.endswith(": no  [2Jsystem .\n")


@pytest.mark.parametrize("use", [Path.mkdir, lambda path: (path / "x").unlink()])
def test_a_file_in_the_place_of_a_folder_is_told_as_that(use, tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_text("text")
    with pytest.raises(SystemExit) as end, launching.exit_codes():
        use(path)
    told = capsys.readouterr().err
    assert end.value.code == 2 and str(path) in told and told.count("\n") == 1
    assert "a file is in the place of a folder; name another." in told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Flag --a must have a value other than None.", "--a is needed; --help tells"),
        ("invalid literal for int() with base 10: 'x'", "--a=x: expected a whole num"),
        ("could not convert string to float: 'x'", "--a=x: expected a number."),
        ("('Non-boolean argument to boolean flag', 'x')", "--a=x: expected true or f"),
        ("Failed to parse 'x' as a ConfigDict: no", "--a=x: a part of the config; gi"),
        ("x is not a non-negative number", "--a=x: x is not a non-negative number"),
    ],
)
def test_a_flags_value_is_told_as_it_was_typed(said, told, capsys):
    value = None if "None" in said else "x"
    with pytest.raises(SystemExit), launching.one_line_errors():
        raise ValueError(f"flag --a={value}: {said}")
    assert f": {told}" in capsys.readouterr().err


def test_a_flag_that_is_none_is_told_with_those_that_there_are():
    command = [sys.executable, "-m", "launch.train", "--stge=persona"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no flag --stge (did you mean --stage?); there are --stage," in done.stderr
    assert "--config.PART.FIELD" in done.stderr


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("persona.lr", "--config.persona.optimizer.learning_rate?"),
        ("persona.learning_rat", "--config.persona.optimizer.learning_rate?"),
        ("seed", r"--config.\w+.seed, or that of another part?"),
    ],
)
def test_a_field_of_a_config_that_is_none_is_told_with_one_that_is(field, told):
    fields = field_names(presets.load(presets.config_file("quickstart")))
    pattern = told.replace("?", r"\?")
    assert re.search(rf"did you mean {pattern}", presets._meant(field, fields))
