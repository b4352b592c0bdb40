"""The audit's figures, by hand on a small corpus and as published on PersonaChat."""

import re

import numpy as np
import pytest

from ppg_jax.data.audit import Lengths, audit, table
from ppg_jax.data.corpus import DataConfig, load_splits
from ppg_jax.data.dialogue import Dialogue, instances, read_jsonl
from tests import forked

TRAIN = (
    Dialogue("0", ("a b", "c"), ("d",), ("x", "y y", "z", "w w w")),
    Dialogue("1", ("c", "a b"), ("a b", "c"), ("x", "y y", "z", "w w w")),
    Dialogue("2", (), (), ("v", "v"), self_speaks_first=True),
)
TEST = (Dialogue("3", ("c", "a b"), ("e",), ("x", "y y", "z", "w w w")),)


def test_figures_agree_with_a_count_by_hand():
    train = audit({"train": TRAIN})["train"]
    assert (train.dialogues, train.instances) == (3, 5)
    assert train.self_sentences == pytest.approx(4 / 3)
    assert train.partner_sentences == pytest.approx(1)
    assert train.context_utterances == pytest.approx((1 + 3 + 1 + 3 + 0) / 5)
    # 0: profiles 3 + 1; 1: 3 + 3; utterances 1 2 1 3; 2: one response of 1.
    lengths = [4 + 3, 4 + 7, 6 + 3, 6 + 7, 1]
    assert train.instance_length.mean == pytest.approx(np.mean(lengths))
    assert train.instance_length.p50 == 9
    assert train.instance_length.max == 13
    assert train.profile_length == Lengths(2.5, 3, 3, 3)
    assert train.response_length.mean == pytest.approx((2 + 3 + 2 + 3 + 1) / 5)


def test_lengths_are_those_of_whole_instances():
    splits = load_splits(DataConfig(max_dialogues=40))
    train = audit(splits)["train"]
    whole = [
        sum(
            len(text.split())
            for text in (*i.self_persona, *i.partner_persona, *i.context, i.response)
        )
        for i in instances(splits["train"])
    ]
    assert train.instance_length.mean == pytest.approx(np.mean(whole))
    assert train.instance_length.p99 == pytest.approx(np.percentile(whole, 99))
    assert train.instance_length.max == max(whole)


def test_repetitions_and_leaks_are_counted():
    audits = audit({"train": TRAIN, "test": TEST})
    train, test = audits["train"], audits["test"]
    # "a b / c" stands three times, one of them in the other order.
    assert (train.profiles, train.exact_duplicate_profiles) == (2, 1)
    assert (train.sentences, train.duplicate_dialogues) == (3, 1)
    assert train.profiles_in_train == train.dialogues_in_train == 0
    assert (test.profiles, test.profiles_in_train) == (2, 1)
    assert (test.sentences, test.sentences_in_train) == (3, 2)
    assert test.dialogues_in_train == 1
    assert audit({"test": TEST})["test"].profiles_in_train == 0


def test_lengths_are_counted_by_the_tokenizer():
    assert audit({"test": TEST}, tokenize=list)["test"].response_length.max == 5


def test_a_corpus_without_responses_has_figures():
    figures = audit({"train": (Dialogue("0", (), (), ("x",)),)})["train"]
    assert (figures.instances, figures.instance_length.max) == (0, 0)
    assert "instances" in table({"train": figures}, "words")


def test_personachat_has_the_published_counts(shared):
    source = str(shared / "data/personachat")
    printed = table(audit(load_splits(DataConfig(source=source))), "words")
    rows = {
        label: re.split(r" {2,}", cells.strip())
        for label, cells in re.findall(r"^ *(\S.*?) {2,}(.*)$", printed, re.M)
    }
    assert rows["dialogues"] == ["8,939", "1,000", "968"]
    assert rows["instances"] == ["65,638", "7,801", "7,512"]
    assert rows["persona sentences, self / partner (mean)"] == [
        "4.502 / 4.489",
        "4.483 / 4.495",
        "4.489 / 4.512",
    ]
    assert rows["context utterances (mean)"] == ["7.43", "7.84", "7.80"]


def prepare_data(*flags):
    return forked.run("launch.prepare_data", *flags)


def test_the_program_prints_the_audit_and_writes_json_lines(tmp_path):
    (tmp_path / "train_both_original.txt").write_text("1 hi\tho\n2 he\tha\n")
    out = tmp_path / "out"
    done = prepare_data(f"--data={tmp_path}", f"--write_jsonl={out}")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^instances +2$", done.stdout, re.M)
    assert read_jsonl(out / "train.jsonl")[0].utterances == ("hi", "ho", "he", "ha")


def test_the_program_names_a_bad_line_and_exits_with_2(tmp_path):
    path = tmp_path / "train_both_original.txt"
    path.write_text("1 hi\tho\n7 he\tha\n")
    done = prepare_data(f"--data={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == f"prepare_data: {path}:2: line 7, expected 2 or 1.\n"
