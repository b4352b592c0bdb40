"""Generation says what the model says, whatever batch and padding it happens in."""

import functools
import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.data.dialogue import instances
from ppg_jax.inference import sampling
from ppg_jax.inference.generation import generate, generate_branches, row_keys, splice
from ppg_jax.inference.generator import MANY, Generator, _fetch_each
from ppg_jax.inference.prefixes import branches_of, families, pad_left
from ppg_jax.inference.sampling import Decoding
from ppg_jax.models.decoder import positions_of
from ppg_jax.models.gpt2 import GPT2, GPT2Config
from tests import models_for_tests as small

END, PAD = 0, 9
GREEDY = {"temperature": 0.0}
SAMPLED = {"temperature": 1.0, "top_p": 0.9}


def count(prompts, model=None, pad_id=PAD, **options):
    """The rollout of a model that counts, after left-padded prompts."""
    prompt, mask = pad_left(prompts, max(map(len, prompts)), 0)
    decoding = Decoding(**{"max_new_tokens": 6} | options)
    keys = row_keys(0, range(len(prompts)))
    run = functools.partial(generate, model or small.Counting(), {})
    run = functools.partial(run, decoding=decoding, end_id=END, pad_id=pad_id)
    return jax.device_get(jax.jit(run)(prompt, mask, keys))


def test_a_model_that_counts_makes_generate_count():
    rollout = count([[4], [1, 2, 6], [3, 7], [1]])
    assert rollout.completion.tolist() == [
        [5, 6, 7, END, PAD, PAD],
        [7, END, PAD, PAD, PAD, PAD],
        [END, PAD, PAD, PAD, PAD, PAD],
        [2, 3, 4, 5, 6, 7],
    ]


def test_the_mask_includes_the_end_and_nothing_after_it():
    for pad_id in (PAD, END):
        rollout = count([[4], [1, 2, 6], [3, 7], [1]], pad_id=pad_id)
        assert rollout.completion_mask.tolist() == [
            [True, True, True, True, False, False],
            [True, True, False, False, False, False],
            [True, False, False, False, False, False],
            [True, True, True, True, True, True],
        ]
        assert (rollout.completion[~rollout.completion_mask] == pad_id).all()
        assert (rollout.log_probs[~rollout.completion_mask] == 0).all()


def test_sampling_from_a_model_that_is_sure_counts_as_well():
    rollout = count([[4], [6]], temperature=1.0, top_k=3, top_p=0.9)
    assert rollout.completion[:, :4].tolist() == [[5, 6, 7, END], [7, END, PAD, PAD]]


def test_decoding_stops_when_all_rows_have_ended():
    steps = []
    model = small.Counting(on_decode=lambda: steps.append(1))
    count([[4], [6]], model, max_new_tokens=50)
    jax.effects_barrier()
    # Prefill gives the 5; 6, 7 and END take one step each.
    assert len(steps) == 3


def test_a_generator_keeps_the_order_and_says_who_ended():
    counting = small.Counting()
    generator = Generator(counting, Decoding(4), END, batch_size=4, bucket=32)
    rng = np.random.default_rng(0)
    lasts = rng.integers(1, 8, 23)
    prompts = [[1] * rng.integers(0, 20) + [int(last)] for last in lasts]
    completions = generator({}, prompts)
    for last, completion in zip(lasts, completions, strict=True):
        assert completion.tokens == tuple(range(last + 1, 8))[:4]
        assert completion.ended == (last > 3)
        assert completion.log_prob == pytest.approx(0, abs=1e-5)
    assert generator({}, []) == []


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU takes one at a time")
def test_two_batches_are_at_work_at_a_time_on_a_cpu():
    met = threading.Barrier(2, timeout=60)
    at_work = []

    class Pending(int):
        def __array__(self, **_):
            at_work.append(self)
            met.wait()
            assert len(at_work) <= 2
            met.wait()
            at_work.remove(self)
            return np.array(self + 1)

    assert list(_fetch_each(Pending, range(6))) == [1, 2, 3, 4, 5, 6]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU takes one at a time")
def test_no_batch_is_begun_when_the_rest_is_not_wanted():
    begun, last = [], threading.Event()

    def dispatch(batch):
        begun.append(batch)
        if batch:
            assert last.wait(60)
        return batch

    found = _fetch_each(dispatch, range(100))
    assert next(found) == 0
    # The second is at work by then, and the third's thread waits for it.
    threading.Timer(0.5, last.set).start()
    found.close()
    assert begun in ([0], [0, 1])


def test_batches_are_computed_with_the_settings_of_the_caller():
    def rounds(x):
        return jax.config.jax_default_matmul_precision == "bfloat16" or x

    with jax.default_matmul_precision("bfloat16"):
        assert list(_fetch_each(rounds, range(3))) == [True] * 3
    assert list(_fetch_each(rounds, range(3))) == [0, 1, 2]


def test_the_number_of_compiled_shapes_is_bounded_by_the_buckets():
    counting = small.Counting()
    generator = Generator(counting, Decoding(4), END, batch_size=2, bucket=16)
    rng = np.random.default_rng(1)
    for number in (1, 2, 5, 17, 30):
        generator({}, [[1] * n for n in rng.integers(1, 48, number)])
    # Widths 16, 32 and 48 of two rows, and one for a row alone.
    assert 1 < generator.compile_count <= 4
    for token in (1, 2):
        generator({}, [[token] * n for n in range(1, 48)])
    assert generator.compile_count <= 4


def test_many_prompts_have_less_padding_than_a_bucket_and_say_the_same():
    counting = small.Counting(GPT2Config(vocab_size=8, n_positions=128))
    generator = Generator(counting, Decoding(4), END, batch_size=2, bucket=96)
    rng = np.random.default_rng(0)
    many = [rng.integers(1, 8, n).tolist() for n in range(1, 95, 3)]
    assert len(many) == MANY * 2
    few = generator({}, many[:-1])
    assert generator.compile_count == 2  # one width of two rows; a row alone
    all_of_them = generator({}, many)
    assert [c.tokens for c in all_of_them[:-1]] == [c.tokens for c in few]
    assert generator.compile_count == 4  # widths 32 and 64 beside it
    generator.bucket = 16  # finer already: it stays what it is
    generator({}, many)
    assert generator.compile_count == 7


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_row_says_the_same_alone_and_in_any_batch_with_any_padding(options, decoder):
    model, params = decoder(40, n_layer=1, n_positions=64)
    decoding = Decoding(max_new_tokens=10, **options)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(1, 40, n).tolist() for n in (3, 15, 7, 1, 12)]
    ids = [7, 0, 3, 11, 5]
    together = Generator(model, decoding, END, bucket=16)(params, prompts, 1, ids)
    generator = Generator(model, decoding, END, batch_size=1, bucket=40)
    for prompt, row, completion in zip(prompts, ids, together, strict=True):
        (alone,) = generator(params, [prompt], 1, [row])
        assert alone.tokens == completion.tokens
        assert alone.ended == completion.ended
        assert alone.log_prob == pytest.approx(completion.log_prob, abs=1e-4)
    assert len({c.tokens for c in together}) == len(prompts)


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_nested_prompts_are_read_once_and_say_the_same(options, monkeypatch, decoder):
    prompts = small.prompts()
    model, params = decoder(len(prompts.tokenizer))
    asked = [prompts.persona_prompt(i) for i in instances(small.DIALOGUES)]
    asked += [asked[0], asked[2][:-1], asked[3][:1]]
    read = []

    def branched(self, params, prompts, without, part, *rest):
        read.append([len(family.members) for family in part])
        return original(self, params, prompts, without, part, *rest)

    original = Generator._branched
    monkeypatch.setattr(Generator, "_branched", branched)
    decoding = Decoding(8, **options)
    together = Generator(model, decoding, prompts.end_id, batch_size=8)(params, asked)
    assert read and sum(map(len, read)) < sum(map(sum, read)) / 2
    alone = Generator(model, decoding, prompts.end_id, batch_size=1)(params, asked)
    assert [c[:2] for c in together] == [c[:2] for c in alone]
    np.testing.assert_allclose(
        [c.log_prob for c in together], [c.log_prob for c in alone], rtol=1e-4
    )


@pytest.mark.parametrize("over", [0, 1])
def test_a_family_in_parts_and_at_the_end_of_the_room(over, monkeypatch, decoder):
    """A part may lack its trunk; where trunk and tail do not fit, prompts are read."""
    model, params = decoder(40, n_layer=1, n_positions=160)
    decoding = Decoding(max_new_tokens=8)
    longest = np.random.default_rng(0).integers(1, 40, 160 - 8 - 16 + over).tolist()
    asked = [longest[:n] + [7] for n in range(60, 130, 7)] + [longest]
    generator = Generator(model, decoding, END, batch_size=4, bucket=16)
    together = generator(params, asked)
    assert bool(generator._branch._cache_size()) == (not over)
    assert bool(generator._generate._cache_size()) == bool(over)
    alone = Generator(model, decoding, END, batch_size=1)(params, asked)
    assert [c[:2] for c in together] == [c[:2] for c in alone]


def test_branches_compile_a_few_programs_for_each_bucket():
    model, params = small.gpt2(40, n_layer=1, n_positions=256)
    generator = Generator(model, Decoding(2), END, batch_size=8)
    rng = np.random.default_rng(0)
    for _ in range(12):
        trunk = rng.integers(1, 40, 128).tolist()
        lengths = rng.integers(65, 128, rng.integers(2, 20))
        generator(params, [trunk, *(trunk[:n] for n in lengths)])
    # Trunks 1, 2 and 4 of rows 2, 4 and 8; one width of trunks; a lone row.
    assert 1 < generator._branch._cache_size() <= 5
    assert generator.compile_count <= 8


def test_trunks_are_kept_once_and_not_for_each_row(decoder):
    model, params = decoder(40, n_layer=1, n_positions=256)
    rows, steps = 8, 4
    trunk, mask = pad_left([list(range(1, 33))] * 2, 32, 0)
    branches = branches_of([0, 1] * 4, [20] * rows, [[7]] * rows, 2, 16, 0)
    run = functools.partial(
        generate_branches, model, decoding=Decoding(steps), end_id=END, pad_id=0
    )
    keys = row_keys(0, range(rows))
    program = jax.jit(run).lower(params, trunk, mask, branches, keys).compile()
    text = program.as_text()
    keys = set(re.findall(r"f32\[(\d+),2,8,(\d+)\]", text))
    values = set(re.findall(r"f32\[(\d+),2,(\d+),8\]", text))
    for kept in (keys, values):
        assert {("2", "32"), (str(rows), str(16 + steps))} <= kept
        assert (str(rows), "32") not in kept


def test_a_large_family_among_many_small_ones_is_not_given_their_places():
    model, _ = small.gpt2(40, n_layer=1, n_positions=256)
    rng = np.random.default_rng(0)
    trunk = rng.integers(1, 40, 128).tolist()
    asked = [trunk[:n] for n in range(98, 128, 2)] + [trunk]
    asked += [rng.integers(1, 40, 120).tolist() for _ in range(5)]
    generator = Generator(model, Decoding(2), END, batch_size=32)
    pays = functools.partial(generator._pays, asked, room=254)
    (large,) = (f for f in families(asked) if len(f.members) > 1)
    single = [f for f in families(asked) if len(f.members) == 1]
    assert len(large.members) >= 8 and pays([large]) and pays([large, single[0]])
    # Eight trunks of sixteen places for 21 rows; the same trunks with two each do pay.
    assert not pays([large._replace(members=large.members * 2), *single * 3])


def test_a_family_has_all_but_the_tails_in_common():
    trunk = list(range(1, 60))
    asked = [trunk[:30] + [7, 8], trunk, [5] * 20, trunk[:50], trunk[:30] + [9] * 20]
    first, *others = families(asked)
    assert first.trunk == 1 and sorted(first.members) == [(0, 30), (1, 58), (3, 49)]
    assert sorted(family.trunk for family in others) == [2, 4]
    assert sorted(i for family in (first, *others) for i, _ in family.members) == [
        *range(5)
    ]


def contrasted_by_hand(whole, prompt, without, weight, steps):
    """Greedy tokens and their log-prob, by a whole pass for each token.

    whole: tokens [2, N] -> logits; of one N, since what comes after is not seen.
    """
    tokens, log_prob = [], 0.0
    for _ in range(steps):
        rows = [prompt + tokens, without + tokens]
        padded = [row + [END] * (80 - len(row)) for row in rows]
        logits = np.asarray(whole(np.array(padded)))
        both = [logits[i, len(row) - 1][None] for i, row in enumerate(rows)]
        scores = jax.nn.log_softmax(sampling.contrasted(*both, weight)[0])
        tokens.append(int(jnp.argmax(scores)))
        log_prob += float(jnp.max(scores))
        if tokens[-1] == END:
            break
    return tokens, log_prob


@pytest.mark.parametrize("nested", [True, False], ids=["branched", "whole"])
def test_a_contrast_is_with_the_prompt_without_its_context(decoder, nested):
    model, params = decoder(40, n_positions=256)
    params = small.scaled(params, 3)
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 40, 60).tolist() for _ in range(5)]
    if nested:
        rows = [rows[0][:length] + [39] for length in (59, 50, 40, 30, 20)]
    without = [row[:10] + [39] for row in rows]
    generator = Generator(
        model, Decoding(6, contrast=1.0), END, batch_size=4, bucket=16
    )
    ours = generator(params, rows, without=without)
    compiled = generator._branch if nested else generator._generate
    assert compiled._cache_size() > 0
    plain = Generator(model, Decoding(6), END, batch_size=4, bucket=16)(params, rows)
    assert [c.tokens for c in ours] != [c.tokens for c in plain]
    whole = jax.jit(lambda tokens: model.apply({"params": params}, tokens))
    for prompt, prior, completion in zip(rows, without, ours, strict=True):
        tokens, log_prob = contrasted_by_hand(whole, prompt, prior, 1.0, 6)
        assert list(completion.tokens) == [t for t in tokens if t != END]
        np.testing.assert_allclose(completion.log_prob, log_prob, atol=1e-3)


@pytest.mark.parametrize("contrast", [0.0, 1.0])
def test_prompts_that_come_alone_are_read_in_pieces_by_one_program(decoder, contrast):
    model, params = decoder(40, n_positions=256)
    params = small.scaled(params, 3)
    rng = np.random.default_rng(0)
    # A width of 250, which is no multiple of a piece.
    alone = Generator(model, Decoding(6, contrast=contrast), END)
    padded = Generator(model, Decoding(6, contrast=contrast), END, bucket=16)
    for length in (1, 63, 64, 65, 150, 250):
        prompt = rng.integers(1, 40, length).tolist()
        without = [prompt[:70]] if contrast else []
        (ours,) = alone(params, [prompt], without=without)
        theirs, _ = padded(params, [prompt] * 2, without=without * 2)
        assert ours.tokens == theirs.tokens and ours.ended == theirs.ended
        np.testing.assert_allclose(ours.log_prob, theirs.log_prob, atol=1e-4)
    assert alone.compile_count == 1


def test_generators_of_one_model_share_the_program_for_prompts_alone():
    """Whatever their limits and contrasts, which are arguments of it."""
    model, params = small.gpt2(37, n_layer=1, n_positions=256)
    persona = Generator(model, Decoding(9, contrast=1.0), END)
    response = Generator(model, Decoding(5), END)
    (ours,) = persona(params, [[5] * 9], without=[[6] * 3])
    (theirs,) = response(params, [[5] * 99])
    assert response.compile_count == persona.compile_count == 1
    assert len(ours.tokens) <= 9 and len(theirs.tokens) <= 5


def test_no_piece_of_padding_alone_is_read():
    read = []

    class Watched(GPT2):
        def extend(self, cache, tokens, *rest):
            if tokens.shape[1] > 1:
                jax.debug.callback(lambda slot: read.append(int(slot)), cache.slot)
            return super().extend(cache, tokens, *rest)

    model, params = small.gpt2(40, n_layer=1, n_positions=256)
    decoding = Decoding(56, contrast=1.0)
    generator = Generator(Watched(model.config), decoding, END)
    for length, slots in [(70, [128, 192]), (64, [192]), (200, [0, 64, 128, 192])]:
        read.clear()
        generator(params, [[5] * length], without=[[5] * 10])
        jax.effects_barrier()
        assert sorted(read) == sorted([*slots, 192])  # the other row has one piece


def test_a_contrast_without_anything_to_contrast_with_is_refused():
    model, params = small.gpt2(40, n_layer=1)
    for decoding, without in [(Decoding(2, contrast=1.0), ()), (Decoding(2), [[1]])]:
        with pytest.raises(ValueError, match="A contrast needs prompts"):
            Generator(model, decoding, END)(params, [[1, 2]], without=without)


def test_other_seeds_and_other_rows_say_something_else():
    model, params = small.gpt2(40, n_layer=1, n_positions=64)
    generator = Generator(model, Decoding(10, temperature=1.5), END, bucket=16)
    prompt = [1, 2, 3]
    first = generator(params, [prompt] * 4, seed=0)
    assert len({c.tokens for c in first}) == 4
    assert generator(params, [prompt] * 4, seed=0) == first
    assert generator(params, [prompt] * 4, seed=1)[0].tokens != first[0].tokens
    turned = generator(params, [prompt] * 4, seed=0, ids=[3, 2, 1, 0])
    assert [c.tokens for c in turned[::-1]] == [c.tokens for c in first]


def test_cached_decode_equals_a_full_forward_at_every_step(decoder):
    model, params = decoder(30)
    rng = np.random.default_rng(0)
    new, width = 5, 7
    rows = [rng.integers(0, 30, n).tolist() for n in (7, 3, 1)]
    prompt, mask = pad_left(rows, width, 0)
    after = jnp.asarray(rng.integers(0, 30, (3, new)), jnp.int32)
    tokens = jnp.concatenate([prompt, after], axis=1)
    full_mask = jnp.concatenate([mask, jnp.ones((3, new), bool)], axis=1)
    positions = positions_of(full_mask)

    @jax.jit
    def forward(tokens, attention_mask):
        return model.apply({"params": params}, tokens, None, attention_mask)

    @jax.jit
    def prefill(prompt, mask):
        return model.apply(
            {"params": params}, prompt, mask, width + new, method="prefill"
        )

    @jax.jit
    def decode(cache, tokens, positions):
        return model.apply(
            {"params": params}, cache, tokens, positions, method="decode_step"
        )

    full = forward(tokens, full_mask)
    logits, cache = prefill(prompt, mask)
    np.testing.assert_allclose(logits, full[:, width - 1], atol=1e-4)
    for step in range(width, width + new):
        logits, cache = decode(cache, tokens[:, step], positions[:, step])
        np.testing.assert_allclose(logits, full[:, step], atol=1e-4)
    # Padding is not seen, on whatever side it is: rows 1 and 2 have 4 and 6 pads.
    right = forward(jnp.roll(tokens, -4, axis=1), jnp.roll(full_mask, -4, axis=1))
    np.testing.assert_allclose(right[1, :-4], full[1, 4:], atol=1e-4)
    np.testing.assert_allclose(right[2, 2:-4], full[2, 6:], atol=1e-4)


def test_decoding_rearranges_no_cache(decoder):
    """What attention reads lies in the cache as it reads it: no copy at every step."""
    model, params = decoder(30)
    prompt, mask = pad_left([[1, 2, 3], [4]], 8, 0)
    decoding = Decoding(5)

    def complete(params, prompt, mask, keys):
        return generate(model, params, prompt, mask, keys, decoding, 0, 0)

    program = jax.jit(complete).lower(params, prompt, mask, row_keys(0, [0, 1]))
    text = program.compile().as_text()
    cache = r"f32\[2,2,(8,13|13,8)\]"  # rows, heads, their size, slots
    assert re.search(rf"{cache}\S* (dynamic-update-slice|fusion)\(", text)
    assert not re.search(rf"{cache}\S* (copy|transpose)\(", text)


def test_splice_is_the_picture_in_its_docstring():
    def piece(text):
        cells = text.split()
        tokens = [0 if c == "." else ord(c) for c in cells]
        return jnp.array([tokens]), jnp.array([[c != "." for c in cells]])

    tokens, mask = splice([piece("a b ."), piece("c . ."), piece("d e .")])
    expected, expected_mask = piece(". . . . a b c d e")
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_array_equal(tokens[mask], expected[expected_mask])


def test_splice_takes_padding_on_either_side_and_rows_of_their_own():
    left, left_mask = pad_left([[1, 2], [3]], 3, 0)
    right = np.array([[4, 0], [5, 6]]), np.array([[1, 0], [1, 1]], bool)
    tokens, mask = splice([(left, left_mask), right])
    rows = [
        np.asarray(t)[np.asarray(m)].tolist() for t, m in zip(tokens, mask, strict=True)
    ]
    assert rows == [[1, 2, 4], [3, 5, 6]]
    assert (np.sort(mask, axis=1) == mask).all()


def test_more_tokens_than_positions_are_refused(decoder):
    model, params = decoder(30, n_layer=1, n_positions=16)
    generator = Generator(model, Decoding(10), END, bucket=8)
    with pytest.raises(ValueError, match="n_positions=16"):
        generator(params, [[1] * 7])
    assert len(generator(params, [[1] * 6])[0].tokens) <= 10
