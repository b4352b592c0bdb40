"""What others made and we use: whose it is, which one, and on what terms."""

import re
import tomllib

import pytest

from ppg_jax.assets import THIRD_PARTY, load_manifest

FOLDERS = sorted(path.name for path in THIRD_PARTY.iterdir() if path.is_dir())


def test_the_artefacts_of_the_readme_are_all_here():
    assert FOLDERS == [
        "dialogpt-medium",
        "dialogpt-small",
        "distilbert-base-uncased",
        "gpt2",
        "gpt2-medium",
        "minilm",
        "personachat",
        "smollm2",
    ]


@pytest.mark.parametrize("name", FOLDERS)
def test_folder_is_complete_and_holds_no_code(name):
    folder = THIRD_PARTY / name
    assert {path.name for path in folder.iterdir()} == {"METADATA.toml", "LICENSE"}
    assert len((folder / "LICENSE").read_text(encoding="utf-8")) > 500


@pytest.mark.parametrize("name", FOLDERS)
def test_manifest_is_sound_and_says_where_and_on_what_terms(name):
    manifest = load_manifest(name)
    assert manifest.homepage.startswith("https://")
    assert manifest.revision
    assert re.fullmatch(r"[\w.-]+( AND [\w.-]+)*", manifest.spdx)


@pytest.mark.parametrize("name", FOLDERS)
def test_files_of_the_hub_are_of_the_pinned_revision(name):
    manifest = load_manifest(name)
    for file in manifest.files:
        if file.url.startswith("https://huggingface.co/"):
            expected = f"{manifest.homepage}/resolve/{manifest.revision}/{file.name}"
            assert file.url == expected


@pytest.mark.parametrize("name", FOLDERS)
def test_a_manifest_without_files_says_why(name):
    text = (THIRD_PARTY / name / "METADATA.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["files"] or text.startswith("# Note: ")
