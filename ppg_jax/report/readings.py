"""What the numbers of a table say of themselves, by a rule: where a row says less than
it seems to.
"""

from collections.abc import Iterator, Mapping, Sequence

from ppg_jax.report import paper

_SAME = 1e-3  # relative differences of perplexity below this are none


def readings(rows: Mapping) -> list[str]:
    """What the numbers of rows say of themselves, a sentence each.

    rows: of `over_seeds.compute`. A scaled reward is said to do nothing, or something,
    as perplexity shows it; rows that early stopping left as they were are named, and so
    is a row that pleases the critic that pays and not the one that was held out. And it
    is told where rows decode in a way that the paper has not.
    """
    return [*_decoded(rows), *_scaled(rows), *_kept(rows), *_hacked(rows)]


def _decoded(rows: Mapping) -> Iterator[str]:
    if any(row.get("chosen") for row in rows.values()):
        plain = [name for name in paper.AS_GENERATED if name in rows]
        without = f"; without that: {_labels(rows, plain)}" if plain else ""
        yield (
            "Personas of rows of ours are decoded by contrast, or grounded in what the "
            "partner said, as the config sets it, which the paper does not have"
            f"{without}. In all rows of ours a sentence stands once, and none tells of "
            "the speaker."
        )


def _scaled(rows: Mapping) -> Iterator[str]:
    moved = {}
    for name, plain in paper.SCALED.items():
        values = [_value(rows, row, "ppl_token") for row in (name, plain)]
        if None not in values:
            moved[name] = abs(values[0] / values[1] - 1)
    same = [n for n, share in moved.items() if share < _SAME]
    if same:
        yield (
            "Under Adam the scale of a reward does nothing: the perplexity is that of "
            f"the unscaled one to a relative {max(moved[n] for n in same):.0e} in "
            f"{_labels(rows, same)}."
        )
    other = [n for n in moved if n not in same]
    if other:
        yield (
            f"Perplexity moves with the scale in {_labels(rows, other)}, by "
            f"{max(moved[n] for n in other):.1%} at most: Adam would undo it, and what "
            "is not scaled with the reward, a KL penalty first of all, weighs the less."
        )


def _kept(rows: Mapping) -> Iterator[str]:
    """Rows of REINFORCE that answer as the supervised models do."""
    before, *after = paper.REINFORCED
    known = [n for n in after if n in rows and before in rows]
    if as_before := [n for n in known if _same(rows, n, before)]:
        yield (
            f"{_labels(rows, as_before)}: early stopping kept the weights that RL "
            "began with, so what this table says of RL is in other rows."
        )


def _hacked(rows: Mapping) -> Iterator[str]:
    before, *after = paper.REINFORCED
    named = [n for n in after if _rises(rows, n, before, "critic")]
    paid = [n for n in named if n not in paper.OF_NO_CRITIC]
    named = [n for n in paid if not _rises(rows, n, before, "held_out_critic")]
    if named and _value(rows, before, "held_out_critic") is not None:
        yield (
            f"{_labels(rows, named)}: the critic that pays scores them higher, beyond "
            "both intervals, and the held-out one does not."
        )


def _rises(rows: Mapping, name: str, before: str, metric: str) -> bool:
    if _value(rows, name, metric) is None or _value(rows, before, metric) is None:
        return False
    old, new = (rows[n]["metrics"][metric] for n in (before, name))
    return new["low"] > old["high"]


def _same(rows: Mapping, a: str, b: str) -> bool:
    one, other = (
        {k: m["value"] for k, m in rows[n]["metrics"].items()} for n in (a, b)
    )
    return one == other


def _value(rows: Mapping, name: str, metric: str) -> float | None:
    measured = rows.get(name, {}).get("metrics", {}).get(metric)
    return None if measured is None else measured["value"]


def _labels(rows: Mapping, names: Sequence[str]) -> str:
    return "; ".join(rows[n]["label"] for n in names)
