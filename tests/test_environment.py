"""launch/environment.sh: a Python that fits makes .venv, and no other does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A Python of any version, as far as it is asked.
FAKE = """#!/bin/sh
case "$1 $2" in
  "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; {after} ;;
  "-m pip") echo {name} >> installed_by ;;
  "-c "*) exec {real} -c "import sys; sys.version_info = {version}; $2" ;;
  *) echo Python {name} ;;
esac
"""


def fake(path: Path, *version: int, after: str = ":") -> None:
    name = ".".join(map(str, version))
    values = {"real": sys.executable, "version": version, "name": name, "after": after}
    path.write_text(FAKE.format(**values))
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path):
    """A project without .venv, and a folder of Pythons that comes first."""
    for name in ("setup.py", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for minor in (11, 12, 13):  # of this machine, which would be found, too
        (tmp_path / "bin" / f"python3.{minor}").write_text("#!/bin/sh\nexit 127\n")
        (tmp_path / "bin" / f"python3.{minor}").chmod(0o755)
    return tmp_path


def environment(project: Path, **variables):
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    script = f"set -euo pipefail; . {ROOT}/launch/environment.sh; environment"
    return subprocess.run(
        ["bash", "-c", script, "launch/quickstart.sh"],
        cwd=project,
        env={"PATH": path, **variables},
        capture_output=True,
        text=True,
    )


def made_by(project: Path) -> str:
    return (project / "installed_by").read_text().strip()


def test_an_old_python_makes_no_environment_and_a_fitting_one_does_after_it(project):
    fake(project / "bin" / "old", 3, 10, 13)
    refused = environment(project, PYTHON="old")
    assert refused.returncode == 2 and not (project / ".venv").exists()
    told = "launch/quickstart.sh: ppg_jax needs Python 3.11 or later, and old is none"
    assert refused.stderr.startswith(told) and refused.stderr.count("\n") == 1
    fake(project / "bin" / "new", 3, 12, 1)
    assert environment(project, PYTHON="new").returncode == 0
    assert made_by(project) == "3.12.1"


def test_a_fitting_python_is_looked_for_beside_an_old_one(project):
    fake(project / "bin" / "python3", 3, 10, 13)
    assert environment(project).returncode == 2
    fake(project / "bin" / "python3.11", 3, 11, 7)
    assert environment(project).returncode == 0
    assert made_by(project) == "3.11.7"


def test_an_environment_that_an_old_python_left_is_told_and_not_used(project):
    (project / ".venv" / "bin").mkdir(parents=True)
    fake(project / ".venv" / "bin" / "python", 3, 9, 2)
    refused = environment(project)
    assert refused.returncode == 2 and "rm -r .venv" in refused.stderr
    assert not (project / "installed_by").exists()


def test_half_an_environment_is_not_left(project):
    fake(project / "bin" / "python3", 3, 12, 1, after="exit 1")
    assert environment(project).returncode == 2
    assert not (project / ".venv").exists()
