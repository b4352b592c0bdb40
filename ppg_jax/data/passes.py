"""One causal pass over tokens: what a generator learns from, or is scored on.

It holds one instance, or all instances of a dialogue: their prompts are nested, so one
pass over the dialogue scores every response in it, and persona targets branch off the
dialogue where their contexts end.

Axes: T tokens.
"""

import dataclasses

import numpy as np

BRANCHES = 4096  # more than there can be of one trunk


@dataclasses.dataclass(frozen=True)
class Example:
    """One causal pass: a trunk, and branches that each continue a part of it.

    A token of a branch sees its branch so far and the trunk before `branch_starts`;
    its position continues that trunk. With trunk a b c and a branch x y from after b:

              a b c x y
            a 1 . . . .     branch_ids     0 0 0 1 1
            b 1 1 . . .     branch_starts  0 0 0 2 2
            c 1 1 1 . .     position_ids   0 1 2 2 3
            x 1 1 . 1 .
            y 1 1 . 1 1

    Of several trunks in a row (`ppg_jax.data.batching.pack`) the second one has the id
    `BRANCHES`, its branches those that follow, and so on.
    """

    tokens: np.ndarray  # int32 [T]
    position_ids: np.ndarray  # int32 [T]
    branch_ids: np.ndarray  # int32 [T]; a multiple of `BRANCHES` is a trunk
    branch_starts: np.ndarray  # int32 [T]
    target_of: np.ndarray  # int32 [T]; 1 + index into `ids`; 0 = not a target
    ids: tuple[str, ...]  # the instances

    def __len__(self) -> int:
        return len(self.tokens)


def example(trunk, branches, ids: tuple[str, ...]) -> Example:
    """A pass over pieces of text: `Example` from its trunk and its branches.

    trunk: [(tokens, 1 + index into ids, or 0 if they are no target)]; branches: [(how
    many tokens of the trunk it continues, such pieces)].
    """
    columns: list[np.ndarray] = []
    length = sum(len(tokens) for tokens, _ in trunk)
    for branch, (start, pieces) in enumerate([(0, trunk), *branches]):
        tokens = [t for piece, _ in pieces for t in piece]
        target_of = [number for piece, number in pieces for _ in piece]
        offsets = np.arange(len(tokens))
        columns.append(
            np.stack(
                [
                    tokens,
                    start + offsets,
                    np.full(len(tokens), branch),
                    np.full(len(tokens), start),
                    target_of,
                ]
            ).astype(np.int32)
        )
    assert all(start <= length for start, _ in branches)
    return Example(*np.concatenate(columns, axis=1), ids=ids)
