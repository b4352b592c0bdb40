"""What both policies say for a batch of instances, and that again as batches to score.

Instances of one dialogue have nested contexts, so a persona policy reads each dialogue
once: in sampling (`generation.generate_branches`) as in the update, where completions
branch off the dialogue (`data.passes.Example`). What the response policy reads differs
from the partner persona on; its prompts share nothing, and are packed into rows.

Axes: B instances, F trunks, P prompt tokens, T completion tokens, R rows, M targets.
"""

from collections.abc import Sequence

import flax.struct
import jax
import numpy as np

from ppg_jax.data.batching import Batch, collate, pack
from ppg_jax.data.dialogue import Instance
from ppg_jax.data.passes import Example, example
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.inference.generation import Rollout, generate, generate_branches, splice
from ppg_jax.inference.prefixes import Branches, branches_of, families, pad_left
from ppg_jax.inference.sampling import Decoding

# Multiples that numbers of tokens and rows are padded to, so that few shapes compile.
BUCKET, TAIL_STEP, TRUNK_STEP, ROW_STEP = 64, 8, 2, 2
MANY_ROWS = 4  # up to so many are not padded
TARGET_STEPS = 8  # in the width of a row


@flax.struct.dataclass
class Prompted:
    """The prompts of one update.  The response prompt is `before`, persona, `after`."""

    trunk: jax.Array  # int32 [F, P]; what persona prompts begin with, left-padded
    trunk_mask: jax.Array  # bool [F, P]
    branches: Branches  # B of them, the persona policy's prompts
    before: jax.Array  # int32 [B, P]
    before_mask: jax.Array
    after: jax.Array  # int32 [B, P]
    after_mask: jax.Array


def prompts_of(prompts: Prompts, chosen: Sequence[Instance]) -> Prompted:
    """Token prompts of both policies; what persona prompts have in common, once."""
    rows = [prompts.persona_prompt(instance) for instance in chosen]
    found = families(rows)
    member = {
        i: (number, shared)
        for number, family in enumerate(found)
        for i, shared in family.members
    }
    numbers, shared = zip(*(member[i] for i in range(len(rows))), strict=True)
    tails = [row[common:] for row, common in zip(rows, shared, strict=True)]
    trunks = [rows[family.trunk] for family in found]
    trunks += trunks[:1] * (-len(trunks) % TRUNK_STEP)
    befores, afters = zip(*map(prompts.response_parts, chosen), strict=True)
    width = _width([*trunks, *befores, *afters], prompts.config)
    tail = -(-max(map(len, tails)) // TAIL_STEP) * TAIL_STEP
    trunk, before, after = (
        pad_left(pieces, width, prompts.end_id) for pieces in (trunks, befores, afters)
    )
    branches = branches_of(numbers, shared, tails, len(trunks), tail, prompts.end_id)
    return Prompted(*trunk, branches, *before, *after)


def _width(rows, config: PromptConfig) -> int:
    longest = max(map(len, rows))
    limit = config.max_length - config.max_persona_tokens
    return max(min(-(-longest // BUCKET) * BUCKET, limit), longest)


def make_sampler(
    models, limits: PromptConfig, decodings: tuple[Decoding, Decoding], end_id: int
):
    """(persona params, response params, prompts, keys [B]) -> two rollouts, one jit.

    models, decodings: of the persona and of the response policy.
    """
    (persona_model, response_model), (of_persona, of_response) = models, decodings

    @jax.jit
    def sample(persona_params, response_params, prompted: Prompted, keys):
        streams = jax.vmap(lambda key: jax.random.split(key, 2))(keys)
        persona = generate_branches(
            persona_model,
            persona_params,
            prompted.trunk,
            prompted.trunk_mask,
            prompted.branches,
            streams[:, 0],
            of_persona,
            end_id,
            end_id,
        )
        # Both prompts hold the same self persona and context, so what is wider than
        # this is padding.
        width = prompted.trunk.shape[1] + limits.max_persona_tokens
        width = min(width, limits.max_length - limits.max_response_tokens)
        prompt, mask = response_prompt(prompted, persona, end_id, width)
        response = generate(
            response_model,
            response_params,
            prompt,
            mask,
            streams[:, 1],
            of_response,
            end_id,
            end_id,
        )
        return persona, response

    return sample


def response_prompt(prompted: Prompted, persona: Rollout, end_id: int, width: int):
    """Splices the persona's own tokens between the two parts of the prompt, on device.

    A persona that fills all T tokens ends with the end token, if need be in the place
    of its last (as `Prompts.generated_persona` does). -> int32, bool [B, width].
    """
    closed = persona.completion.at[:, -1].set(end_id)
    tokens, mask = splice(
        [
            (prompted.before, prompted.before_mask),
            (closed, persona.completion_mask),
            (prompted.after, prompted.after_mask),
        ]
    )
    return tokens[:, -width:], mask[:, -width:]


def completed(rollout: Rollout) -> list[Example]:
    """Prompt and completion of each row of a fetched rollout, one causal pass each.

    The id of row i is "i".
    """
    rows = zip(_real(rollout.prompt, rollout.prompt_mask), _said(rollout), strict=True)
    return [
        example([(prompt, 0), (said, 1)], [], (str(i),))
        for i, (prompt, said) in enumerate(rows)
    ]


def branched(prompted: Prompted, rollout: Rollout) -> list[Example]:
    """As `completed`, with completions that share a trunk in one pass over it."""
    trunks = _real(prompted.trunk, prompted.trunk_mask)
    branches = prompted.branches
    tails, said = _real(branches.tail, branches.tail_mask), _said(rollout)
    made = []
    for number in np.unique(branches.rows):
        rows = np.flatnonzero(branches.rows == number)
        trunk = [(trunks[number], 0)]
        leaves = [
            (int(branches.shared[i]), [(tails[i], 0), (said[i], n)])
            for n, i in enumerate(rows, 1)
        ]
        if len(rows) == 1:  # nothing branches off: the whole is one piece
            (shared, pieces), leaves = leaves[0], []
            trunk = [(trunks[number][:shared], 0), *pieces]
        made.append(example(trunk, leaves, tuple(map(str, rows))))
    return made


def _real(tokens, mask) -> list[list[int]]:
    """[B, P], bool [B, P] -> the real tokens of each row."""
    return [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]


def _said(rollout: Rollout) -> list[list[int]]:
    return _real(rollout.completion, rollout.completion_mask)


def update_batch(
    examples: Sequence[Example], values: np.ndarray, width: int, parts: int
) -> tuple[Batch, np.ndarray, int]:
    """Examples packed into rows of `width` tokens, or of as many as the longest needs,
    and each target's share of `values`.

    values: float32 [B], one for each completion; parts: how many the rows are to be cut
    into at least -> a batch, float32 [R, M], how many equal parts they are cut into.
    """
    longest = max(map(len, examples))
    width = max(width, -(-longest // BUCKET) * BUCKET)
    rows = pack(examples, width)
    height = len(rows)
    if parts == 1 and height > MANY_ROWS:
        height = -(-height // ROW_STEP) * ROW_STEP
    parts = _parts(height, parts)
    height = -(-height // parts) * parts
    # Few of an update's tokens are targets, so they are padded finer than elsewhere.
    batch = collate(
        rows, height, widths=np.array([width]), target_step=width // TARGET_STEPS
    )
    shares = np.zeros(batch.targets.shape, np.float32)
    for i, row in enumerate(rows):
        owners = np.array(row.ids, int)[batch.target_of[i]]
        shares[i] = np.where(batch.target_mask[i], values[owners], 0)
    return batch, shares, parts


def _parts(rows: int, least: int) -> int:
    """How many equal parts: `least`, or a row each if there are fewer rows.

    Up to twice as many where that leaves fewer rows empty: an empty row costs what a
    full one does. A function of the number of rows, so that few programs compile.
    """
    least = min(least, rows)
    return min(range(least, 2 * least + 1), key=lambda parts: (-rows % parts, parts))
