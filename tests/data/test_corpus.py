"""One corpus, whatever the source; JSON lines and their errors."""

import dataclasses
import gzip
import json
import random

import pytest

from ppg_jax.data import corpus, persona_world
from ppg_jax.data.corpus import DataConfig, fingerprint, load_splits
from ppg_jax.data.dialogue import DataError, Dialogue, read_jsonl, write_jsonl
from ppg_jax.errors import UserError

TEXT = """1 your persona: i'm a cook.
2 partner's persona: i have a cat.
3 hello .\thi !
4 how are you ?\tfine .
1 your persona: i sing.
2 partner's persona: i read.
3 hey .\tyo .
"""
DIALOGUE = Dialogue(
    id="a",
    self_persona=("i am a cook.",),
    partner_persona=("i have a cat.", "i’m tall."),
    utterances=("hi !", "yo ,\tyou \u2028 there", "bye ."),
    self_speaks_first=True,
    candidates=(("hi !", "x"), ("bye .", "y")),
)


def write_parlai(folder, pattern="{split}_both_original_no_cands.txt"):
    for split in corpus.SPLITS:
        path = folder / pattern.format(split=split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXT)
    return folder


def texts(splits):
    """Everything but the ids, which bear the file's name."""
    return {
        split: [dataclasses.replace(d, id="") for d in dialogues]
        for split, dialogues in splits.items()
    }


def load(source, **options):
    return load_splits(DataConfig(source=str(source), **options))


@pytest.mark.parametrize("pattern", corpus._PARLAI)
def test_every_place_of_parlai_files_is_found(tmp_path, pattern):
    folder = write_parlai(tmp_path, pattern.replace("{version}", "original"))
    splits = load(folder)
    assert list(splits) == ["train", "valid", "test"]
    assert all(len(dialogues) == 2 for dialogues in splits.values())
    assert splits["train"][0].id == "train_both_original:0"


def test_every_source_gives_the_same_dialogues(tmp_path):
    import datasets

    parlai = load(write_parlai(tmp_path / "parlai"))
    for split, dialogues in parlai.items():
        write_jsonl(dialogues, tmp_path / "jsonl" / f"{split}.jsonl")
        (tmp_path / "gz").mkdir(exist_ok=True)
        data = (tmp_path / "jsonl" / f"{split}.jsonl").read_bytes()
        (tmp_path / "gz" / f"{split}.jsonl.gz").write_bytes(gzip.compress(data))
    columns = ("self_persona", "partner_persona", "utterances")
    tables = {
        split: datasets.Dataset.from_list(
            [{c: list(getattr(d, c)) for c in columns} for d in dialogues]
        )
        for split, dialogues in parlai.items()
    }
    tables["validation"] = tables.pop("valid")
    datasets.DatasetDict(tables).save_to_disk(tmp_path / "hf")
    assert load(tmp_path / "jsonl") == load(tmp_path / "gz") == parlai
    assert texts(load(tmp_path / "hf")) == texts(parlai)
    single = load(tmp_path / "parlai" / "train_both_original_no_cands.txt")
    assert single == {"train": parlai["train"]}
    assert load(tmp_path / "gz" / "train.jsonl.gz") == single


def test_the_hub_is_asked_for_the_name(monkeypatch):
    import datasets

    def load_dataset(name):
        assert name == "someone/chats"
        row = {"utterances": ["hi", "ho"], "self_persona": None, "topic": "x"}
        return {"validation": [row]}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    splits = load("hub:someone/chats")
    assert splits["valid"] == (Dialogue("validation:0", (), (), ("hi", "ho")),)


def test_two_dialogues_of_one_id_are_told(monkeypatch, tmp_path):
    import datasets

    rows = [{"utterances": ["hi", "ho"], "id": "x"}] * 2
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"train": rows})
    with pytest.raises(UserError, match=r"hub:a/b, train:2: the id 'x' is another"):
        load("hub:a/b")
    sides = [Dialogue(name, (), (), ("a", "b", "c")) for name in ("a", "a/swapped")]
    write_jsonl(sides, tmp_path / "train.jsonl")
    with pytest.raises(UserError, match="the id 'a/swapped' is another dialogue's"):
        load(tmp_path, both_sides=True)


def test_a_version_of_what_has_none_is_refused(monkeypatch, tmp_path):
    write_jsonl([Dialogue("a", (), (), ("a", "b"))], tmp_path / "train.jsonl")
    for source in ("hub:a/b", tmp_path / "train.jsonl"):
        with pytest.raises(UserError, match="has no revised version; use original"):
            load(source, version="revised")


def test_an_unreachable_hub_is_told_in_one_line(monkeypatch):
    import datasets

    def load_dataset(name):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match="cannot read hub:x: no route; check"):
        load("hub:x")


@pytest.mark.parametrize("error", [RuntimeError("no scripts"), ImportError("torch")])
def test_whatever_a_hub_repository_raises_is_told_in_one_line(monkeypatch, error):
    import datasets

    def load_dataset(name):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=f"cannot read hub:x: {error}; .*train.jsonl"):
        load("hub:x")


def test_a_column_of_the_wrong_type_is_named_with_its_row(tmp_path):
    import datasets

    table = datasets.Dataset.from_list([{"utterances": ["hi"], "id": 7}])
    datasets.DatasetDict(train=table).save_to_disk(tmp_path / "hf")
    with pytest.raises(DataError, match=r"hf/train:1: field 'id' is wrong"):
        load(tmp_path / "hf")


def test_persona_world_follows_the_seed():
    splits = load("persona_world", seed=3, max_dialogues=5)
    expected = persona_world.generate(3)
    assert splits == {name: expected[name][:5] for name in corpus.SPLITS}
    assert splits != load("persona_world", seed=4, max_dialogues=5)


def test_a_missing_split_is_named_with_the_command_to_get_it(tmp_path):
    folder = write_parlai(tmp_path)
    (folder / "test_both_original_no_cands.txt").unlink()
    splits = load(folder)
    assert set(splits) == {"train", "valid"}
    with pytest.raises(
        UserError, match=r"no test split, only train, valid.*--download"
    ):
        splits["test"]


def test_a_version_or_source_that_is_none_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match=r"version='new' is none of \('original', 're"):
        DataConfig(version="new")
    with pytest.raises(UserError, match="source is empty; give persona_world"):
        load("")


@pytest.mark.parametrize(
    ("source", "version", "said"),
    [
        ("{}/nowhere", "original", "no file or folder .*nowhere.*--download"),
        ("{}/empty", "original", "train_both_original_no_cands.txt.*train.jsonl"),
        ("{}/jsonl", "revised", "train_both_revised.txt"),
        ("persona_world", "revised", "no revised version"),
        ("{}/notes.md", "original", r"expected a file named .txt"),
    ],
)
def test_a_source_that_is_not_there_says_what_was_looked_for(
    tmp_path, source, version, said
):
    (tmp_path / "empty").mkdir()
    write_jsonl([DIALOGUE], tmp_path / "jsonl/train.jsonl")
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(UserError, match=said):
        load(source.format(tmp_path), version=version)


def test_both_sides_make_every_utterance_a_response_once(tmp_path):
    splits = load(write_parlai(tmp_path), both_sides=True, max_dialogues=1)
    one, other = splits["train"]
    assert other == one.swapped()
    said = [i.response for d in (one, other) for i in d.instances()]
    assert sorted(said) == sorted(one.utterances)


@pytest.mark.parametrize("first", [False, True])
def test_swapped_twice_is_itself(first):
    dialogue = dataclasses.replace(DIALOGUE, self_speaks_first=first, candidates=())
    twice = dialogue.swapped().swapped()
    assert dataclasses.replace(twice, id=dialogue.id) == dialogue


def test_contractions_are_expanded_on_request(tmp_path):
    folder = write_parlai(tmp_path)
    persona = load(folder, expand_contractions=True)["train"][0].self_persona
    assert persona == ("i am a cook.",)
    assert load(folder)["train"][0].self_persona == ("i'm a cook.",)


def test_the_fingerprint_sees_every_field_and_the_order():
    other = dataclasses.replace(DIALOGUE, id="b")
    changes = {
        "id": "c",
        "self_persona": ("i am a cook", "."),
        "partner_persona": (),
        "utterances": ("hi !", "yo", "bye ."),
        "self_speaks_first": False,
        "candidates": (),
    }
    assert set(changes) == {field.name for field in dataclasses.fields(Dialogue)}
    prints = {fingerprint([DIALOGUE, other]), fingerprint([other, DIALOGUE])}
    prints |= {fingerprint([DIALOGUE]), fingerprint([])}
    for change in changes.items():
        changed = dataclasses.replace(DIALOGUE, **dict([change]))
        prints.add(fingerprint([changed, other]))
    assert len(prints) == 4 + len(changes)
    assert fingerprint([DIALOGUE]) == fingerprint([dataclasses.replace(DIALOGUE)])


def test_jsonl_round_trip(tmp_path):
    dialogues = (DIALOGUE, dataclasses.replace(DIALOGUE, id="b"))
    path = tmp_path / "deep" / "x.jsonl"
    write_jsonl(dialogues, path)
    assert read_jsonl(path) == dialogues
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read_jsonl(tmp_path / "x.jsonl.gz") == dialogues


def test_plain_conversations_are_dialogues_without_personas(tmp_path):
    path = tmp_path / "talk.jsonl"
    path.write_text('{"topic": "x", "utterances": ["hi", "", "ho"]}\n')
    first = Dialogue("talk:0", (), (), ("hi", "", "ho"))
    assert read_jsonl(path) == (first,)
    path.write_text(path.read_text() + '\n \n{"utterances": ["a"]}\n\n')
    assert read_jsonl(path) == (first, Dialogue("talk:3", (), (), ("a",)))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "recursion|not JSON"),
        (b'{"utterances": ["\xff"]}', "UTF-8"),
        (b"[]", "list, expected an object"),
        (b'{"self_persona": []}', "no field 'utterances'"),
        (b'{"utterances": "hi"}', "'utterances' is wrong, expected a list of strings"),
        (b'{"utterances": ["hi", null]}', "'utterances' is wrong"),
        (b'{"utterances": ["\\ud800"]}', "'utterances' is wrong"),
        (b'{"utterances": [], "id": 3}', "'id' is wrong, expected a string"),
        (b'{"utterances": [], "self_speaks_first": 1}', "expected true or false"),
        (b'{"utterances": [], "candidates": ["a"]}', "lists of strings"),
        (b'{"utterances": ["a"], "candidates": [["a"]]}', "1 lists.*expected 0"),
        (b'{"utterances": [], "self_personas": []}', "expected 'self_persona'"),
        (b'{"utterances": ["hi"], "id": "talk:0"}', "occurs twice"),
        (b'{"utterances": ["hi"], "self_persona": [" "]}', "persona' is wrong.* empty"),
        (b'{"utterances": ["a"], "utterances": []}', "'utterances' stands there twice"),
        (
            b'{"utterances": ["a", "b"], "candidates": [["c", "d"]]}',
            "the response 'b' is none of its candidates",
        ),
    ],
)
def test_a_bad_json_line_is_named(tmp_path, line, said):
    path = tmp_path / "talk.jsonl"
    path.write_bytes(b'{"utterances": ["hi"]}\n' + line + b"\n")
    with pytest.raises(DataError, match=said) as error:
        read_jsonl(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert "\n" not in str(error.value)


def test_an_empty_or_damaged_file_is_named(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"utterances": []}\n' * 9)[:-12])
    with pytest.raises(DataError, match="damaged gzip"):
        read_jsonl(path)
    path.write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"x\.jsonl\.gz:1: a damaged gzip"):
        read_jsonl(path)
    (tmp_path / "x.jsonl").write_bytes(b"")
    with pytest.raises(DataError, match=r"x\.jsonl:1: the file is empty"):
        read_jsonl(tmp_path / "x.jsonl")
    with pytest.raises(UserError, match="expected JSON lines"):
        read_jsonl(tmp_path / "none.jsonl")


def test_mutated_json_lines_are_read_or_named(tmp_path):
    rng = random.Random(0)
    path = tmp_path / "x.jsonl"
    write_jsonl([DIALOGUE, dataclasses.replace(DIALOGUE, id="b")], path)
    data = path.read_bytes()
    refused = 0
    for _ in range(500):
        variant = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            variant[rng.randrange(len(variant))] = rng.choice(b'"[]{},:\\\n0tx\xff \0')
        path.write_bytes(variant)
        try:
            # Whatever is read can be written.
            json.dumps([d.utterances for d in read_jsonl(path)]).encode()
        except DataError as error:
            assert str(error).startswith(f"{path}:")
            refused += 1
    assert 100 < refused < 500


def test_the_conversations_for_pretraining_are_readable(shared):
    talks = load(shared / "data/dialogue/chitchat_byu.jsonl.gz")["train"]
    assert len(talks) == 7168
    assert not any(d.self_persona or d.partner_persona for d in talks)


def test_a_saved_dataset_has_no_version(tmp_path):
    import datasets

    table = datasets.Dataset.from_list([{"utterances": ["hi", "ho"]}])
    datasets.DatasetDict(train=table).save_to_disk(tmp_path / "hf")
    with pytest.raises(UserError, match="has no revised version; use original"):
        load(tmp_path / "hf", version="revised")


def test_a_source_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_jsonl([DIALOGUE], tmp_path / "talks/train.jsonl")
    assert load("~/talks")["train"] == (DIALOGUE,)


@pytest.mark.parametrize("other", ["train_both_original.txt", "train.jsonl"])
def test_of_several_forms_in_a_folder_parlais_without_candidates_is_read(
    other, tmp_path
):
    write_parlai(tmp_path)
    (tmp_path / other).write_text("none of these")
    assert len(load(tmp_path)["train"]) == 2


def test_the_other_side_has_no_candidates():
    assert DIALOGUE.candidates and DIALOGUE.swapped().candidates == ()
