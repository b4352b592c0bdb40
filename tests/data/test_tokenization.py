"""A tokenizer loses nothing of a text, and a run keeps the one that it began with."""

import json
import os

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from ppg_jax.data import tokenization
from ppg_jax.data.tokenization import (
    END_OF_TEXT,
    load_or_train,
    load_tokenizer,
    require_fitting,
    save,
    size_of,
)
from ppg_jax.errors import UserError
from tests import models_for_tests as small

TEXTS = (
    "hi , how are you ? i 'm fine .",
    " space before, after, and  two between ",
    "tabs\tand\nlines\r\n",
    "🙂🏽 👩‍👩‍👧 日本語 ünïcödé e\u0301",
    "\x00\x7f\u200b\ufeff",
    "",
)
SPECIAL = ("<|self|>", "<|partner|>")


def encode(tokenizer, text: str) -> list[int]:
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


def nothing():
    raise AssertionError("a tokenizer was trained that is there already")


def train(folder, spec="bpe:300", corpus="c0", texts=lambda: TEXTS, special=()):
    return load_or_train(spec, folder / "tokenizer", texts, corpus, special)


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_from_a_trained_tokenizer(text, tmp_path):
    trained = small.tokenizer()
    trained.save_pretrained(tmp_path)
    for tokenizer in (trained, load_tokenizer(tmp_path)):
        assert tokenizer.decode(encode(tokenizer, text)) == text
        assert encode(tokenizer, text) == encode(trained, text)


def test_any_text_comes_back_from_gpt2s_tokenizer(shared):
    tokenizer = load_tokenizer(shared / "tokenizers" / "gpt2")
    assert (len(tokenizer), tokenizer.eos_token_id) == (50257, 50256)
    assert [tokenizer.decode(encode(tokenizer, text)) for text in TEXTS] == list(TEXTS)
    assert encode(tokenizer, "Hello world") == [15496, 995]  # as GPT-2's own


def test_berts_tokenizer_is_lower_case_word_pieces(shared):
    tokenizer = load_tokenizer(shared / "tokenizers" / "bert-base-uncased")
    assert tokenizer.convert_ids_to_tokens(tokenizer("Hello embeddings").input_ids) == [
        *("[CLS]", "hello", "em", "##bed", "##ding", "##s", "[SEP]")
    ]


def test_the_vocabulary_has_the_size_asked_for_and_begins_with_the_end():
    tokenizer = small.tokenizer(270, SPECIAL)
    assert len(tokenizer) == 270
    assert tokenizer.eos_token == END_OF_TEXT
    assert tokenizer.convert_tokens_to_ids([END_OF_TEXT, *SPECIAL]) == [0, 1, 2]


def test_training_twice_gives_the_same_tokenizer():
    first, second = (small.tokenizer().backend_tokenizer.to_str() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("spec", ["bpe:300", "wordpiece:60"])
def test_a_run_trains_its_tokenizer_once(spec, tmp_path):
    texts = [u for d in small.DIALOGUES for u in d.utterances]
    first = train(tmp_path, spec, texts=lambda: texts)
    again = train(tmp_path, spec, texts=nothing)
    assert encode(first, texts[0]) == encode(again, texts[0])
    assert not (tmp_path / "tokenizer.tmp").exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"spec": "bpe:301"}, "bpe:301"),
        ({"corpus": "c1"}, "c1"),
        ({"special": SPECIAL}, "special_tokens"),
    ],
)
def test_another_tokenizer_in_the_same_run_is_refused(changed, told, tmp_path):
    train(tmp_path)
    with pytest.raises(UserError, match=told) as error:
        train(tmp_path, **changed)
    assert "--workdir" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("start", ["bpe:300", "a folder"])
def test_special_tokens_are_one_token_each(start, tmp_path):
    if start == "a folder":
        small.tokenizer().save_pretrained(tmp_path / "start")
        start = str(tmp_path / "start")
    tokenizer = train(tmp_path, start, special=SPECIAL)
    assert [len(encode(tokenizer, token)) for token in SPECIAL] == [1, 1]
    assert len(encode(tokenizer, "<|other|>")) > 1


def test_a_folder_with_only_gpt2s_vocabulary_will_do(tmp_path):
    tokenizer = small.tokenizer()
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(merges + "\n", encoding="utf-8")
    loaded = load_tokenizer(tmp_path)
    assert loaded.eos_token_id == tokenizer.eos_token_id == 0
    for text in TEXTS:
        assert encode(loaded, text) == encode(tokenizer, text)
    save(loaded, tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").pad_token_id == 0  # a batch needs one


@pytest.mark.parametrize(
    ("vocabulary", "named"),
    [("vocab.json", "Qwen2Tokenizer"), ("vocab.txt", "BertJapaneseTokenizer")],
)
def test_a_vocabulary_of_a_class_with_other_rules_is_refused(
    vocabulary, named, tmp_path
):
    (tmp_path / vocabulary).write_text("{}")
    (tmp_path / "merges.txt").write_text("")
    told = json.dumps({"tokenizer_class": named})
    (tmp_path / "tokenizer_config.json").write_text(told)
    with pytest.raises(UserError, match=f"tokenizer_class is '{named}', which has"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("does", [True, False])
def test_what_is_saved_says_of_a_first_space_what_the_tokenizer_does(does, tmp_path):
    from tokenizers.pre_tokenizers import ByteLevel

    made = small.tokenizer()
    made.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=does)
    save(made, tmp_path)
    values = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert values["add_prefix_space"] is does


def test_a_folder_with_only_berts_vocabulary_will_do(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "em", "##bed"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    assert load_tokenizer(tmp_path)("Hello embed x").input_ids == [2, 5, 6, 7, 1, 3]


def test_what_gpt2s_and_berts_own_folders_leave_unsaid_is_known(tmp_path):
    """Their tokenizer_config.json names no token, and a length at most."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    bert = load_tokenizer(tmp_path)
    for made, folder in ((small.tokenizer(), "gpt2"), (bert, "bert")):
        (tmp_path / folder).mkdir()
        made.backend_tokenizer.save(str(tmp_path / folder / "tokenizer.json"))
        (tmp_path / folder / "tokenizer_config.json").write_text(
            json.dumps({"model_max_length": 1024})
        )
        loaded = load_tokenizer(tmp_path / folder)
        for name in ("eos_token_id", "cls_token_id", "sep_token_id", "pad_token_id"):
            if made is bert or name == "eos_token_id":
                assert getattr(loaded, name) == getattr(made, name)
        assert encode(loaded, "hello") == encode(made, "hello")


def test_a_vocabulary_with_gaps_needs_rows_up_to_its_last_number():
    made = small.tokenizer()
    assert size_of(made) == len(made)
    backend = json.loads(made.backend_tokenizer.to_str())
    last = max(backend["model"]["vocab"], key=backend["model"]["vocab"].get)
    backend["model"]["vocab"][last] += 5
    gaps = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend))
    )
    assert (len(gaps), size_of(gaps)) == (len(made), len(made) + 5)


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_a_tokenizer_says_what_it_should_hold(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"tokenizer\.json.*vocab\.json.*vocab\.txt"):
        load_tokenizer(tmp_path / name)


def test_how_a_file_cuts_and_fills_up_texts_is_its_makers_affair(tmp_path):
    text = "a long text " * 9
    backend = small.tokenizer().backend_tokenizer
    expected = backend.encode(text).ids
    backend.enable_truncation(8)
    backend.enable_padding(length=64)
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert load_tokenizer(tmp_path).backend_tokenizer.encode(text).ids == expected


def test_its_rules_hold_where_nothing_says_of_which_class_it_is(tmp_path):
    obedient(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(map(" ".join, model["merges"])))
    assert encode(load_tokenizer(tmp_path), "Hi") == encode(small.tokenizer(), "hi")


def test_a_tokenizer_that_has_lost_what_it_was_made_from_is_told(tmp_path):
    train(tmp_path)
    (tmp_path / "tokenizer" / tokenization.MADE_FROM).unlink()
    with pytest.raises(UserError, match=r"tokenizer has lost its made_from\.json. Del"):
        train(tmp_path)


@pytest.mark.parametrize("spec", ["bpe:", "bpe", "wordpiece:big", "bpe:5", "bpe:256"])
def test_a_spec_without_a_size_says_what_to_write(spec, tmp_path):
    with pytest.raises(UserError, match="8192"):
        train(tmp_path, spec)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spec", ["bpe:300", "wordpiece:120"])
def test_the_same_texts_give_the_same_tokenizer(spec, tmp_path):
    texts = [u for d in small.DIALOGUES for u in d.utterances] * 3
    vocabularies = [
        train(tmp_path / str(i), spec, texts=lambda: iter(texts)).get_vocab()
        for i in range(3)
    ]
    assert vocabularies[0] == vocabularies[1] == vocabularies[2]


def obedient(folder) -> None:
    """A tokenizer.json that lower-cases and splits digits, beside GPT-2's class."""
    from tokenizers import normalizers, pre_tokenizers

    backend = small.tokenizer().backend_tokenizer
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)]
    )
    backend.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "GPT2Tokenizer", "eos_token": END_OF_TEXT}
    told["clean_up_tokenization_spaces"] = True
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


def test_what_tokenizer_json_says_holds_whatever_class_stands_beside_it(tmp_path):
    from tokenizers import Tokenizer

    obedient(tmp_path)
    text = "Hi , I am 27 ."
    stated = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids
    loaded = load_tokenizer(tmp_path)
    assert encode(loaded, text) == stated
    save(loaded, tmp_path / "again")
    assert encode(load_tokenizer(tmp_path / "again"), text) == stated
    assert loaded.decode(stated) == text.lower()  # no clean-up of "hi ,"


def test_a_saved_tokenizer_names_nothing_that_transformers_5_alone_knows(tmp_path):
    save(small.tokenizer(special=SPECIAL), tmp_path)
    values = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert values["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert values["additional_special_tokens"] == list(SPECIAL)
    assert "extra_special_tokens" not in values
    assert values["model_input_names"] == ["input_ids", "attention_mask"]
    assert load_tokenizer(tmp_path).all_special_tokens == [END_OF_TEXT, *SPECIAL]


@pytest.mark.parametrize("told", ["512", None, [1]])
def test_a_length_that_is_none_is_that_of_the_model(told, tmp_path):
    save(train(tmp_path), tmp_path, 64)
    file = tmp_path / "tokenizer_config.json"
    values = json.loads(file.read_text()) | {"model_max_length": told}
    file.write_text(json.dumps(values))
    save(load_tokenizer(tmp_path), tmp_path, 64)
    assert json.loads(file.read_text())["model_max_length"] == 64


def test_a_tokenizer_that_cannot_be_read_is_told_in_one_line(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"the tokenizer cannot be read .*; get it"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_of_other_numbers_than_the_first_weights_is_refused(tmp_path):
    def make(spec, init):
        folder = tmp_path / f"{spec[-1]}{init[-1]}"
        return load_or_train(
            spec, folder, nothing, "c0", SPECIAL, vocabularies.get, init
        )

    vocabularies = {n: small.tokenizer(size) for n, size in (("a", 290), ("b", 280))}
    assert len(make("a", "a")) == 292  # with the special tokens
    with pytest.raises(UserError, match="tokenizer='b' has 282 tokens and init='a'"):
        make("b", "a")
    with pytest.raises(ValueError, match="trains one anew"):
        require_fitting("bpe:400", "a")


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "merges.txt"])
def test_a_huge_file_of_a_tokenizer_is_refused_before_it_is_read(name, tmp_path):
    for beside in ("tokenizer_config.json", "vocab.json", name):
        (tmp_path / beside).write_text("{}")
    os.truncate(tmp_path / name, 1 << 36)  # it takes no room
    with pytest.raises(UserError, match=f"{name} has 68,719,476,736 bytes, expected"):
        tokenization.load_tokenizer(tmp_path)


def alone(tokenizer, folder, config=None):
    """tokenizer.json and nothing else of a tokenizer, beside config.json if given."""
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return load_tokenizer(folder)


def test_tokenizer_json_alone_will_do(tmp_path):
    made = small.tokenizer(270, SPECIAL)
    found = alone(made, tmp_path)
    assert found.eos_token == END_OF_TEXT
    assert [encode(found, text) for text in TEXTS] == [encode(made, t) for t in TEXTS]
    other = made.convert_tokens_to_ids(SPECIAL[1])
    for end in (other, [other, 0]):
        assert alone(made, tmp_path, {"eos_token_id": end}).eos_token == SPECIAL[1]
    for unknown in (None, 10**6, "<|self|>", True, {}):
        assert alone(made, tmp_path, {"eos_token_id": unknown}).eos_token == END_OF_TEXT
    told = json.dumps({"eos_token": SPECIAL[0]})
    (tmp_path / "special_tokens_map.json").write_text(told)
    assert load_tokenizer(tmp_path).eos_token == SPECIAL[0]


def test_a_bert_tokenizer_json_alone_ends_with_what_separates(tmp_path):
    made = tokenization.train_wordpiece(TEXTS, 100)
    found = alone(made, tmp_path)
    assert (found.eos_token, found.sep_token) == ("[SEP]", "[SEP]")
    assert found("hi , how").input_ids == made("hi , how").input_ids


def test_a_runs_own_tokenizer_has_all_of_its_files(tmp_path):
    train(tmp_path)
    (tmp_path / "tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer_config\.json is missing; Delete"):
        train(tmp_path)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"nonsense"])
def test_a_damaged_file_of_a_tokenizer_is_named(name, content, tmp_path):
    save(small.tokenizer(), tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: .*get it again") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "added_tokens.json"])
def test_what_is_no_file_of_a_tokenizer_is_named_and_not_waited_for(name, tmp_path):
    save(small.tokenizer(), tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.symlink(tmp_path / "nowhere", tmp_path / name)
    with pytest.raises(UserError, match=f"{name} is a link that leads nowhere; get"):
        load_tokenizer(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=f"{name} is no file; get it again"):
        load_tokenizer(tmp_path)
