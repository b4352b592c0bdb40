"""TransferTransfo (Wolf et al., 2019): what it reads, learns and answers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.data.batching import collate
from ppg_jax.data.candidates import distractors
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import instances
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.data.speakers import Spoken
from ppg_jax.errors import UserError
from ppg_jax.files import read_metrics, write_json
from ppg_jax.inference.choosing import Chooser, choice_nll
from ppg_jax.metrics.clusters import normalized
from ppg_jax.models import adapters, config_json, double_heads, pretrained
from ppg_jax.models.gpt2 import GPT2, GPT2Config
from ppg_jax.models.quantize import table_of
from ppg_jax.stages import transfertransfo as stage
from ppg_jax.systems.system import Asking
from ppg_jax.systems.transfertransfo import TransferTransfo
from ppg_jax.training.train_state import OptimizerConfig, TrainState, params_sha256
from tests import models_for_tests as small
from tests import run_for_tests as runs
from tests.stages.interrupted import compiled_once, stopped_before

PROMPTS = PromptConfig(max_length=128, max_persona_tokens=40)
V = 300


def spoken(max_history: int = 2, **limits) -> Spoken:
    return Spoken(small.prompts(**limits), V, max_history)


def parts(numbers) -> list[tuple[str, str]]:
    """(text or name of each token, who says it) of a prompt, like ones together."""
    tokenizer, told = small.tokenizer(), []
    for number in numbers:
        token, speaker = number % (V + 2), ["ME", "YOU"][number // (V + 2)]
        if token >= V or token == tokenizer.eos_token_id:
            told.append([{V: "me", V + 1: "you"}.get(token, "end"), speaker])
            told.append(["", speaker])
        else:
            told[-1][0] += tokenizer.decode([token])
            assert told[-1][1] == speaker
    return [(text.strip(), who) for text, who in told if text]


def test_what_is_read_and_who_says_it():
    """As in the picture of `data.speakers`; of the last 2 n + 1 utterances."""
    *_, last = small.DIALOGUES[0].instances()
    mine = "i have two dogs. i sing."
    persona = [("end", "ME"), (mine, "ME")]
    turns = [
        (("you", "me")[n % 2], ("YOU", "ME")[n % 2], text)
        for n, text in enumerate(last.context)
    ]
    said = [[(cue, who), (text, who)] for cue, who, text in turns]
    for number in (0, 1, 2):
        context = [part for turn in said[-(2 * number + 1) :] for part in turn]
        prompt = spoken(number).prompt(last)
        assert parts(prompt) == persona + context + [("me", "ME")]
    assert last.partner_persona[0] not in str(parts(prompt))
    first = dataclasses.replace(last, context=(), self_persona=())
    assert parts(spoken().prompt(first)) == [("end", "ME"), ("me", "ME")]


def test_the_oldest_turns_go_where_there_is_no_room_and_the_newest_keeps_its_end():
    *_, last = small.DIALOGUES[0].instances()
    whole = spoken().prompt(last)
    for length in range(60, 140):
        made = spoken(max_length=length).prompt(last)
        assert len(made) <= length - 32
        assert made[-3:] == whole[-3:]
    shortest = len(spoken().prompt(dataclasses.replace(last, context=())))
    room = dict(max_length=shortest + 32 + 5)
    cut = spoken(**room).prompt(last)
    assert len(cut) == shortest + 5 and cut[-5:] == whole[-5:]
    with pytest.raises(UserError, match=r"max_length is 20; raise it or shorten"):
        spoken(max_length=20).prompt(last)


def test_distractors_are_never_the_gold_response_and_never_twice_the_same():
    dialogues = runs.dialogues("train", 6)
    gold = {i.id: i.response for i in instances(dialogues)}
    for number in (1, 3, 5):
        found = distractors(dialogues, number, 0)
        assert found.keys() == gold.keys()
        for name, others in found.items():
            texts = {normalized(text) for text in others}
            assert len(others) == len(texts) == number
            assert normalized(gold[name]) not in texts
            own = name.rpartition(":")[0]
            assert not {gold[n] for n in gold if n.startswith(f"{own}:")} & {*others}
    assert distractors(dialogues, 3, 0) == distractors(dialogues, 3, 0)
    assert distractors(dialogues, 3, 0) != distractors(dialogues, 3, 1)
    with pytest.raises(UserError, match=r"responses that it can be told from, 99 are"):
        distractors(dialogues, 99, 0)


def test_no_distractor_is_of_the_same_conversation_whatever_its_sides_are_called():
    one, other, *_ = runs.dialogues("train", 6)
    one = dataclasses.replace(one, utterances=(*"abcd",))
    sides = one, dataclasses.replace(one.swapped(), id="the other side")
    for seed in range(20):
        found = distractors((*sides, other), 1, seed)
        of_sides = [i.id for side in sides for i in side.instances()]
        drawn = {said for i in of_sides for said in found[i]}
        assert drawn <= {*other.utterances}


def test_distractors_are_the_last_candidates_of_the_file():
    one, *others = runs.dialogues("train", 4)
    said = [i.response for i in one.instances()]
    listed = ("a", "b", said[0].upper(), "c"), ("d", "d", said[1], "e")
    file = dataclasses.replace(one, candidates=listed)
    found = distractors((file, *others), 2, 0)
    assert found["train:0:0"] == ("c", "b") and found["train:0:1"] == ("e", "d")
    filled = distractors((file, *others), 3, 0)["train:0:1"]
    assert filled[:2] == ("e", "d")
    assert filled[2] in [i.response for i in instances(others)]


@pytest.fixture
def heads(decoder):
    """(model, params) of each family, whose heads and speakers matter."""
    model, params = double_heads.with_heads(*decoder(V, n_layer=1), 0)
    draw = np.random.default_rng(5).normal
    for name in ("score", "speakers"):
        params[name] = jax.tree.map(
            lambda p: jnp.float32(draw(size=p.shape)), params[name]
        )
    return model, params


OTHERS = ("so am i", "no , i paint .")


@functools.cache
def states(model):
    """(parameters of a decoder, embeddings [1, 160, D]) -> its hidden states."""
    language = config_json.module_of(model.config)
    apply = functools.partial(language.apply, method="hidden_states")
    return jax.jit(lambda params, said: apply({"params": params}, said))


def by_hand(model, params, instance):
    """(NLL of the gold response, its tokens, scores of `OTHERS` and of it): each alone,
    by the embeddings that their tokens and speakers have."""
    plain, heads = double_heads.split(params)
    rows = np.asarray(heads["speakers"]["embedding"])
    known = np.asarray(plain[table_of(plain)]["embedding"])
    table = np.concatenate([known, rows])
    prompt, scores = spoken().prompt(instance), []
    for text in (*OTHERS, instance.response):
        reply = small.prompts().response_target(text)
        numbers = np.array(prompt + reply)
        said = table[numbers % (V + 2)] + rows[numbers // (V + 2)]
        # What follows is seen by none of them.
        padded = np.pad(said, [(0, 160 - len(said)), (0, 0)])
        hidden = np.asarray(states(model)(plain, padded[None]))[0, : len(said)]
        scores.append((hidden[-1] @ heads["score"]["kernel"]).item())
    logits = hidden[len(prompt) - 1 : -1] @ known.T
    likely = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    nll = -sum(likely[n, token] for n, token in enumerate(reply))
    return nll, len(reply), np.array(scores)


def copied(tree):
    """For a step, which donates it."""
    return jax.tree.map(jnp.array, tree)


def test_the_loss_and_hits_at_1_are_those_by_hand_of_each_candidate_alone(heads):
    """lm_coef times nats per token, mc_coef times the cross entropy: means over all."""
    model, params = heads
    chosen = instances(small.DIALOGUES)
    hand = [by_hand(model, params, instance) for instance in chosen]
    nll, tokens, scores = zip(*hand, strict=True)
    nats = [np.log(np.exp(s - s[-1]).sum()) for s in scores]
    right = [s.argmax() == len(OTHERS) for s in scores]
    examples = [spoken().example(instance, OTHERS) for instance in chosen]
    lm, mc = sum(nll) / sum(tokens), np.mean(nats)
    asked = config("", lm_coef=2.0, mc_coef=0.5, candidates=3, micro_batches=2)
    tx = stage.make_optimizer(OptimizerConfig(learning_rate=1e-9), 1)
    step = stage.make_train_step(asked, model, tx)
    batch = collate(examples, len(chosen) + 1)  # a row of padding
    _, told = step(TrainState.create(copied(params), tx), batch, {})
    for name, value in {"lm_loss": lm, "mc_loss": mc, "loss": 2 * lm + mc / 2}.items():
        np.testing.assert_allclose(told[name], value, rtol=1e-4)
    np.testing.assert_allclose(told["accuracy"], np.mean(right))
    chooser = Chooser(model, 3, 4)
    np.testing.assert_allclose(chooser(params, examples), (lm, np.mean(right)), 1e-4)
    worst = [s.argmin() == len(OTHERS) for s in scores]
    turned = params | {"score": jax.tree.map(jnp.negative, params["score"])}
    assert chooser(turned, examples).hits == np.mean(worst)
    assert 0 < np.mean(right) + np.mean(worst) < 2


@pytest.mark.parametrize("width", [1, 3])
def test_a_choice_among_equals_is_wrong(width):
    """A head that says nothing hits nothing, though all candidates have its best."""
    found = []
    for scores in (np.zeros((2, width + 1)), np.array([[0.0] * width + [1.0]])):
        chooser = Chooser(None, width + 1, 4)
        chooser._read = lambda _, batch, s=scores: (np.zeros(batch.targets.shape), s)
        example = spoken().example(instances(small.DIALOGUES)[0])
        found.append(chooser({}, [example] * len(scores)).hits)
    assert found == [0, 1]
    nats = choice_nll(jnp.zeros((2, width + 1)))
    np.testing.assert_allclose(nats, np.log(width + 1), rtol=1e-6)


def test_the_parameters_are_those_of_the_decoder_and_two_speakers_and_a_head():
    """GPT-2 small, as the published code starts from: 124,439,808; each token 768."""
    model = double_heads.DoubleHeads(GPT2Config())
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    size, layers, width = 50257, 12, 768
    block = 12 * width**2 + 13 * width
    gpt2 = (size + 1024 + 2) * width + layers * block
    assert gpt2 == 124_439_808
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert count == gpt2 + 2 * width + width
    decoder, heads = double_heads.split(shapes)
    assert decoder.keys() == {
        *jax.eval_shape(GPT2(GPT2Config()).init, jax.random.key(0), tokens)["params"]
    }
    assert heads["speakers"]["embedding"].shape == (2, width)
    assert heads["score"]["kernel"].shape == (width, 1)


# ---- The stage and its row ----


@pytest.fixture(scope="module", autouse=True)
def same_programs():
    with compiled_once(stage, "make_optimizer", "make_train_step", "Chooser"):
        yield


def config(source: str, **changes) -> stage.Config:
    defaults = stage.Config(
        name="double",
        data=DataConfig(source=source),
        prompts=PROMPTS,
        tokenizer="bpe:300",
        model=GPT2Config(
            n_positions=128, n_embd=32, n_layer=1, n_head=2, embd_pdrop=0, attn_pdrop=0
        ),
        dropout=False,
        batch_size=6,
        widths=1,
        epochs=60.0,
        optimizer=OptimizerConfig(learning_rate=1e-2, clip_norm=1.0),
        candidates=3,
        evaluate_candidates=3,
        evaluate_every=30,
        checkpoint_every=0,
    )
    return dataclasses.replace(defaults, **changes)


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    """(run directory, result) of the two dialogues, learned by heart."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, stage.run(config(source), workdir)


ROW = TransferTransfo("T", "double")
ASKED = instances(small.DIALOGUES)


@pytest.fixture(scope="module")
def answers(finished):
    return ROW.load(Asking(finished[0], (), PROMPTS))


def test_training_beats_no_training_and_finds_the_gold_response(finished, answers):
    workdir, result = finished
    log = [m for m in read_metrics(workdir / "double" / "metrics.jsonl")]
    first, *_, last = [m for m in log if "valid_ppl" in m]
    assert first["step"] == 0 and result["valid_ppl"] < 1.2 < 100 < first["valid_ppl"]
    assert result["valid_hits_at_1"] == last["valid_hits_at_1"] == 1
    assert first["valid_hits_at_1"] < 1
    said = [answer.text for answer in answers.respond(ASKED)]
    assert said == [small.prompts().text(t) for t in map(target, ASKED)]


def target(instance):
    return small.prompts().response_target(instance.response)[:-1]


def test_a_stopped_run_ends_with_the_same_weights(finished, source, tmp_path):
    with stopped_before(batch=21):
        stage.run(config(source), tmp_path)
    assert not (tmp_path / "double" / "result.json").exists()
    result = stage.run(config(source), tmp_path)
    assert result["params_sha256"] == finished[1]["params_sha256"]
    assert stage.run(config(source), tmp_path) == result  # done: it is not repeated


def test_the_model_comes_back_and_its_decoder_alone_too(finished, tmp_path):
    folder = finished[0] / "double" / "model"
    model, params, tokenizer = double_heads.load(folder)
    assert params_sha256(params) == finished[1]["params_sha256"]
    again = double_heads.export(model, params, tokenizer, tmp_path / "again")
    assert params_sha256(double_heads.load(again)[1]) == params_sha256(params)
    plain = pretrained.load(folder)[1]
    assert params_sha256(plain) == params_sha256(double_heads.split(params)[0])
    file = again / "heads.safetensors"
    assert file.stat().st_mode == (again / "config.json").stat().st_mode
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(UserError, match=r"heads\.safetensors: is damaged"):
        double_heads.load(again)
    file.unlink()
    with pytest.raises(UserError, match=r"heads\.safetensors"):
        double_heads.load(again)


def test_a_row_answers_alone_as_among_others_and_by_its_seed(finished, answers):
    together, scores = answers.respond(ASKED), answers.score(ASKED)
    assert answers.respond(ASKED[::-1])[::-1] == together
    assert answers.respond(ASKED[2:3]) == together[2:3]
    np.testing.assert_allclose(answers.score(ASKED[::-1])[::-1], scores, rtol=1e-4)
    np.testing.assert_allclose(answers.score(ASKED[2:3]), scores[2:3], rtol=1e-4)
    sampled = [
        ROW.load(Asking(finished[0], (), PROMPTS, temperature=1.5, seed=s)).respond(
            ASKED
        )
        for s in (3, 3, 4)
    ]
    assert sampled[0] == sampled[1] != sampled[2]
    assert {answer.told for answer in together} == {None}
    strange = [dataclasses.replace(i, partner_persona=("x",)) for i in ASKED]
    assert answers.score(strange) == scores


def test_a_score_of_the_row_is_the_sum_by_hand(finished, answers):
    model, params, _ = double_heads.load(finished[0] / "double" / "model")
    for instance, score in zip(ASKED[:2], answers.score(ASKED[:2]), strict=True):
        nll, tokens, _ = by_hand(model, params, instance)
        assert score.tokens == tokens
        np.testing.assert_allclose(score.nll, nll, rtol=1e-3)


def test_adapters_and_the_heads_are_trained_alone(source, tmp_path):
    """On a Llama, whose table stays as it is; the row loads them on their base."""
    tokenizer = small.tokenizer()
    model, params = small.llama(len(tokenizer), n_positions=128, n_layer=1)
    base = pretrained.export(model, params, tokenizer, tmp_path / "base" / "model")
    write_json(tmp_path / "base" / "result.json", runs.FINISHED)
    asked = config(
        source,
        tokenizer=str(base),
        init_stage="base",
        adapter_rank=2,
        epochs=8.0,
        evaluate_every=8,
        keep="last",
    )
    result = stage.run(asked, tmp_path)
    found, tree, _ = double_heads.load(tmp_path / "double" / "model")
    learned, frozen = double_heads.trained(tree)
    assert result["trained_parameters"] == sum(p.size for p in jax.tree.leaves(learned))
    assert params_sha256(learned) == result["params_sha256"]
    assert {"score", "speakers"} < learned.keys()
    assert small.distance(frozen, params) == 0
    _, begun = double_heads.with_heads(model, params, 0)
    moved = {n: small.distance(tree[n], begun[n]) for n in ("score", "speakers")}
    assert min(moved.values()) > 0
    answers = ROW.load(Asking(tmp_path, (), PROMPTS))
    merged = adapters.merge(tree)
    for instance, score in zip(ASKED[:2], answers.score(ASKED[:2]), strict=True):
        nll, tokens, _ = by_hand(found, merged, instance)
        assert score.tokens == tokens
        np.testing.assert_allclose(score.nll, nll, rtol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"candidates": 1},
        {"evaluate_candidates": 0},
        {"mc_coef": -1.0},
        {"max_history": -1},
        {"micro_batches": 4},
        {"keep": "first"},
        {"tokenizer": ""},
        {"adapter_rank": 2},
    ],
)
def test_a_wrong_config_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config("", **wrong)


def test_a_stage_that_has_not_finished_is_told_with_the_command(tmp_path):
    with pytest.raises(UserError, match=r"python -m launch\.train --stage=double"):
        ROW.load(Asking(tmp_path, (), PROMPTS))
