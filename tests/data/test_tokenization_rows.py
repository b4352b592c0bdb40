"""What a model has no rows for is left out where no text needs it, and told else."""

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from ppg_jax.data import tokenization
from ppg_jax.data.tokenization_rows import drop_rowless
from tests import models_for_tests as small


def test_special_tokens_that_a_model_has_no_rows_for_are_left_out(tmp_path):
    made = small.tokenizer()
    size = tokenization.size_of(made)
    more = {"pad_token": "[PAD]", "additional_special_tokens": ["<x>"]}
    more["unk_token"] = "<unk>"  # which bytes have no need of
    made.add_special_tokens(more)
    assert drop_rowless(made, size + 3) == ([], [])
    text = "hello [PAD]<x><unk> you"
    assert max(made(text)["input_ids"]) >= size
    dropped, left = drop_rowless(made, size)
    assert {*dropped} == {"[PAD]", "<x>", "<unk>"} and not left
    assert made.unk_token is None
    assert made(text)["input_ids"] == small.tokenizer()(text)["input_ids"]
    tokenization.save(made, tmp_path)
    again = tokenization.load_tokenizer(tmp_path)
    assert tokenization.size_of(again) == size
    assert again.pad_token == again.eos_token


@pytest.mark.parametrize(
    ("change", "rowless"),
    [
        ({"eos_token": "<|im_end|>"}, ["<|im_end|>"]),
        ({"bos_token": "<s>"}, ["<s>"]),
        ({"pad_token": "[PAD]", "eos_token": "<|im_end|>"}, ["<|im_end|>"]),
    ],
)
def test_tokens_that_texts_need_are_told_and_none_is_left_out(change, rowless):
    made = small.tokenizer()
    made.add_special_tokens(change)
    size = tokenization.size_of(made)
    assert drop_rowless(made, 300) == ([], rowless)
    assert tokenization.size_of(made) == size > 300


def test_a_pad_token_is_left_out_of_a_tokenizer_of_likely_pieces():
    pieces = models.Unigram([("<unk>", 0.0), ("a", -1.0), ("</s>", 0.0)], unk_id=0)
    names = {"eos_token": "</s>", "pad_token": "[PAD]", "unk_token": "<unk>"}
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(pieces), **names)
    assert drop_rowless(made, 3) == (["[PAD]"], [])
    assert drop_rowless(made, 2) == ([], ["</s>"])


def test_tokens_that_text_may_hold_are_not_left_out():
    made = small.tokenizer()
    made.add_tokens(["hello"])
    assert drop_rowless(made, 300) == ([], ["hello"])
    assert drop_rowless(small.tokenizer(), 299)[1]  # of its own ones
