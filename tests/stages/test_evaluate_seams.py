"""What a row of an evaluation is told: read from the files that `evaluate.run` writes,
and scored again with nothing but a model and its prompts.
"""

import dataclasses
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import instances, profile_text
from ppg_jax.errors import UserError
from ppg_jax.experiment import paper_rows
from ppg_jax.files import read_json, write_json, write_jsonl
from ppg_jax.inference import traits
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.embedding import Encoder
from ppg_jax.stages import evaluate
from ppg_jax.systems import answered, answering, provenance, swapped
from ppg_jax.systems.controls import CONTROLS
from ppg_jax.systems.generators import Generators
from ppg_jax.systems.system import Asking
from tests import run_for_tests as runs
from tests.encoder_for_tests import bag

DIALOGUES = runs.dialogues("test", 5)
ASKED = instances(DIALOGUES)


def judged(profile: str, response: str) -> float:
    """A score that no other pair has, and the pair turned round has neither."""
    return zlib.crc32(f"{profile}|{response}".encode()) / 2**32


@pytest.fixture(scope="module", autouse=True)
def quick():
    """A critic and an encoder of one line; strangers may have one sentence alike."""

    def score(self, profiles, responses):
        return np.array([*map(judged, profiles, responses)], np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Critic, "score", score)
        patch.setattr(Encoder, "load", lambda: bag)
        patch.setattr(swapped, "_sentences", lambda i: {i.partner_persona[0]})
        yield


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Run(NamedTuple):
    """A finished evaluation of a run with two response generators."""

    workdir: Path

    def rows(self, kind: str, name: str) -> list[dict]:
        return read(self.workdir / "evaluate" / kind / f"{name}.jsonl")

    def generator(self, stage: str) -> tuple:
        return runs.load_generator(self.workdir / stage / "model")

    def partners(self, told: str) -> list:
        """What a response generator is told of each instance: token lists, or None."""
        if told == "nothing":
            return [None] * len(ASKED)
        if told == "generated":
            return runs.inferred(self.generator("persona"), ASKED)
        return runs.gold(self.generator("response")[2], ASKED)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    workdir = tmp_path_factory.mktemp("run")
    data = runs.write_stages(workdir, response_without="")
    config = evaluate.Config(data=data, prompts=runs.PROMPTS)
    evaluate.run(config, workdir, paper_rows())
    return Run(workdir)


TOLD = {
    "without": ("response_without", "nothing"),
    "training_only": ("response", "nothing"),
    "full": ("response", "gold"),
    "ours_supervised": ("response", "generated"),
}


@pytest.mark.parametrize("name", TOLD)
def test_the_perplexity_of_a_row_is_that_given_what_the_row_is_told(run, name):
    stage, told = TOLD[name]
    generator = run.generator(stage)
    expected = runs.scored(generator, ASKED, run.partners(told))
    rows = run.rows("responses", name)
    assert [r["id"] for r in rows] == [i.id for i in ASKED]
    assert [r["tokens"] for r in rows] == [expected[i.id].tokens for i in ASKED]
    seen = np.array([r["nll"] for r in rows])
    np.testing.assert_allclose(seen, [expected[i.id].nll for i in ASKED], rtol=1e-4)
    # Whatever else it could have been told would have been seen.
    for other in {"nothing", "gold", "generated"} - {told}:
        wrong = runs.scored(generator, ASKED, run.partners(other))
        assert (np.abs(seen - [wrong[i.id].nll for i in ASKED]) > 1e-2).all()


@pytest.mark.parametrize("name", TOLD)
def test_the_answers_of_a_row_are_the_likeliest_given_what_the_row_is_told(run, name):
    stage, told = TOLD[name]
    generator = run.generator(stage)
    seen = [r["response"] for r in run.rows("responses", name)]
    assert seen == runs.answered(generator, ASKED, run.partners(told))
    for other in {"nothing", "gold", "generated"} - {told}:
        assert seen != runs.answered(generator, ASKED, run.partners(other))


@pytest.mark.parametrize("name", ["without", "training_only"])
def test_a_row_without_partner_persona_is_told_none(run, name):
    for row in run.rows("responses", name):
        assert row["partner_persona"] is None and row["critic_score"] is None


def test_the_gold_row_is_told_the_persona_of_the_partner(run):
    for row, instance in zip(run.rows("responses", "full"), ASKED, strict=True):
        assert row["partner_persona"] == profile_text(instance.partner_persona)
        assert instance.self_persona[0] not in row["partner_persona"]


def test_our_row_is_told_what_the_persona_generator_writes(run):
    prompts = run.generator("persona")[2]
    written = [prompts.text(tokens) for tokens in run.partners("generated")]
    told = [r["partner_persona"] for r in run.rows("responses", "ours_supervised")]
    assert told == written and len(set(told)) > 1


@pytest.mark.parametrize("name", ["full", "ours_supervised", "random", "copy_last"])
def test_the_critic_judges_a_response_by_the_persona_that_was_told(run, name):
    """A control is told nothing; it is judged by the gold persona."""
    for row, instance in zip(run.rows("responses", name), ASKED, strict=True):
        known = row["partner_persona"]
        if known is None:
            known = " ".join(instance.partner_persona)
        expected = judged(known, row["response"])
        np.testing.assert_allclose(row["critic_score"], expected, rtol=1e-6)


def test_gold_personas_are_those_of_the_partner(run):
    seen = [r["persona"] for r in run.rows("personas", "gold")]
    assert seen == [" ".join(i.partner_persona) for i in ASKED]
    assert not set(seen) & {" ".join(i.self_persona) for i in ASKED}


def test_every_row_of_personas_has_its_traits_counted(run):
    folder = run.workdir / "evaluate"
    names = {path.name for path in (folder / "personas").glob("*.jsonl")}
    assert {path.name for path in (folder / "traits").iterdir()} == names
    said = [r["persona"] for r in run.rows("personas", "supervised")]
    counted = traits.score(ASKED, said, bag)
    expected = [{"id": i.id, **c} for i, c in zip(ASKED, counted, strict=True)]
    assert run.rows("traits", "supervised") == expected


def test_what_is_swapped_is_scored_for_each_model_that_heeds_it(run):
    """Rows that are told nothing have no file; those that infer are told gold here."""
    found = {
        kind: {p.stem for p in (run.workdir / "evaluate/swapped" / kind).iterdir()}
        for kind in ("personas", "responses")
    }
    rows = {"full", "ours_supervised"}
    assert found == {"personas": {"supervised"}, "responses": rows}
    generator = run.generator("response")
    expected = runs.scored(generator, ASKED, run.partners("gold"))
    for name in rows:
        records = run.rows("swapped/responses", name)
        seen = [record["nll"] for record in records]
        assert [record["id"] for record in records] == [i.id for i in ASKED]
        np.testing.assert_allclose(seen, [expected[i.id].nll for i in ASKED], rtol=1e-4)
        assert all(r["id"].split(":")[1] != r["other"].split(":")[1] for r in records)


def test_nothing_is_swapped_where_none_is_asked_for(tmp_path):
    data = runs.write_stages(tmp_path)
    config = evaluate.Config(data=data, prompts=runs.PROMPTS, swapped_dialogues=0)
    evaluate.run(config, tmp_path, paper_rows())
    assert not (tmp_path / "evaluate/swapped").exists()
    # More may be asked for later: answers stay as they are.
    more = dataclasses.replace(config, swapped_dialogues=2)
    evaluate.run(more, tmp_path, paper_rows())
    assert len(read(tmp_path / "evaluate/swapped/personas/supervised.jsonl")) == 4


def test_without_an_encoder_traits_are_left_out_and_why_is_told(
    tmp_path, monkeypatch, capsys
):
    def missing():
        raise UserError("MiniLM is not installed")

    monkeypatch.setattr(Encoder, "load", missing)
    evaluate.write_traits(tmp_path, ASKED)
    assert "traits are not measured: MiniLM is not installed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_a_stage_whose_source_was_trained_anew_is_refused(tmp_path):
    data = runs.write_stages(tmp_path)
    path = tmp_path / "response" / "fingerprint.json"
    made = json.loads(path.read_text(encoding="utf-8"))
    made |= {"init_stage": "persona", "sha256 of the initial weights": "a" * 64}
    path.write_text(json.dumps(made), encoding="utf-8")
    config = evaluate.Config(data=data, prompts=runs.PROMPTS)
    with pytest.raises(UserError, match="response was made from another persona "):
        evaluate.run(config, tmp_path, paper_rows())
    assert not (tmp_path / "evaluate" / "responses").exists()


def test_a_row_that_is_another_one_now_is_asked_anew_and_new_words_ask_nothing(
    tmp_path, monkeypatch, capsys
):
    def at(commit):
        for module in (evaluate, provenance):
            monkeypatch.setattr(module, "commit", lambda: commit)

    at("first")
    data = runs.write_stages(tmp_path)
    config = evaluate.Config(data=data, prompts=runs.PROMPTS)
    row = Generators("Mine", "response", told="gold")
    evaluate.run(config, tmp_path, {"mine": row})
    path = tmp_path / "evaluate" / "responses" / "mine.jsonl"
    made = path.stat().st_mtime_ns
    other = dataclasses.replace(row, told="none")
    named = dataclasses.replace(row, label="Ours", against=("more",))
    at("second")
    took = evaluate.run(config, tmp_path, {"mine": named, "more": other})
    made_of = read_json(tmp_path / "evaluate" / "provenance.json")
    assert made_of["commit"] == made_of["rows"]["responses/more"] == "second"
    assert made_of["rows"]["responses/mine"] == "first"
    again = evaluate.run(config, tmp_path, {"mine": named, "more": other})
    assert again["seconds_of_last_process"] > took["seconds_of_last_process"]
    rows = json.loads((tmp_path / "evaluate" / "rows.json").read_text("utf-8"))
    assert [r["label"] for r in rows["responses"][:2]] == ["Ours", "Mine"]
    assert path.stat().st_mtime_ns == made
    mine, more = path.read_bytes(), path.with_name("more.jsonl").read_bytes()
    assert mine != more
    # A refusal leaves all as it is.
    with pytest.raises(UserError, match=r"temperature was 0\.0, is 1\.0"):
        warm = dataclasses.replace(config, temperature=1.0)
        evaluate.run(warm, tmp_path, {"mine": other})
    assert (path.read_bytes(), path.with_name("more.jsonl").read_bytes()) == (
        mine,
        more,
    )
    # What the row answered is kept, and that of one that is gone, too.
    capsys.readouterr()
    evaluate.run(config, tmp_path, {"mine": other})
    assert path.read_bytes() == more
    assert not path.with_name("more.jsonl").exists()
    told = [t for t in capsys.readouterr().err.splitlines() if "the row" in t]
    assert told[0].startswith(
        "evaluate: the row mine is defined otherwise now; what it"
    )
    assert told[1].startswith("evaluate: the row more is gone; what it answered is in")
    # As it was it has answered already.
    answers = monkeypatch.context()
    with answers as patch:
        patch.setattr(evaluate, "_write_row", None)
        evaluate.run(config, tmp_path, {"mine": named, "more": other})
        assert (path.read_bytes(), path.with_name("more.jsonl").read_bytes()) == (
            mine,
            more,
        )
        evaluate.run(config, tmp_path, {"mine": other})
        assert path.read_bytes() == more
    made_by = read_json(tmp_path / "evaluate" / "made_by.json")
    assert "responses/more" not in made_by and made_by["responses/mine"] == "second"


@pytest.fixture
def answered_twice(tmp_path):
    """(folder, rows before, rows now) where a row of personas is defined otherwise."""
    folder = tmp_path / "evaluate"
    before, now = (
        {"ours": "a" * 64, "kept": "c" * 64},
        {"ours": "b" * 64, "kept": "c" * 64},
    )
    rows = {"responses": [], "personas": [{"name": "ours"}, {"name": "kept"}]}
    write_json(folder / "rows.json", rows)
    write_json(folder / "made_by.json", {"personas/ours": "x", "personas/kept": "y"})
    claimed = {f"sha256 of the row {name}": sha256 for name, sha256 in before.items()}
    write_json(folder / "fingerprint.json", claimed | {"name": "evaluate"})
    for name in ("ours", "kept"):
        for place in ("personas", "swapped/personas", "traits"):
            write_jsonl(folder / place / f"{name}.jsonl", [{"id": f"{place} {name}"}])
    write_jsonl(folder / "responses" / "ours.jsonl", [{"id": "a user's own"}])
    return folder, before, now


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_row_that_is_again_as_it_was_has_its_answers(answered_twice):
    folder, before, now = answered_twice
    first = files_of(folder)
    answered.change(folder, now)
    left = {name for name in files_of(folder) if not name.startswith("set_aside")}
    assert {name for name in first if name not in left} == {
        "personas/ours.jsonl",
        "swapped/personas/ours.jsonl",
        "traits/ours.jsonl",
    }
    assert answered.rows_of(answered.claimed(folder)) == {"kept": "c" * 64}
    listed = read_json(folder / "rows.json")["personas"]
    assert [row["name"] for row in listed] == ["kept"]  # so the report has no hole
    # Answered by the new definition, and then the old one again.
    write_jsonl(folder / "personas" / "ours.jsonl", [{"id": "new"}])
    write_json(folder / "made_by.json", {"personas/ours": "z", "personas/kept": "y"})
    claimed = read_json(folder / "fingerprint.json")
    write_json(
        folder / "fingerprint.json", claimed | {"sha256 of the row ours": now["ours"]}
    )
    answered.change(folder, before)
    again = files_of(folder)
    answers = [name for name in first if name.endswith(".jsonl")]
    assert len(answers) == 7
    assert {n: again[n] for n in answers} == {n: first[n] for n in answers}
    assert read_json(folder / "made_by.json") == {
        "personas/kept": "y",
        "personas/ours": "x",
    }
    aside = folder / "set_aside" / now["ours"][:12]
    assert read(aside / "personas" / "ours.jsonl") == [{"id": "new"}]


def test_a_change_that_is_broken_off_is_made_whole_by_the_next(
    answered_twice, monkeypatch
):
    """Whichever file was the last to be written or moved."""
    folder, before, now = answered_twice
    start = folder.with_name("start")
    shutil.copytree(folder, start)

    class Killed(Exception):
        pass

    def left(after: int, rows: dict) -> bool:
        """Whether a change was broken off before its write or move of this number."""
        count = iter(range(100))

        def dies(original):
            def call(*given):
                if next(count) == after:
                    raise Killed
                return original(*given)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(answered, "write", dies(answered.write))
            patch.setattr(Path, "replace", dies(Path.replace))
            try:
                answered.change(folder, rows)
            except Killed:
                return True
        return False

    answered.change(folder, now)
    changed = files_of(folder)
    back = dict.fromkeys(["personas/ours.jsonl", "traits/ours.jsonl"])
    for after in range(100):
        shutil.rmtree(folder)
        shutil.copytree(start, folder)
        if not left(after, now):
            break
        answered.change(folder, now)
        assert files_of(folder) == changed
        shutil.rmtree(folder)
        shutil.copytree(start, folder)
        left(after, now)
        answered.change(folder, before)  # the config is as it was
        found = files_of(folder)
        assert all(found[name] == files_of(start)[name] for name in back)
        assert "personas/ours" in read_json(folder / "made_by.json")
    assert after > 5


def test_a_users_own_row_is_not_taken_for_what_the_config_had(tmp_path):
    """One of that name that is written when the config's is gone."""
    data = runs.write_stages(tmp_path)
    config = evaluate.Config(data=data, prompts=runs.PROMPTS, swapped_dialogues=0)
    row = {"mine": Generators("Mine", "response", told="gold")}
    evaluate.run(config, tmp_path, row)
    evaluate.run(config, tmp_path, {})
    path = tmp_path / "evaluate" / "responses" / "mine.jsonl"
    write_jsonl(path, [{"id": i.id, "response": "my own"} for i in ASKED])
    evaluate.run(config, tmp_path, {})
    with pytest.raises(UserError, match=r"mine\.jsonl is a row of your own .* rename"):
        evaluate.run(config, tmp_path, row)
    assert {record["response"] for record in read(path)} == {"my own"}


def test_an_interrupted_row_goes_on_and_answers_as_at_once(run, tmp_path, monkeypatch):
    """A part is whole dialogues; what was answered before is not asked again."""
    monkeypatch.setattr(answering, "PART", len(instances(DIALOGUES[:1])) + 1)
    path = tmp_path / "unfinished" / "row.jsonl"
    row = Generators("Mine", "response", "persona")
    sampled = Asking(run.workdir, (), runs.PROMPTS, temperature=1.0)
    answered = []

    class Stops:
        kind, control, load = row.kind, row.control, lambda self, asking: self

        def __init__(self, after: int):
            self.after, self.answers = after, row.load(sampled)
            self.score = self.answers.score

        def respond(self, asked):
            answered.append([i.id for i in asked])
            if len(answered) == self.after:
                raise KeyboardInterrupt
            return self.answers.respond(asked)

    def write(row):
        evaluate._write_row(path, row, sampled, ASKED, {})

    with pytest.raises(KeyboardInterrupt):
        write(Stops(after=2))
    assert len(read(path)) == len(answered[0])
    write(Stops(after=0))
    first, lost, *rest = answered
    assert rest[0] == lost and len(rest) >= 2
    assert [*first, *(i for part in rest for i in part)] == [i.id for i in ASKED]
    dialogues = [{i.rpartition(":")[0] for i in part} for part in (first, *rest)]
    assert sum(map(len, dialogues)) == len(DIALOGUES)
    at_once = [a.text for a in row.load(sampled).respond(ASKED)]
    assert [r["response"] for r in read(path)] == at_once


def test_where_one_is_told_nothing_the_others_have_a_score(run, tmp_path):
    """By the persona that each is told; a control's by the gold one."""
    critic, last = Critic(None, None, None), ASKED[-1].id.rpartition(":")[0]
    unknown = [i.id for i in ASKED if i.id.startswith(last)]
    asked = [
        dataclasses.replace(i, partner_persona=()) if i.id in unknown else i
        for i in ASKED
    ]
    told = Generators("Mine", "response", told="gold")
    for name, row in (("told", told), ("control", CONTROLS["responses"]["copy_last"])):
        path = tmp_path / f"{name}.jsonl"
        asking = Asking(run.workdir, (), runs.PROMPTS)
        evaluate._write_row(path, row, asking, asked, {"critic_score": critic})
        for instance, record in zip(asked, read(path), strict=True):
            profile = profile_text(instance.partner_persona)
            expected = judged(profile, record["response"]) if profile else None
            assert record["critic_score"] == pytest.approx(expected)
    assert answering.critic_scores(told, asked, read(path), None) == [None] * len(asked)


def asked_by(workdir, data, **options) -> list[str]:
    """The ids of a run that has nothing but controls."""
    workdir.mkdir()
    runs.write_config(workdir)
    config = evaluate.Config(data=data, prompts=runs.PROMPTS, **options)
    evaluate.run(config, workdir, {})
    folder = workdir / "evaluate"
    ids = [r["id"] for r in read(folder / "instances.jsonl")]
    for path in folder.glob("*/*.jsonl"):
        assert [r["id"] for r in read(path)] == ids
    return ids


def test_so_many_dialogues_are_asked_whole_and_the_seed_alone_draws_them(run, tmp_path):
    data = DataConfig(source=str(run.workdir / "data"))
    whole = {tuple(i.id for i in d.instances()) for d in DIALOGUES}
    draws = [
        asked_by(tmp_path / f"draw_{n}", data, max_dialogues=2, seed=seed)
        for n, seed in enumerate([0, 0, 1, 2, 3])
    ]
    for ids in draws:
        groups = {tuple(i for i in ids if i.startswith(d.id)) for d in DIALOGUES}
        assert len(groups - {()}) == 2 and groups - {()} <= whole
    assert draws[0] == draws[1]
    assert any(draws[0] != other for other in draws[2:])
    everything = asked_by(tmp_path / "all", data, max_dialogues=0)
    assert everything == [i.id for i in ASKED]


def test_a_second_critic_judges_the_same_answers_in_a_column_of_its_own(
    tmp_path, monkeypatch
):
    data = runs.write_stages(tmp_path)
    shutil.copytree(tmp_path / "critic", tmp_path / "other")
    config = evaluate.Config(data=data, prompts=runs.PROMPTS, held_out="other")
    asking = Asking(tmp_path, (), runs.PROMPTS)
    critics = evaluate.critics_of(config, asking)
    assert list(critics) == ["critic_score", "held_out_score"]
    flipped = lambda *texts: 1 - critics["critic_score"].score(*texts)  # noqa: E731
    critics["held_out_score"] = type("Other", (), {"score": staticmethod(flipped)})
    path = tmp_path / "row.jsonl"
    evaluate._write_row(path, Generators("Mine", "response"), asking, ASKED, critics)
    for record in read(path):
        own = judged(record["partner_persona"], record["response"])
        assert record["critic_score"] == pytest.approx(own)
        assert record["held_out_score"] == pytest.approx(1 - own)
    alone = evaluate.critics_of(dataclasses.replace(config, held_out="gone"), asking)
    assert list(alone) == ["critic_score"]


def test_a_held_out_critic_that_comes_later_is_refused(tmp_path):
    """A column is there for all rows or for none."""
    data = runs.write_stages(tmp_path)
    config = evaluate.Config(data=data, prompts=runs.PROMPTS, held_out="other")
    splits = evaluate.corpus.load_splits(data)
    evaluate._claim(config, tmp_path, {}, splits)
    shutil.copytree(tmp_path / "critic", tmp_path / "other")
    with pytest.raises(UserError, match="sha256 of the other model was None"):
        evaluate._claim(config, tmp_path, {}, splits)


def test_counts_of_traits_of_answers_that_are_gone_are_gone(tmp_path, monkeypatch):
    source = tmp_path / "personas" / "mine.jsonl"
    write_jsonl(source, [{"id": i.id, "persona": "i sing."} for i in ASKED])
    answered.count_traits(tmp_path, ASKED, bag)
    counted = tmp_path / "traits" / "mine.jsonl"
    assert len(read(counted)) == len(ASKED)
    write_jsonl(source, [{"id": i.id, "nll": 1.0, "tokens": 2} for i in ASKED])
    os.utime(source, ns=(1, 1))
    answered.count_traits(tmp_path, ASKED, bag)
    assert not counted.exists()


def test_a_row_of_ones_own_is_not_taken_for_one_of_the_config(tmp_path):
    data = runs.write_stages(tmp_path)
    config = evaluate.Config(data=data, prompts=runs.PROMPTS, swapped_dialogues=0)
    path = tmp_path / "evaluate" / "responses" / "mine.jsonl"
    write_jsonl(path, [{"id": "x"}])
    before = path.read_bytes()
    row = {"mine": Generators("Mine", "response", told="gold")}
    with pytest.raises(UserError, match=r"mine\.jsonl is a row of your own .* rename"):
        evaluate.run(config, tmp_path, row)
    assert path.read_bytes() == before
    path.unlink()
    evaluate.run(config, tmp_path, row)
    evaluate.run(config, tmp_path, row)  # it is known as its own


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("made_by.json", {"responses/ours": 3}),
        ("rows.json", {"responses": [{"label": "Ours"}]}),
        ("result.json", {"seconds_of_last_process": "long"}),
    ],
)
def test_what_an_evaluation_keeps_of_itself_is_of_its_form_or_told(
    name, wrong, tmp_path
):
    write_json(tmp_path / name, wrong)
    with pytest.raises(UserError, match=f"{name} is not as it was written .*; delete"):
        answered.values(tmp_path / name)


def test_what_an_evaluation_was_claimed_for_is_hashes_or_told(tmp_path):
    made = {"name": "evaluate", "sha256 of the row ours": {}}
    write_json(tmp_path / "fingerprint.json", made)
    with pytest.raises(UserError, match=r"fingerprint\.json is not .*row ours is {}"):
        answered.claimed(tmp_path)


ANSWER = {"id": "a", "response": "hi", "partner_persona": None}


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([ANSWER | {"response": 3}], "1.response is 3"),
        ([ANSWER, {"id": "b"}], "2.response is None"),
        ([ANSWER, ANSWER], "2.id is 'a'"),
        ([ANSWER | {"id": "c"}], "1.id is 'c'"),
        ([ANSWER, ANSWER | {"id": "b"}, ANSWER | {"id": "c"}], "3.id is 'c'"),
    ],
)
def test_a_row_goes_on_from_answers_to_what_is_asked_alone(records, told, tmp_path):
    path = tmp_path / "ours.jsonl"
    answered.write(path, [ANSWER])
    assert answered.begun(path, "responses", ["a", "b"]) == [ANSWER]
    answered.write(path, records)
    with pytest.raises(UserError, match=rf"ours\.jsonl is not as .*{told}.*; delete"):
        answered.begun(path, "responses", ["a", "b"])
