"""What is trained on when depends on (seed, epoch, step) alone, and nothing is lost."""

import functools
import itertools

import jax
import numpy as np
import pytest

from ppg_jax.data.batching import (
    WIDTH_STEP,
    WINDOW,
    Batches,
    best_widths,
    bucket,
    collate,
    draw_branches,
    epoch_order,
    longest_drawn,
    pack,
    rows_of,
)
from ppg_jax.data.passes import Example
from ppg_jax.inference.scoring import branch_mask, sorted_batches, target_log_probs
from tests import models_for_tests as small


def example(number: int, length: int) -> Example:
    """A row whose tokens are all its number; the last two are targets."""
    target_of = np.zeros(length, np.int32)
    target_of[-2:] = 1
    zeros = np.zeros(length, np.int32)
    return Example(
        tokens=np.full(length, number, np.int32),
        position_ids=np.arange(length, dtype=np.int32),
        branch_ids=zeros,
        branch_starts=zeros,
        target_of=target_of,
        ids=(str(number),),
    )


def examples(number: int) -> list[Example]:
    lengths = np.random.default_rng(0).integers(3, 400, number)
    return [example(n, length) for n, length in enumerate(lengths)]


def seen(batch) -> list[int]:
    """The numbers of the examples in a batch."""
    return [
        int(t[0])
        for t, b in zip(batch.tokens, batch.branch_ids, strict=True)
        if not b[0]
    ]


@pytest.mark.parametrize(
    ("number", "rows"), [(1, 4), (23, 4), (24, 4), (2 * WINDOW + 3, 1)]
)
def test_every_example_comes_exactly_once_per_epoch(number, rows):
    batches = Batches(examples(number), rows, seed=0)
    steps = batches.steps_per_epoch
    assert steps == -(-number // rows)
    for epoch in range(3):
        numbers = [n for s in range(steps) for n in seen(batches(epoch * steps + s))]
        assert sorted(numbers) == list(range(number))


def test_a_batch_is_a_pure_function_of_seed_epoch_and_step():
    steps = range(3 * Batches(examples(23), 4, seed=5).steps_per_epoch)
    forward = Batches(examples(23), 4, seed=5)
    expected = [forward(step) for step in steps]
    for order in (steps[::-1], [17, 0, 17, 6, 5, 6]):
        batches = Batches(examples(23), 4, seed=5)
        for step in order:
            jax.tree.map(np.testing.assert_array_equal, batches(step), expected[step])


def test_other_epochs_and_other_seeds_have_other_orders():
    lengths = np.arange(40)
    orders = {
        tuple(np.concatenate(epoch_order(lengths, 4, seed, epoch)).tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_batches_hold_examples_of_like_length_in_no_order_of_length():
    lengths = np.random.default_rng(0).integers(20, 420, 1000)
    chosen = [lengths[rows] for rows in epoch_order(lengths, 8, seed=0, epoch=0)]
    assert np.mean([np.ptp(c) for c in chosen]) < 20
    longest = np.array([c.max() for c in chosen])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_buckets_waste_little_and_are_few():
    lengths = np.arange(1, 4097)
    widths = np.array([bucket(int(n)) for n in lengths])
    assert (widths >= lengths).all() and (widths % 64 == 0).all()
    assert (np.diff(widths) >= 0).all()
    assert (widths - lengths < np.maximum(64, widths / 4)).all()
    assert ((widths - lengths)[192:] < widths[192:] / 4).all()
    assert len(set(widths)) <= 8 + 4 * 3  # up to 512, and of each doubling after it


def test_targets_stand_in_a_batch_as_in_their_examples():
    prompts = small.prompts()
    rows = [e for d in small.DIALOGUES for e in prompts.persona_dialogue(d)]
    rows += [e for d in small.DIALOGUES for e in prompts.response_dialogue(d, None)]
    batch = collate(rows, rows=6, pad_id=7)
    assert batch.tokens.shape[0] == batch.targets.shape[0] == 6
    for row, source in enumerate(rows):
        counted = batch.target_mask[row]
        at = np.flatnonzero(source.target_of)
        np.testing.assert_array_equal(batch.targets[row][counted], source.tokens[at])
        owners = source.target_of[at] - 1
        np.testing.assert_array_equal(batch.target_of[row][counted], owners)
        # The logits of a target stand at its predecessor, in its own branch or trunk.
        before = batch.target_index[row][counted]
        np.testing.assert_array_equal(before, at - 1)
        positions = batch.position_ids[row]
        np.testing.assert_array_equal(positions[before] + 1, source.position_ids[at])
        length = len(source)
        for name in ("tokens", "position_ids", "branch_ids", "branch_starts"):
            np.testing.assert_array_equal(
                getattr(batch, name)[row, :length], getattr(source, name)
            )
        assert (batch.branch_ids[row, length:] == -1).all()
        assert (batch.tokens[row, length:] == 7).all()


def test_missing_rows_are_padding_without_targets():
    batch = collate([example(3, 10)], rows=4)
    assert batch.tokens.shape == (4, 64)
    assert (batch.branch_ids[1:] == -1).all()
    assert not batch.target_mask[1:].any()
    assert batch.target_mask.sum() == 2


@pytest.mark.parametrize(
    ("asked", "there", "parts", "rows"),
    [
        *((1, 100, 1, 1), (4, 2, 1, 4), (64, 1, 1, 64), (60, 24, 6, 60)),
        *((100, 100, 1, 100), (100, 65, 1, 100), (100, 64, 1, 64)),
        *((5000, 24, 1, 64), (5000, 65, 1, 128), (5000, 24, 5, 65)),
        *((5000, 24, 5000, 5000), (5000, 10**6, 1, 5000)),
    ],
)
def test_a_batch_has_no_rows_for_which_nothing_is_there(asked, there, parts, rows):
    assert rows_of(asked, there, parts) == rows
    assert rows % parts == 0 and rows >= min(asked, there)


def test_far_more_rows_than_examples_are_not_padded():
    batches = Batches(examples(24), 5000, seed=0, parts=5)
    assert batches.steps_per_epoch == 1
    batch = batches(0)
    assert sorted(seen(batch)) == list(range(24))
    assert len(batch.tokens) == 65
    (chunk, scored), *others = sorted_batches(examples(24), 5000, 8)
    assert (len(chunk), len(scored.tokens), others) == (24, 64, [])


def test_the_head_works_on_few_positions_without_a_target():
    batch = collate([example(1, 400), example(2, 300)])
    assert batch.tokens.shape == (2, 448)
    assert batch.targets.shape == (2, 448 // 4)


def test_the_best_widths_are_those_that_need_least_padding():
    lengths = np.random.default_rng(0).integers(1, 130, 30)
    steps = range(WIDTH_STEP, 145, WIDTH_STEP)

    def padding(widths):
        widths = np.array(widths)
        return sum(widths[np.searchsorted(widths, n)] - n for n in lengths)

    for number in (1, 2, 3):
        found = best_widths(lengths, number)
        fitting = (
            widths
            for widths in itertools.combinations(steps, number)
            if widths[-1] >= lengths.max()
        )
        assert len(found) == number
        assert padding(found) == min(map(padding, fitting))
    assert best_widths([20, 30], 8).tolist() == [32]
    assert len(best_widths(lengths, 99)) == len({-(-n // WIDTH_STEP) for n in lengths})


def test_batches_have_one_of_so_many_widths():
    made = [example(n, 20 + n) for n in range(200)]
    batches = Batches(made, 4, seed=0, widths=3)
    seen = {batches(step).tokens.shape[1] for step in range(batches.steps_per_epoch)}
    assert len(seen) == 3
    assert max(seen) == 224


def test_packed_examples_fill_rows_and_see_only_themselves():
    sizes = [90, 60, 50, 40, 30, 10]
    made = [example(n, size) for n, size in enumerate(sizes)]
    rows = pack(made, 100)
    assert len(rows) == 3  # 90 + 10, 60 + 40, 50 + 30
    assert all(len(row) <= 100 for row in rows)

    made += [e for d in small.DIALOGUES for e in small.prompts().persona_dialogue(d)]
    rows = pack(made, 400)
    assert sum(map(len, rows)) == sum(map(len, made))
    assert len(rows) < len(made)
    by_id = {each.ids[0]: each for each in made}
    for row in rows:
        mask, at = mask_of(row), 0
        for source in sources(row, by_id):
            mine = np.s_[at : at + len(source)]
            for column in ("tokens", "position_ids", "branch_starts"):
                expected = getattr(source, column)
                np.testing.assert_array_equal(getattr(row, column)[mine], expected)
            owners = [row.ids[n - 1] if n else "" for n in row.target_of[mine]]
            whose = [source.ids[n - 1] if n else "" for n in source.target_of]
            assert owners == whose
            np.testing.assert_array_equal(mask[mine, mine], mask_of(source))
            outside = np.ones(len(row), bool)
            outside[mine] = False
            assert not mask[mine][:, outside].any()
            at += len(source)
        assert at == len(row)


def sources(row, by_id):
    """The examples in a packed row, in their order."""
    position = 0
    while position < len(row.ids):
        source = by_id[row.ids[position]]
        position += len(source.ids)
        yield source


def mask_of(one: Example) -> np.ndarray:
    columns = (one.branch_ids, one.branch_starts, one.position_ids)
    return np.asarray(branch_mask(*(column[None] for column in columns)))[0]


def dialogues(number: int) -> list[Example]:
    """Examples of a trunk and several branches, of many lengths."""
    rng = np.random.default_rng(number)
    made = []
    for n in range(number):
        parts, starts, at = [(list(range(1, 30)), 0)], [], 0
        for branch in range(1, int(rng.integers(1, 7)) + 1):
            at = min(at + int(rng.integers(1, 8)), 29)
            parts.append(([40 + branch] * int(rng.integers(2, 30)), branch))
            starts.append(at)
        names = tuple(f"{n}:{i}" for i in range(len(starts)))
        made.append(prompts_example(parts, starts, names))
    return made


def prompts_example(parts, starts, names) -> Example:
    """As `Prompts` makes them: branch b begins behind starts[b - 1]."""
    columns = [[], [], [], [], []]
    for tokens, branch in parts:
        start = starts[branch - 1] if branch else 0
        size = len(tokens)
        for column, values in zip(
            columns,
            (
                tokens,
                range(start, start + size),
                [branch] * size,
                [start] * size,
                [0, *[branch] * (size - 1)] if branch else [0] * size,
            ),
            strict=True,
        ):
            column.extend(values)
    return Example(*(np.array(c, np.int32) for c in columns), ids=names)


def test_a_drawn_example_keeps_its_branches_and_what_they_see_of_the_trunk():
    for n, whole in enumerate(dialogues(30)):
        drawn = draw_branches(whole, 2, np.random.default_rng(n))
        branches = np.unique(drawn.branch_ids[drawn.branch_ids > 0])
        known = np.unique(whole.branch_ids[whole.branch_ids > 0])
        assert len(branches) == min(2, len(known)) and set(branches) <= set(known)
        mine = np.isin(whole.branch_ids, branches)
        for name in ("tokens", "position_ids", "branch_starts", "target_of"):
            expected = getattr(whole, name)[mine]
            kept = getattr(drawn, name)[drawn.branch_ids > 0]
            np.testing.assert_array_equal(kept, expected)
        trunk = drawn.branch_ids == 0
        if len(known) > 2:  # exactly as far as the last of them looks
            needed = drawn.branch_starts.max()
            assert drawn.position_ids[trunk].tolist() == list(range(needed))
        assert drawn.ids == whole.ids


def test_drawn_branches_have_the_losses_that_they_have_among_all():
    made = small.prompts()
    model, params = small.llama(len(made.tokenizer), n_layer=1)
    whole = [e for d in small.DIALOGUES for e in made.persona_dialogue(d)]
    rng = np.random.default_rng(0)
    drawn = [draw_branches(example, 1, rng) for example in whole]
    assert sum(map(len, drawn)) < sum(map(len, whole))
    log_probs = jax.jit(functools.partial(target_log_probs, model))

    def losses(examples):
        batch = collate(examples)
        values = np.asarray(log_probs(params, batch))
        found = {}
        for row, column in np.argwhere(batch.target_mask):
            key = (int(row), int(batch.target_of[row, column]))
            found.setdefault(key, []).append(values[row, column])
        return found

    kept, every = losses(drawn), losses(whole)
    assert 0 < len(kept) < len(every)
    for key, values in kept.items():
        np.testing.assert_allclose(values, every[key], atol=1e-4)


def test_what_is_drawn_is_told_by_seed_and_epoch_and_each_branch_comes_some_day():
    made = dialogues(6)
    epochs = 40

    def seen(seed):
        batches = Batches(made, 2, seed, branches=2)
        per_epoch = batches.steps_per_epoch
        assert per_epoch == 3
        return [batches(step).tokens for step in range(per_epoch * epochs)]

    first = seen(0)
    assert all(map(np.array_equal, first, seen(0)))
    assert not all(map(np.array_equal, first, seen(1)))
    batches = Batches(made, 2, 0, branches=2)
    jumped = batches(3 * 7 + 1)  # a resumed run begins in the middle
    np.testing.assert_array_equal(jumped.tokens, first[3 * 7 + 1])
    drawn = [
        {int(b) for b in np.unique(batches._drawn(epoch, 0).branch_ids)}
        for epoch in range(epochs)
    ]
    assert len(set(map(frozenset, drawn))) > 1
    for index, example in enumerate(made):
        ids = [batches._drawn(epoch, index).branch_ids for epoch in range(epochs)]
        assert set(np.concatenate(ids)) == set(example.branch_ids)


def test_no_epoch_needs_a_width_that_the_first_did_not_plan():
    for number in range(1, 12):
        made = dialogues(number)
        batches = Batches(made, 2, seed=number, widths=2, branches=1)
        shapes = {
            batches(step).tokens.shape[1]
            for step in range(20 * batches.steps_per_epoch)
        }
        assert len(shapes) <= 2
        longest = max(longest_drawn(example, 1) for example in made)
        assert max(shapes) <= -(-longest // WIDTH_STEP) * WIDTH_STEP
