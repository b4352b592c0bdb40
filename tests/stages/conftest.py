import pytest

from ppg_jax.data.dialogue import write_jsonl
from tests import models_for_tests as small


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    """A folder with the two dialogues, to train and to validate on."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "valid"):
        write_jsonl(small.DIALOGUES, folder / f"{split}.jsonl")
    return str(folder)
