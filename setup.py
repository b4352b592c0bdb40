"""What setup.cfg cannot say: what lies beside the package and goes into it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# Programs, presets and manifests stay at the top of the repository and are installed
# inside the package (`ppg_jax.assets.carried` finds them at either place).
CARRIED = ("launch", "configs", "third_party")

# On a package index the README's relative links lead nowhere.
README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
RELATIVE_LINK = r"\[([^\]]+)\]\((?!https?:|#)[^)]+\)"

setup(
    packages=find_packages(include=["ppg_jax*"]) + [f"ppg_jax.{n}" for n in CARRIED],
    package_dir={f"ppg_jax.{name}": name for name in CARRIED},
    long_description=re.sub(RELATIVE_LINK, r"\1", README),
)
