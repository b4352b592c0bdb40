"""What joins stages refuses what does not fit."""

import pytest

from ppg_jax.errors import UserError
from ppg_jax.files import write_json
from ppg_jax.models import starts


def test_stages_of_two_tokenizers_are_not_joined(tmp_path):
    for name, tokenizer in [("dialogue", "a" * 64), ("persona", "b" * 64)]:
        made = {"name": name, "sha256 of the tokenizer": tokenizer}
        write_json(tmp_path / name / "fingerprint.json", made)
    write_json(tmp_path / "older" / "fingerprint.json", {"name": "older"})
    for stage, other in [("dialogue", "a" * 64), ("older", "b" * 64), ("none", "b")]:
        starts.require_one_tokenizer(tmp_path, stage, other)
    starts.require_one_tokenizer(
        tmp_path, "dialogue", starts.tokenizer_of(tmp_path, "older")
    )
    for other in ("b" * 64, starts.tokenizer_of(tmp_path, "persona")):
        with pytest.raises(UserError, match="dialogue was trained with another token"):
            starts.require_one_tokenizer(tmp_path, "dialogue", other)
