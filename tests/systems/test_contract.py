"""Every row keeps one contract (`ppg_jax.systems.system`)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.data.dialogue import instances
from ppg_jax.data.retrieval import told_sentences
from ppg_jax.errors import UserError
from ppg_jax.experiment import paper_rows
from ppg_jax.files import write_json
from ppg_jax.inference import generator
from ppg_jax.inference.generator import Completion, Generator
from ppg_jax.inference.scoring import Scorer
from ppg_jax.losses import token_log_probs
from ppg_jax.systems import answering, generators
from ppg_jax.systems.controls import CONTROLS, GOLD, Gold, NGram
from ppg_jax.systems.generators import Generators, PersonaGenerator
from ppg_jax.systems.system import Asking
from tests import run_for_tests as runs

DIALOGUES = runs.dialogues("test", 4)
ASKED = instances(DIALOGUES)
MODELS = {
    "responses none": Generators("a", "response", told="none"),
    "responses gold": Generators("b", "response", told="gold"),
    "responses top3": Generators("c", "response", told="top3"),
    "responses generated": Generators("d", "response", persona="persona"),
    "personas": PersonaGenerator("e", "persona"),
}
OTHERS = {f"personas {GOLD}": Gold()}
OTHERS |= {f"{k} {n}": row for k, rows in CONTROLS.items() for n, row in rows.items()}
NGRAMS = {name: row for name, row in OTHERS.items() if isinstance(row, NGram)}
ROWS = MODELS | OTHERS


def asking(workdir=None, **options) -> Asking:
    workdir = workdir or runs.finished_run()
    return Asking(workdir, DIALOGUES, runs.PROMPTS, **options)


@pytest.fixture(scope="module")
def greedy() -> Asking:
    """One for all tests: what it compiles serves them all."""
    return asking()


@pytest.mark.parametrize("name", ROWS)
def test_answers_are_in_the_order_asked_and_alone_as_among_others(name, greedy):
    if name.endswith("random"):
        pytest.skip("which answer is drawn is told by the seed and the place alone")
    answers = ROWS[name].load(greedy)
    together = answers.respond(ASKED)
    assert len(together) == len(ASKED)
    turned = answers.respond(ASKED[::-1])
    assert turned[::-1] == together
    assert answers.respond(ASKED[2:3]) == together[2:3]


@pytest.mark.parametrize("name", ROWS)
def test_the_same_seed_gives_the_same_answers(name):
    answers = [
        ROWS[name].load(asking(temperature=1.0, seed=3)).respond(ASKED)
        for _ in range(2)
    ]
    assert answers[0] == answers[1]


def test_a_row_with_a_contrast_gives_it_each_prompt_without_its_context(monkeypatch):
    """Of its personas or of its responses; others are as they were."""
    original, seen = Generator.__call__, []

    def call(self, params, prompts, seed, ids, limit=0, without=()):
        seen.append((self.decoding.contrast, prompts, without))
        return original(self, params, prompts, seed, ids, limit, without)

    monkeypatch.setattr(Generator, "__call__", call)
    for row in ("personas", "responses generated"):
        for contrast in (1.5, 0.0):
            asked = asking()
            changed = dataclasses.replace(MODELS[row], contrast=contrast)
            assert changed.description["contrast"] == contrast
            changed.load(asked).respond(ASKED[:2])
            (weight, prompts, without), *others = seen
            make = generators._load(asked, "persona").prompts.persona_prompt
            assert (weight, prompts) == (contrast, [make(i) for i in ASKED[:2]])
            before = [dataclasses.replace(i, context=()) for i in ASKED[:2]]
            assert list(without) == ([make(i) for i in before] if contrast else [])
            assert all(weight == 0 and not prior for weight, _, prior in others)
            seen.clear()
    changed = dataclasses.replace(MODELS["responses generated"], response_contrast=1.5)
    assert changed.description["response_contrast"] == 1.5
    asked = asking()
    changed.load(asked).respond(ASKED[:2])
    (weight, _, prior), (other, _, without) = seen
    assert (weight, list(prior), other) == (0, [], 1.5)
    partners = changed.load(asked)._partners(ASKED[:2])
    make = generators._load(asked, "response").prompts.response_prompt
    assert list(without) == [make(i, p) for i, p in zip(before, partners, strict=True)]


def test_a_grounded_row_tells_what_was_said_of_what_it_infers_anyway(monkeypatch):
    """The other row's personas are not decoded a second time."""
    original, asks = Generator.__call__, []
    prompts_of_run = runs.load_generator(runs.finished_run() / "persona" / "model")[2]
    written = tuple(prompts_of_run._encode(" i sing. i tea."))

    def call(self, params, prompts, *others, **options):
        asks.append(len(prompts))
        made = original(self, params, prompts, *others, **options)
        return [c._replace(tokens=written) for c in made]

    monkeypatch.setattr(Generator, "__call__", call)
    talk = ("i sing.", "oh.", "hm.", "ah.", "tea ? i sing.")
    asked = [
        dataclasses.replace(ASKED[0], id=f"d:{n}", turn=n, context=talk[: 2 * n + 1])
        for n in range(3)
    ]
    plain, at = MODELS["personas"], asking()
    grounded = dataclasses.replace(plain, grounded=True)
    assert grounded.description["grounded"] and not plain.description["grounded"]
    texts = [a.text for a in grounded.load(at).respond(asked)]
    assert texts == ["i sing.", "i sing.", "i sing. i tea."]
    assert plain.load(at).respond(asked)[0].text == "i sing. i tea."
    assert asks == [3]
    row = dataclasses.replace(MODELS["responses generated"], grounded=True)
    silent = [dataclasses.replace(i, context=("?",)) for i in asked[:1]]
    (answer,) = row.load(at).respond(silent)
    told_none = dataclasses.replace(MODELS["responses none"], response=row.response)
    assert (answer.told, row.given_gold.grounded) == ("", False)
    (score,), (none,) = (r.load(at).score(silent) for r in (row, told_none))
    assert score.nll == pytest.approx(none.nll, rel=1e-5)


def test_what_has_no_room_in_a_prompt_is_told_beside_its_likelihood(greedy):
    """A response that is longer than all the room; others are whole."""
    row, long = MODELS["responses gold"], " ".join(["i sing."] * 40)
    pairs = zip(ASKED, ("hm", "i sing.", long), strict=False)
    asked = [dataclasses.replace(i, id=text, response=text) for i, text in pairs]
    records = next(answering.records(row, greedy, asked))
    target = generators._load(greedy, row.response).prompts.response_target
    whole = [len(target(i.response)) for i in asked]
    assert [r["tokens"] + r.get("cut", 0) for r in records] == whole
    assert ["cut" in r for r in records] == [False, False, True]
    assert 0 < records[2]["cut"] < whole[2]


@pytest.mark.parametrize("name", [name for name in OTHERS if name not in NGRAMS])
def test_a_row_without_likelihood_says_so(name, greedy):
    row = ROWS[name]
    assert row.load(greedy).score(ASKED) is None
    assert row.control == (name != f"personas {GOLD}")


@pytest.mark.parametrize("name", MODELS | NGRAMS)
def test_scores_are_in_the_order_asked_and_alone_as_among_others(name, greedy):
    answers = ROWS[name].load(greedy)
    scores = answers.score(ASKED)
    np.testing.assert_allclose(answers.score(ASKED[::-1])[::-1], scores, rtol=1e-5)
    np.testing.assert_allclose(answers.score(ASKED[2:3]), scores[2:3], rtol=1e-5)


@pytest.mark.parametrize("name", NGRAMS)
def test_an_n_gram_knows_training_better_than_what_it_never_saw(name, greedy):
    answers = ROWS[name].load(greedy)
    strange = [
        dataclasses.replace(i, response="zebras !", partner_persona=("zebras !",))
        for i in ASKED
    ]
    for seen, unseen in zip(answers.score(ASKED), answers.score(strange), strict=True):
        assert seen.nll / seen.tokens < unseen.nll / unseen.tokens
    assert len({answer.text for answer in answers.respond(ASKED)}) == 1


def test_a_score_is_the_sum_by_hand(greedy):
    answers = MODELS["responses none"].load(greedy)
    model, params, prompts = runs.load_generator(
        runs.finished_run() / "response" / "model"
    )
    instance = ASKED[3]
    prompt = list(prompts.response_prompt(instance, None))
    target = list(prompts.response_example(instance, None).tokens[len(prompt) :])
    assert len(target) >= 3
    tokens = np.array([prompt + target])
    logits = jax.jit(model.apply)({"params": params}, tokens)[0, len(prompt) - 1 : -1]
    by_hand = -float(token_log_probs(logits, jnp.array(target)).sum())
    (score,) = answers.score([instance])
    assert score.tokens == len(target)
    np.testing.assert_allclose(score.nll, by_hand, rtol=1e-4)


def test_the_config_says_what_generators_compute_in():
    answers = MODELS["personas"].load(asking(dtype="bfloat16"))
    assert answers.loaded.model.dtype == jnp.bfloat16
    kinds = {p.dtype for p in jax.tree.leaves(answers.loaded.params)}
    assert kinds == {jnp.dtype("float32")}


def test_a_response_shares_no_randomness_with_a_persona(monkeypatch):
    drawn, row_keys = [], generator.row_keys

    def record(seed, ids):
        drawn.append({(seed, int(i)) for i in ids})
        return row_keys(seed, ids)

    monkeypatch.setattr(generator, "row_keys", record)
    MODELS["responses generated"].load(asking(temperature=1.0)).respond(ASKED)
    personas, responses = drawn
    assert len(personas) == len(responses) >= len(ASKED)
    assert not personas & responses


def programs(of: Asking) -> list:
    """What generates, what scores, and how many shapes the first have compiled."""
    made = [m for m in of._made.values() if isinstance(m, Generator | Scorer)]
    return [made, [m.compile_count for m in made if isinstance(m, Generator)]]


def test_rows_with_models_of_one_form_share_their_programs(tmp_path):
    runs.write_run(tmp_path)
    runs.export_generator(tmp_path / "persona" / "model", seed=7)
    write_json(tmp_path / "persona" / "result.json", runs.FINISHED)
    first, second = (Generators("", s, told="none") for s in ("response", "persona"))
    both = asking(tmp_path)
    one = [f(ASKED) for f in (first.load(both).score, first.load(both).respond)]
    compiled = programs(both)
    two = [f(ASKED) for f in (second.load(both).score, second.load(both).respond)]
    assert len(compiled[0]) == 2 and programs(both) == compiled
    assert second.load(asking(tmp_path)).respond(ASKED) == two[1]
    assert one != two


def test_rows_with_the_same_weights_are_asked_once(tmp_path, monkeypatch):
    runs.write_run(tmp_path)
    for name in ("copy", "other"):
        runs.export_generator(
            tmp_path / name / "model", seed={"copy": 1, "other": 9}[name]
        )
        write_json(tmp_path / name / "result.json", runs.FINISHED)
    asked = []
    generate = Generator.__call__

    def counting(self, params, *arguments, **more):
        asked.append(len(arguments[0]))
        return generate(self, params, *arguments, **more)

    monkeypatch.setattr(Generator, "__call__", counting)
    both = asking(tmp_path)
    rows = [Generators("", s, told="gold") for s in ("response", "copy", "other")]
    said = [row.load(both).respond(ASKED) for row in rows]
    assert said[0] == said[1] != said[2]
    assert len(asked) == 2


def test_a_row_is_told_what_its_generator_was_trained_with(tmp_path):
    runs.write_run(tmp_path)
    fingerprint = tmp_path / "response" / "fingerprint.json"
    for told in ("none", "gold"):
        write_json(
            fingerprint,
            {"name": "response", "task": "response", "partner_persona": told},
        )
        plain = Generators("", "response").load(asking(tmp_path))
        named = Generators("", "response", told=told).load(asking(tmp_path))
        assert plain.respond(ASKED) == named.respond(ASKED)
    folder = tmp_path / "tuned"
    runs.export_generator(folder / "model_response", seed=1)
    (folder / "fingerprint.json").write_text(
        '{"name": "reinforce", "response": "response"}'
    )
    write_json(folder / "result.json", runs.FINISHED)
    tuned = Generators("", "tuned/model_response").load(asking(tmp_path))
    assert tuned.told == "gold"


def test_top3_tells_three_sentences_and_none_tells_nothing(greedy):
    answers = ROWS["responses none"].load(greedy).respond(ASKED)
    assert {answer.told for answer in answers} == {None}
    many = ("i run.", "i sing.", "i read.", "i cook.", "i have tea.")
    instance = dataclasses.replace(
        ASKED[0], partner_persona=many, context=("i need tea",)
    )
    assert told_sentences("top3", instance) == ("i run.", "i sing.", "i have tea.")
    assert told_sentences("gold", instance) == many
    assert told_sentences("none", instance) == ()


@pytest.mark.parametrize("name", MODELS)
def test_a_stage_that_has_not_finished_is_told_with_the_command(name, tmp_path):
    with pytest.raises(UserError, match=r"python -m launch\.train --stage=\w+"):
        ROWS[name].load(asking(tmp_path))


def test_a_row_that_contradicts_itself_is_refused_by_name():
    with pytest.raises(ValueError, match=r"told='golden' is none of \('gold'"):
        Generators("", "response", told="golden")
    with pytest.raises(ValueError, match="are both given; leave one empty"):
        Generators("", "response", persona="persona", told="gold")


def test_what_a_row_needs_are_the_stages_of_its_models():
    rows = paper_rows()
    assert rows["ours"].needs == ("reinforce",)
    assert rows["ours_supervised"].needs == ("response", "persona")
    assert rows["ours"].description["models"] == {
        "response": "reinforce/model_response",
        "persona": "reinforce/model_persona",
    }


def test_a_row_tells_each_sentence_of_an_inferred_persona_once(monkeypatch):
    of = asking()
    personas = MODELS["personas"].load(of)
    prompts = personas.loaded.prompts
    sampled = prompts.tokenizer.encode(" i run. I run! i ru")
    written = [Completion(tuple(sampled), False, -1.0)] * len(ASKED)
    monkeypatch.setattr(generators, "_complete", lambda *asked: written)
    once = prompts.persona_target(["i run."])
    assert {answer.text for answer in personas.respond(ASKED)} == {"i run."}
    responses = MODELS["responses generated"].load(of)
    assert responses._partners(ASKED) == [once] * len(ASKED)
