"""Pairs leak no label, a score depends on its pair alone, a resumed run is the same."""

import copy
import dataclasses
import functools
import itertools
import os
import signal
import weakref
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.data import personachat, tokenization
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue, profile_text, write_jsonl
from ppg_jax.data.pairs import (
    COUPLE,
    KINDS,
    LIMITS,
    RELATED,
    UNRELATED,
    PairBatches,
    PairEncoder,
    pairs,
)
from ppg_jax.errors import UserError
from ppg_jax.inference import judging
from ppg_jax.inference.critic import Critic
from ppg_jax.models import pretrained
from ppg_jax.models.distilbert import DistilBert, DistilBertConfig
from ppg_jax.stages import critic
from ppg_jax.training.train_state import OptimizerConfig

TINY = DistilBertConfig(
    max_position_embeddings=48,
    dim=32,
    n_layers=1,
    n_heads=2,
    hidden_dim=64,
    attention_dropout=0.0,
    seq_classif_dropout=0.0,
)
TEXTS = [
    ("i have two dogs. i sing.", "my dogs sang , too !"),
    ("", "hello"),
    ("i am a nurse." * 5, "Café au lait, naïve 東京 don't  x" * 2),
    ("i love tea.", "[SEP] <b> #tea ☕"),
]


def many_dialogues(number: int):
    """Conversations of one to three responses; each third has the same self profile."""
    return [
        Dialogue(
            id=f"d{n}",
            self_persona=("i sing",) if n % 3 == 0 else (f"i am number {n}", "so"),
            partner_persona=(f"i count to {n}.",),
            utterances=tuple(f"{n} says {i}" for i in range(2 * (1 + n % 3))),
        )
        for n in range(number)
    ]


def profile_of(dialogue: Dialogue, kind: str) -> str:
    own = kind == "self"
    return profile_text(dialogue.self_persona if own else dialogue.partner_persona)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [30, 31])  # 60 and 61 instances
def test_each_response_meets_its_own_profile_once_and_a_strangers_once(kind, number):
    dialogues = many_dialogues(number)
    of = {i.id: d for d in dialogues for i in d.instances()}
    assert len(of) % 2 == number % 2
    made = pairs(dialogues, kind, seed=1)
    for label in (RELATED, UNRELATED):
        ids = [p.instance_id for p in made if p.label == label]
        assert sorted(ids) == sorted(of)
    for pair in made:
        own = of[pair.instance_id]
        assert pair.response in own.utterances[1::2]
        assert (pair.profile_text == profile_of(own, kind)) == (pair.label == RELATED)


@pytest.mark.parametrize("persona", critic.PERSONAS)
def test_neither_response_nor_profile_alone_tells_the_label(persona):
    made = pairs(many_dialogues(30), persona, seed=2)
    for field in ("response", "profile_text", "instance_id"):
        related, unrelated = (
            Counter(getattr(p, field) for p in made if p.label == label)
            for label in (RELATED, UNRELATED)
        )
        assert related == unrelated


def test_both_is_the_union_of_self_and_partner():
    dialogues = many_dialogues(7)
    parts = [pairs(dialogues, kind, seed=3) for kind in KINDS]
    made = pairs(dialogues, "both", seed=3)
    assert Counter(made) == Counter(parts[0] + parts[1])
    # An odd number leaves two pairs of each kind over; all others come in couples.
    assert [len(part) % COUPLE for part in parts] == [2, 2]
    for at in range(0, len(made) - COUPLE, COUPLE):
        couple = made[at : at + COUPLE]
        for texts in zip(*[(p.profile_text, p.response) for p in couple], strict=True):
            assert set(Counter(texts).values()) == {2}


def test_pairs_are_a_function_of_the_seed():
    dialogues = many_dialogues(30)
    once, again, other = (pairs(dialogues, "self", seed) for seed in (4, 4, 5))
    assert once == again != other
    assert {p.instance_id for p in once} == {p.instance_id for p in other}


def test_max_instances_draws_that_many_and_stays_balanced():
    drawn = pairs(many_dialogues(30), "self", seed=0, max_instances=21)
    assert len({p.instance_id for p in drawn}) == 21
    assert Counter(p.label for p in drawn) == {RELATED: 21, UNRELATED: 21}
    earliest = {f"d{n}:0" for n in range(21)}
    assert {p.instance_id for p in drawn} != earliest


def test_the_two_sides_of_a_conversation_are_no_strangers():
    one_side = many_dialogues(9)
    dialogues = [side for d in one_side for side in (d, d.swapped())]
    conversation = {profile_of(d, "partner"): d.utterances for d in dialogues}
    of = {i.id: d for d in dialogues for i in d.instances()}
    for seed in range(5):
        for pair in pairs(dialogues, "partner", seed):
            # "i sing." is the profile of several conversations.
            if pair.label == UNRELATED and pair.profile_text != "i sing.":
                own = of[pair.instance_id].utterances
                assert conversation[pair.profile_text] != own


def likes(*profiles: str):
    return [
        Dialogue(f"d{n}", (profile,), (), ("hi", f"response {n}"))
        for n, profile in enumerate(profiles)
    ]


def test_a_matching_is_found_where_half_of_all_have_one_profile():
    for seed in range(20):
        made = pairs(likes(*"aaaabbcd"), "self", seed)
        own = {p.instance_id: p.profile_text for p in made if p.label == RELATED}
        for pair in made:
            assert (pair.profile_text == own[pair.instance_id]) == pair.label
            either = {pair.profile_text, own[pair.instance_id]}
            assert pair.label or "a." in either


def subsets(number: int):
    """Five base personas of four sentences, each without one of them, in any order."""
    rng = np.random.default_rng(0)
    for n in range(number):
        kept = rng.permutation(4)[:3]
        persona = tuple(f"I do {n % 5}, {i}" + "." * (n % 2) for i in kept)
        yield Dialogue(f"d{n}", persona, persona, ("hi", f"response {n}"))


def in_common(dialogues, kind: str, made) -> list[int]:
    """How many sentences each unrelated pair's profile has of the speaker's own."""
    told = [d.self_persona if kind == "self" else d.partner_persona for d in dialogues]
    sentences = {profile_text(p): {s.lower().rstrip(".") for s in p} for p in told}
    own = {p.instance_id: p.profile_text for p in made if p.label == RELATED}
    return [
        len(sentences[p.profile_text] & sentences[own[p.instance_id]])
        for p in made
        if p.label == UNRELATED
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [40, 41])
def test_a_stranger_has_no_sentence_in_common(kind, number):
    dialogues = list(subsets(number))
    for seed in range(20):
        made = pairs(dialogues, kind, seed)
        assert in_common(dialogues, kind, made) == [0] * number


def test_where_all_have_a_sentence_in_common_other_profiles_are_strangers():
    dialogues = [
        Dialogue(f"d{n}", ("so.", f"i am {n % 9}."), (), ("hi", f"response {n}"))
        for n in range(4001)
    ]
    made = pairs(dialogues, "self", seed=0)
    assert in_common(dialogues, "self", made) == [1] * 4001


@pytest.mark.parametrize("kind", KINDS)
def test_no_stranger_of_real_personachat_is_the_speaker(shared, kind):
    path = shared / "data/personachat/test_both_original_no_cands.txt"
    dialogues = personachat.read(path)
    made = pairs(dialogues, kind, seed=0)
    assert in_common(dialogues, kind, made) == [0] * 7512


@pytest.mark.parametrize("profiles", ["", "a", "aaa", "aaab"])
def test_too_few_strangers_are_refused(profiles):
    told = f"{len(profiles)} instances.*more dialogues"
    with pytest.raises(UserError, match=told):
        pairs(likes(*profiles), "self", seed=0)


def test_too_few_drawn_instances_are_refused_with_the_fields_that_draw_them():
    (one_conversation,) = many_dialogues(3)[2:]
    told = "2 instances.*raise .*max_instances, validation_instances, evaluate_instan"
    with pytest.raises(UserError, match=told):
        pairs([one_conversation], "self", seed=0, max_instances=2)
    for field in LIMITS:
        for number in (1, -1):
            with pytest.raises(ValueError, match=f"{field}={number} must be 2 or more"):
                critic.Config(**{field: number})


@pytest.mark.parametrize("epochs", [0.0, -1.0])
def test_a_training_of_no_epochs_is_refused(epochs):
    with pytest.raises(ValueError, match=f"epochs={epochs} must be more than 0"):
        critic.Config(epochs=epochs)


def test_a_dialogue_without_the_profile_makes_no_pair():
    with_personas = many_dialogues(8)
    without = Dialogue("plain", (), (), ("hi", "hello"))
    expected = pairs(with_personas, "self", seed=0)
    assert pairs([*with_personas, without], "self", seed=0) == expected


@functools.cache
def trained_tokenizer():
    texts = [t for pair in TEXTS for t in pair]
    return tokenization.train_wordpiece(texts, 200)


def encode_with_transformers(tokenizer, profile, response, **options):
    return tokenizer(profile, response, **options)["input_ids"]


def real_tokenizer(shared):
    return tokenization.load_tokenizer(shared / "tokenizers" / "bert-base-uncased")


@pytest.mark.parametrize("kind", ["trained", "bert-base-uncased"])
def test_a_pair_has_the_tokens_that_transformers_gives_it(kind, request):
    if kind == "trained":
        tokenizer = trained_tokenizer()
    else:
        tokenizer = real_tokenizer(request.getfixturevalue("shared"))
    rows = PairEncoder(tokenizer, 512)(*zip(*TEXTS, strict=True))
    as_text = {"split_special_tokens": True}  # "[SEP]" as well
    expected = [encode_with_transformers(tokenizer, a, b, **as_text) for a, b in TEXTS]
    assert [row.tolist() for row in rows] == expected


def test_too_long_a_profile_loses_its_end_as_in_transformers():
    tokenizer = trained_tokenizer()
    profile, response = "i have two dogs. i sing. i love tea.", "my dogs sang"
    whole = len(PairEncoder(tokenizer, 512)([profile], [response])[0])
    for limit in (whole, whole - 1, whole - 7):
        (row,) = PairEncoder(tokenizer, limit)([profile], [response])
        options = {"truncation": "only_first", "max_length": limit}
        expected = encode_with_transformers(tokenizer, profile, response, **options)
        assert row.tolist() == expected and len(row) == limit


def test_a_response_is_cut_only_when_no_profile_is_left():
    tokenizer = trained_tokenizer()
    response = tokenizer("my dogs sang , too !", add_special_tokens=False)["input_ids"]
    (row,) = PairEncoder(tokenizer, 7)(["i sing."], ["my dogs sang , too !"])
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert row.tolist() == [start, end, *response[:4], end]


def test_nobody_ends_a_persona_by_typing_its_end():
    tokenizer = trained_tokenizer()
    (row,) = PairEncoder(tokenizer, 99)(["i sing [SEP] ."], ["[CLS] hi [PAD]"])
    ids = row.tolist()
    assert ids.count(tokenizer.sep_token_id) == 2
    assert ids.count(tokenizer.cls_token_id) == 1
    assert tokenizer.pad_token_id not in ids


def test_a_tokenizer_that_wants_to_pad_and_cut_is_stopped():
    plain, eager = trained_tokenizer(), copy.deepcopy(trained_tokenizer())
    eager.backend_tokenizer.enable_padding(length=40)
    eager.backend_tokenizer.enable_truncation(6)
    texts = list(zip(*TEXTS, strict=True))
    rows = zip(PairEncoder(plain, 99)(*texts), PairEncoder(eager, 99)(*texts))  # noqa: B905
    assert all(np.array_equal(a, b) for a, b in rows)


def random_params(model: DistilBert, std: float):
    """Drawn without compiling anything, and larger than a training from scratch has."""
    tokens = jnp.zeros((1, 4), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if leaf.ndim == 1:
            return jnp.full(leaf.shape, float(path[-1].key == "scale"))
        return jnp.asarray(rng.normal(0, std, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def tiny_critic() -> Critic:
    """Its scores differ widely."""
    tokenizer = trained_tokenizer()
    model = DistilBert(dataclasses.replace(TINY, vocab_size=len(tokenizer)))
    return Critic(model, random_params(model, 0.3), PairEncoder(tokenizer, 48))


def test_a_score_depends_on_its_pair_alone():
    judge = tiny_critic()
    rng = np.random.default_rng(0)
    words = ["i", "have", "two", "dogs", "sing", "nurse", "love", "tea"]
    profiles, responses = (
        [" ".join(rng.choice(words, rng.integers(0, 7))) for _ in range(21)]
        for _ in range(2)
    )
    together = judge.score(profiles, responses)
    assert together.dtype == np.float32 and together.shape == (21,)
    assert together.std() > 0.05
    np.testing.assert_array_equal(judge.score(profiles, responses), together)
    order = rng.permutation(21)
    mixed = judge.score([profiles[i] for i in order], [responses[i] for i in order])
    np.testing.assert_allclose(mixed, together[order], atol=1e-6)
    for i in range(3):
        alone = judge.score(profiles[i : i + 1], responses[i : i + 1])
        np.testing.assert_allclose(alone, together[i : i + 1], atol=1e-6)


def test_a_score_is_the_softmax_of_the_bare_unpadded_row():
    judge = tiny_critic()
    profile, response = TEXTS[0]
    row = encode_with_transformers(trained_tokenizer(), profile, response)
    logits = jax.jit(judge.model.apply)({"params": judge.params}, jnp.array([row]))
    expected = jax.nn.softmax(logits)[0, RELATED]
    np.testing.assert_allclose(
        judge.score([profile], [response])[0], expected, atol=1e-6
    )


def test_scoring_any_number_of_pairs_takes_few_shapes(monkeypatch):
    shapes = set()

    def record(model, params, batch):
        shapes.add(batch.tokens.shape)
        return np.zeros(len(batch.tokens))

    monkeypatch.setattr("ppg_jax.inference.critic._probability", record)
    judge = tiny_critic()
    for number, words in itertools.product(
        (0, 1, 12, 20, 63, 64, 65, 150), range(0, 60, 3)
    ):
        assert judge.score(["dogs " * words] * number, ["i"] * number).shape == (
            number,
        )
    # Of 1 and 65, of 12, of 20 and 150, of 63 and more.
    assert shapes == set(itertools.product((4, 12, 20, 24, 64), (16, 32, 48)))


@pytest.mark.parametrize(
    ("number", "kept"), [(1, [0]), (2, [0, 3]), (3, [0, 2, 4]), (4, [0, 1, 3, 4])]
)
def test_kept_layers_are_evenly_spaced_from_the_first_on(number, kept):
    sizes = DistilBertConfig(
        vocab_size=11, dim=4, n_layers=6, n_heads=1, hidden_dim=4, num_labels=2
    )
    model, tokens = DistilBert(sizes), np.arange(5)[None]
    params = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    smaller, its_params = critic.keep_layers(model, params, number)
    logits = jax.eval_shape(smaller.apply, {"params": its_params}, tokens)
    assert logits.shape == (1, 2)
    assert len(its_params["transformer"]) == smaller.config.n_layers == number
    for i, layer in enumerate(kept):
        assert (
            its_params["transformer"][f"layer_{i}"]
            is (params["transformer"][f"layer_{layer}"])
        )


def test_more_layers_than_there_are_is_refused():
    model = DistilBert(DistilBertConfig(n_layers=6))
    with pytest.raises(UserError, match=r"init_layers=7 .* between 1 and 6"):
        critic.keep_layers(model, {}, 7)


def test_the_loss_is_binary_cross_entropy_and_rows_of_padding_do_not_count():
    judge = tiny_critic()
    made = pairs(likes(*"abc"), "self", seed=0)
    batch = PairBatches(judge._encoder, made, size=8, seed=0)(0)
    assert (batch.lengths == 0).sum() == 2
    profiles, responses, labels, _ = zip(*made, strict=True)
    p, y = judge.score(profiles, responses), np.array(labels)
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    nll, accuracy = jax.jit(critic.pair_loss, static_argnums=0)(
        judge.model, judge.params, batch
    )
    np.testing.assert_allclose(nll, expected, rtol=1e-5)
    np.testing.assert_allclose(accuracy, ((p > 0.5) == y).mean())


def test_an_epoch_takes_every_pair_once_and_each_epoch_in_another_order():
    encoder = PairEncoder(trained_tokenizer(), 48)
    made = pairs(many_dialogues(21), "self", seed=0)
    batches = PairBatches(encoder, made, size=8, seed=0)
    rows = encoder([p.profile_text for p in made], [p.response for p in made])
    expected = Counter((*r, p.label) for r, p in zip(rows, made, strict=True))
    orders = []
    for epoch in range(2):
        steps = range(batches.steps_per_epoch)
        seen = [batches(epoch * batches.steps_per_epoch + step) for step in steps]
        orders.append([tuple(b.tokens.ravel()) for b in seen])
        taken = Counter(
            (*tokens[:length], label)
            for b in seen
            for tokens, length, label in zip(b.tokens, b.lengths, b.labels, strict=True)
            if length
        )
        assert taken == expected
    assert orders[0] != orders[1]


def test_the_four_pairs_of_a_couple_come_in_one_batch():
    """So each profile and each response of a batch has as many 1 as 0."""
    encoder = PairEncoder(trained_tokenizer(), 48)
    made = pairs(many_dialogues(21), "self", seed=0)
    batches = PairBatches(encoder, made, size=8, seed=0)
    for step in range(batches.steps_per_epoch):
        batch = batches(step)
        balance = Counter()
        for tokens, length, label in zip(
            batch.tokens, batch.lengths, batch.labels, strict=True
        ):
            if length:
                cut = list(tokens).index(encoder._end)
                for part in (tokens[1:cut], tokens[cut:length]):
                    balance[tuple(part)] += 1 if label else -1
        assert not any(balance.values())


def test_batches_hold_whole_couples():
    with pytest.raises(ValueError, match="batch_size=30 is not a multiple of 4"):
        critic.Config(batch_size=30)


@pytest.mark.parametrize(
    "fields", [{"init": "", "tokenizer": ""}, {"init": "x", "tokenizer": "y"}]
)
def test_a_critic_has_either_pretrained_weights_or_a_tokenizer_of_its_own(fields):
    with pytest.raises(ValueError, match="one of the three"):
        critic.Config(**fields)


# Who says "woof" has dogs: plain to a reader, but no word is in common.
SOUNDS = {"dogs": "woof", "cats": "meow"}


def woof_dialogues(split: str, number: int):
    """Half of the speakers have dogs, half cats, and the partner the other kind."""
    for n in range(number):
        own, other = list(SOUNDS)[:: 1 if n % 2 else -1]
        context = f"hi {split} {n}"
        yield Dialogue(f"{split}{n}", (own,), (other,), (context, SOUNDS[own]))


def woof_model(folder):
    """A tiny start whose weights are large enough to learn from within seconds."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    folder.mkdir()
    vocabulary = "\n".join([*special, ".", *SOUNDS, *SOUNDS.values()])
    (folder / "vocab.txt").write_text(vocabulary)
    tokenizer = tokenization.load_tokenizer(folder)
    (folder / "vocab.txt").unlink()
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "dim": 64}
    model = DistilBert(dataclasses.replace(TINY, **sizes, hidden_dim=128, dropout=0.02))
    params = random_params(model, 0.12)
    pretrained.export(model, params, tokenizer, folder)


@pytest.fixture(scope="module", autouse=True)
def same_train_step():
    """Runs of one config share the jitted step: to compile is most of their time."""
    make_train_step, made = critic.make_train_step, {}

    def remembered(model, tx, seed, dropout):
        key = (model, seed, dropout)
        if key not in made:
            made[key] = make_train_step(model, tx, seed, dropout)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critic, "make_train_step", remembered)
        yield


@pytest.fixture(scope="module")
def woof(tmp_path_factory):
    """(config, run directory, result) of a tiny critic of an easy relation."""
    folder = tmp_path_factory.mktemp("woof")
    for split, number in {"train": 60, "valid": 20, "test": 22}.items():
        write_jsonl(woof_dialogues(split, number), folder / f"{split}.jsonl")
    woof_model(folder / "start")
    config = critic.Config(
        data=DataConfig(source=str(folder)),
        init=str(folder / "start"),
        max_length=16,
        batch_size=24,
        epochs=18.0,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        checkpoint_every=40,
        evaluate_every=45,
        log_every=20,
    )
    return config, folder / "run", critic.run(config, folder / "run")


def test_a_critic_learns_what_words_in_common_do_not_tell(woof):
    _, _, result = woof
    for split, number in {"valid": 20, "test": 22}.items():
        judges = result["accuracy"][split]["self"]
        assert {j["pairs"] for j in judges.values()} == {2 * number}
        assert judges["critic"]["accuracy"] == result[f"{split}_accuracy"] > 0.9
        assert judges["critic"]["right"] == result[f"{split}_accuracy"] * 2 * number
        assert judges["critic"]["low"] < judges["critic"]["accuracy"]
        for control in ("overlap", "lexical", "random"):
            assert abs(judges[control]["accuracy"] - 0.5) < 0.2


def test_the_critic_is_tested_against_each_control_by_base_personas(woof):
    """There are two, dogs and cats: nothing can be told apart by so few."""
    for judges in woof[2]["accuracy"]["test"].values():
        assert {judge["groups"] for judge in judges.values()} == {2}
        assert "critic_p" not in judges["critic"]
        controls = [judge for name, judge in judges.items() if name != "critic"]
        assert all(0.4 < judge["critic_p"] <= 1 for judge in controls)


def test_a_pair_is_resampled_with_the_persona_of_its_response():
    dialogues = list(subsets(40))
    made = pairs(dialogues, "self", seed=0)
    whose = judging.units(made, dialogues, "self")
    number = {d.id: n % 5 for n, d in enumerate(dialogues)}
    assert len(set(whose)) == 5
    owners = [number[pair.instance_id[:-2]] for pair in made]
    assert len(set(zip(whose, owners, strict=True))) == 5


def test_a_critic_of_self_is_also_asked_about_the_partner(woof):
    # The partner has the other animal, so what was learned is always wrong there.
    for judges in (split["partner"] for split in woof[2]["accuracy"].values()):
        assert judges["critic"]["accuracy"] < 0.1


def test_a_loaded_critic_is_the_one_that_was_trained(woof):
    config, workdir, result = woof
    judge = Critic.load(workdir / "critic" / "model")
    assert critic.params_sha256(judge.params) == result["params_sha256"]
    asked = pairs(list(woof_dialogues("test", 22)), "self", config.seed)
    profiles, responses, labels, _ = zip(*asked, strict=True)
    right = (judge.score(profiles, responses) > 0.5) == np.array(labels)
    assert right.mean() == result["test_accuracy"]
    # It cuts where it was cut in training.
    (row,) = judge._encoder(["dogs " * 30], ["woof"])
    assert len(row) == config.max_length


def test_a_resumed_run_repeats_the_uninterrupted_one(woof, tmp_path, monkeypatch):
    config, _, uninterrupted = woof
    make_train_step = critic.make_train_step

    def interrupting(*arguments):
        train_step = make_train_step(*arguments)

        def step(state, *given):
            if state.step == 57:
                os.kill(os.getpid(), signal.SIGTERM)
            return train_step(state, *given)

        return step

    monkeypatch.setattr(critic, "make_train_step", interrupting)
    with pytest.raises(SystemExit) as stopped:
        critic.run(config, tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert not (tmp_path / "critic" / "result.json").exists()
    monkeypatch.undo()
    initial, next_batch, first, kept = critic.initial, PairBatches.__call__, [], []

    def begin(*arguments):
        model, params, tokenizer = initial(*arguments)
        first.extend(map(weakref.ref, jax.tree.leaves(params)))
        return model, params, tokenizer

    def watch(self, step):
        kept.append(sum(leaf() is not None for leaf in first))
        return next_batch(self, step)

    monkeypatch.setattr(critic, "initial", begin)
    monkeypatch.setattr(PairBatches, "__call__", watch)
    resumed = critic.run(config, tmp_path)
    assert resumed["params_sha256"] == uninterrupted["params_sha256"]
    # Nor does it keep the weights it would have started from.
    assert first and kept and not any(kept)


def test_a_finished_run_is_left_alone(woof, monkeypatch):
    config, workdir, result = woof
    monkeypatch.setattr(critic, "make_train_step", None)
    assert critic.run(config, workdir) == result


def test_another_setting_is_refused_by_name(woof):
    config, workdir, _ = woof
    with pytest.raises(UserError, match="seed was 0, is 1"):
        critic.run(dataclasses.replace(config, seed=1), workdir)
    with pytest.raises(UserError, match="has finished; to change epochs, remove "):
        critic.run(dataclasses.replace(config, epochs=19.0), workdir)


def test_critics_of_both_halves_learn_of_no_dialogue_together(monkeypatch, tmp_path):
    dialogues, heard = tuple(many_dialogues(9)), {}

    def pairs_of(some, *args):
        heard.setdefault(half, [d.id for d in some])
        raise KeyboardInterrupt

    monkeypatch.setattr(critic, "pairs", pairs_of)
    for half in ("", "even", "odd"):
        splits, known = {"train": dialogues}, trained_tokenizer()
        with pytest.raises(KeyboardInterrupt):
            critic.train(critic.Config(half=half), tmp_path, splits, known, None, [])
    assert sorted(heard["even"] + heard["odd"]) == sorted(heard[""])
    assert not {*heard["even"]} & {*heard["odd"]} and len(heard["odd"]) == 4
    # Both sides of a conversation are in one half.
    both = [
        dataclasses.replace(d, id=f"{d.id}{side}") for d in dialogues for side in "ab"
    ]
    for half, some in (("even", dialogues[::2]), ("odd", dialogues[1::2])):
        sides = [f"{d.id}{side}" for d in some for side in "ab"]
        assert [d.id for d in critic.half_of(both, half)] == sides
    with pytest.raises(ValueError, match="half='third' is none of"):
        critic.Config(half="third")


def test_what_cannot_be_asked_in_the_end_is_told_before_the_first_update(
    tmp_path, capsys
):
    whole = many_dialogues(9)
    alone = [dataclasses.replace(d, partner_persona=()) for d in whole]
    splits = {"train": whole, "valid": alone, "test": whole}
    asked = judging.asked_pairs(splits, ("self",), 0, 0)
    assert (asked["valid"].keys(), asked["test"].keys()) == (
        {"self"},
        {"self", "partner"},
    )
    with pytest.raises(UserError, match="cannot be matched as strangers"):
        judging.asked_pairs(splits, ("partner",), 0, 0)
    one = [dataclasses.replace(d, partner_persona=("i am a bot.",)) for d in whole]
    asked = judging.asked_pairs({"valid": one, "test": whole}, ("self",), 0, 0)
    assert asked["valid"].keys() == {"self"}  # the other cannot be, and is not needed
    assert "partner personas of valid are not judged" in capsys.readouterr().out
    config = critic.Config(persona="partner", max_instances=0, validation_instances=0)
    splits["valid"], splits["test"], known = whole, alone, trained_tokenizer()
    with pytest.raises(UserError, match="cannot be matched as strangers"):
        critic.train(config, tmp_path / "critic", splits, known, None, [])
    assert not (tmp_path / "critic").exists()
