"""A Kneser-Ney n-gram over tokens: the likelihood that a language model must beat.

It knows which token follows which, and nothing of the persona, the partner or anything
said before; a generator with a higher perplexity has not even learned that.

Interpolated, with three discounts an order ("modified": Chen and Goodman, 1999), down
to the uniform distribution over the vocabulary, so that no token is impossible. Before
a text stand as many start symbols as the longest history has.
Axes: V tokens of the vocabulary, T positions of all texts in a row, G different
k-grams, H different histories, which are the (k-1)-grams.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

_START = -1  # the key of the k-gram of start symbols alone; row 0 of each table
_UNSEEN = -2  # a key that no table has
SMALL_CORPUS_DISCOUNTS = (0.5, 1.0, 1.5)  # KenLM's, where there is no estimate


@dataclasses.dataclass(frozen=True)
class _Order:
    """The k-grams of one k. A key is history * V + token, with the history's row."""

    keys: np.ndarray  # int64 [G], ascending
    discounted: np.ndarray  # float64 [G]; counts, of texts or of different left sides
    totals: np.ndarray  # float64 [H]; sum of the counts before discounting
    freed: np.ndarray  # float64 [H]; what discounting took from that sum

    def rows(self, keys: np.ndarray) -> np.ndarray:
        """The row of each key, -1 where there is none."""
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[rows] == keys, rows, -1)

    def interpolate(self, histories, keys, lower: np.ndarray) -> np.ndarray:
        """P of the last token of each key, given P by the next lower order."""
        rows = self.rows(keys)
        totals = np.where(histories >= 0, self.totals[histories], 0)
        known = np.where(rows >= 0, self.discounted[rows], 0)
        mixed = known + self.freed[histories] * lower
        return np.where(totals > 0, mixed / np.maximum(totals, 1), lower)


@dataclasses.dataclass(frozen=True)
class KneserNey:
    """P(token | the `order` - 1 tokens before it)."""

    orders: tuple[_Order, ...]  # of 1-grams, of 2-grams and so on
    vocab_size: int

    @classmethod
    def fit(
        cls, sequences: Iterable[Sequence[int]], order: int, vocab_size: int
    ) -> "KneserNey":
        """Learns from texts as token ids in [0, vocab_size), end tokens included.

        Raises ValueError for another id, no token at all, or an order below 1.
        """
        tokens, _ = _in_a_row(sequences, vocab_size)
        if order < 1 or not (tokens >= 0).any():
            raise ValueError(f"order={order}, {len(tokens)} positions: nothing to fit.")
        rows, found = np.zeros(len(tokens), np.int64), []
        for _ in range(order):
            keys = _keys(_before(rows), tokens, vocab_size)
            keys, first, rows, counts = np.unique(
                keys, return_index=True, return_inverse=True, return_counts=True
            )
            if found:  # of the next lower order: how many left sides each k-gram has
                found[-1][1] = np.bincount(
                    found[-1][2][first[1:]], minlength=len(found[-1][0])
                )
            counts[0] = 0  # start symbols are given, not predicted
            found.append([keys, counts, rows])
        sizes = [1, *(len(keys) for keys, _, _ in found)]
        orders = [
            _order(keys, counts, histories, vocab_size)
            for (keys, counts, _), histories in zip(found, sizes, strict=False)
        ]
        return cls(tuple(orders), vocab_size)

    def nll(self, sequence: Sequence[int]) -> tuple[float, int]:
        """(negative log-likelihood in nats, tokens) of one text with its end token."""
        return float(self.nlls([sequence])[0]), len(sequence)

    def nlls(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """The negative log-likelihood of each text, in nats: float64 [N]."""
        tokens, text_of = _in_a_row(sequences, self.vocab_size)
        histories = [_before(rows) for rows in self._rows(tokens)]
        nll = -np.log(self._probabilities(histories, tokens))
        return np.bincount(text_of, np.where(tokens >= 0, nll, 0), len(sequences))

    def distribution(self, history: Sequence[int]) -> np.ndarray:
        """P(next token | a text that begins with `history`): float64 [V], sum 1."""
        seen = list(history)[max(0, len(history) - len(self.orders) + 1) :]
        tokens, _ = _in_a_row([seen], self.vocab_size)
        histories = [rows[-1:] for rows in self._rows(tokens)]
        return self._probabilities(histories, np.arange(self.vocab_size))

    def complete(self, max_tokens: int, end_id: int) -> list[int]:
        """The text that takes the likeliest token each time, without its end token."""
        text: list[int] = []
        while len(text) < max_tokens:
            token = int(self.distribution(text).argmax())
            if token == end_id:
                break
            text.append(token)
        return text

    def _rows(self, tokens: np.ndarray) -> list[np.ndarray]:
        """The 0-gram to (order-1)-gram that ends at each position: [T] each."""
        rows = [np.zeros(len(tokens), np.int64)]
        for order in self.orders[:-1]:
            rows.append(order.rows(_keys(_before(rows[-1]), tokens, self.vocab_size)))
        return rows

    def _probabilities(self, histories: Sequence[np.ndarray], tokens) -> np.ndarray:
        """P of each token after a history of each length (rows [T] or [1])."""
        p = np.full(len(tokens), 1 / self.vocab_size)
        for order, history in zip(self.orders, histories, strict=True):
            keys = _keys(history, tokens, self.vocab_size)
            p = order.interpolate(history, keys, p)
        return p


def _in_a_row(sequences, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens with `_START` before each text, and the text of each: int64 [T], [T]."""
    texts = [np.asarray(sequence, np.int64) for sequence in sequences]
    lengths = np.array([len(text) for text in texts], np.int64)
    text_of = np.repeat(np.arange(len(texts)), lengths + 1)
    tokens = np.full(len(text_of), _START)
    ends = np.cumsum(lengths + 1)
    is_token = np.ones(len(tokens), bool)
    is_token[ends - lengths - 1] = False
    tokens[is_token] = np.concatenate([np.zeros(0, np.int64), *texts])
    if ((tokens[is_token] < 0) | (tokens[is_token] >= vocab_size)).any():
        raise ValueError(f"a token is not in [0, {vocab_size}).")
    return tokens, text_of


def _before(rows: np.ndarray) -> np.ndarray:
    """What ends one position earlier; at a text's start nobody asks."""
    return np.concatenate([rows[:1], rows[:-1]])


def _keys(histories: np.ndarray, tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    keys = np.where(histories >= 0, histories * vocab_size + tokens, _UNSEEN)
    return np.where(tokens >= 0, keys, _START)


def _order(keys, counts, histories: int, vocab_size: int) -> _Order:
    """keys, counts: of the k-grams, `_START` first; histories: how many there are."""
    by_count = np.array([0.0, *_discounts(counts)])
    taken = by_count[np.minimum(counts, 3)]
    history = keys[1:] // vocab_size
    totals = np.bincount(history, counts[1:], histories)
    freed = np.bincount(history, taken[1:], histories)
    return _Order(keys, counts - taken, totals, freed)


def _discounts(counts: np.ndarray) -> tuple[float, ...]:
    """What to take from a count of 1, of 2, and of more, by the counts of counts."""
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if not n1 * n2 * n3 * n4:
        return SMALL_CORPUS_DISCOUNTS
    share = n1 / (n1 + 2 * n2)
    estimates = [
        1 - 2 * share * n2 / n1,
        2 - 3 * share * n3 / n2,
        3 - 4 * share * n4 / n3,
    ]
    sound = all(0 < d <= count for count, d in enumerate(estimates, start=1))
    return tuple(estimates) if sound else SMALL_CORPUS_DISCOUNTS
