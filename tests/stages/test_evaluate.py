"""What a config of an evaluation decides."""

import pytest

from ppg_jax.data.corpus import DataConfig
from ppg_jax.errors import UserError
from ppg_jax.stages import evaluate
from tests import models_for_tests as small


def test_a_config_that_cannot_be_asked_is_refused():
    with pytest.raises(ValueError, match="dtype='float8'"):
        evaluate.Config(dtype="float8")
    for config in (evaluate.Config, DataConfig):
        with pytest.raises(ValueError, match="max_dialogues=-3 must be 0 or more"):
            config(max_dialogues=-3)
    with pytest.raises(ValueError, match="name='mine': is always 'evaluate'"):
        evaluate.Config(name="mine")
    one = [d for d in small.DIALOGUES][:1]
    with pytest.raises(UserError, match="test split has fewer than two dialogues"):
        evaluate.chosen(evaluate.Config(), one)
    with pytest.raises(ValueError, match="max_dialogues=1: intervals need two"):
        evaluate.Config(max_dialogues=1)


def test_a_split_that_there_never_is_is_refused_by_its_field():
    with pytest.raises(ValueError, match=r"split='tset' is none of \('train', 'val"):
        evaluate.Config(split="tset")
