"""What is read of files is of its form, and a pipe is not waited for."""

import json
import os
import re

import numpy as np
import pytest

from ppg_jax import files
from ppg_jax.data import dialogue, personachat
from ppg_jax.errors import UserError

FORM = {
    "name": str,
    "steps": int,
    "turns": range(1, 9),
    "loss": float | None,
    "sums": dict[str, files.SHA256] | None,
    "rows": list[dict[str, bool]],
}
SOUND = {
    "name": "a",
    "steps": 3,
    "turns": 1,
    "loss": 0.5,
    "sums": {"x": "0" * 64},
    "rows": [],
}


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"loss": None},
        {"loss": 2, "another": float("inf")},
        {"sums": None, "rows": [{"a": True}, {}]},
    ],
    ids=str,
)
def test_what_is_of_a_form_is_let_pass(right, tmp_path):
    files.require_form(tmp_path, SOUND | right, FORM, "mend it.")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": None}, "name is None"),
        ({"steps": 3.0}, "steps is 3.0"),
        ({"steps": True}, "steps is True"),
        ({"turns": 9}, "turns is 9"),
        ({"turns": True}, "turns is True"),
        ({"loss": "0.5"}, "loss is '0.5'"),
        ({"loss": float("nan")}, "loss is nan"),
        ({"loss": 10**400}, "loss is 1000"),
        ({"sums": {"x": "0" * 64, "y": "0"}}, "sums.y is '0'"),
        ({"sums": []}, r"sums is \[\]"),
        ({"rows": {}}, r"rows is \{\}"),
        ({"rows": [{}, {"a": 1}]}, "rows.2.a is 1"),
    ],
    ids=str,
)
def test_what_is_of_another_form_is_told_by_its_name(wrong, told, tmp_path):
    expected = f"^{re.escape(str(tmp_path))} is not as it was .*{told}.*; mend it.$"
    with pytest.raises(UserError, match=expected):
        files.require_form(tmp_path, SOUND | wrong, FORM, "mend it.")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_json_has_no_word_for_what_is_no_number(number, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(f'{{"row": [{{"contrast": {number}}}]}}')
    with pytest.raises(UserError, match=r"a\.json: 'contrast' is .*; get it again"):
        files.read_json(path)


READERS = {
    "read_json": files.read_json,
    "read_jsonl": lambda path: list(files.read_jsonl(path)),
    "read_metrics": files.read_metrics,
    "dialogues": dialogue.read_jsonl,
    "personachat": personachat.read,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_pipe_in_the_place_of_a_file_is_told_and_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(UserError, match="a is no file; "):
        read(tmp_path / "a")


def test_of_metrics_what_is_torn_or_no_number_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1, "loss": 2.5, "kl": NaN}', '{"step": 2, "loss": Infinity}']
    lines += [
        '{"step": 3, "lo',
        '{"step": -1}',
        '{"step": 1e999}',
        "[3]",
        '{"step": 4}',
    ]
    lines += [f'{{"step": {10**30}}}', f'{{"step": 5, "loss": {10**30}}}']
    path.write_text("\n".join(lines))
    found = files.read_metrics(path)
    assert found == [{"step": 1, "loss": 2.5}, {"step": 2}, {"step": 4}, found[3]]
    assert found[3] == {"step": 5, "loss": 1e30} and np.isfinite(found[3]["loss"])
    files.write_jsonl(path, found)  # as a run that goes on
    assert [json.loads(line) for line in path.read_text().splitlines()] == found
