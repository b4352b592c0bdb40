"""BM25: which sentences or documents are the most like a query."""

import functools
import logging
import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ppg_jax.data.dialogue import Dialogue, Instance

_K1, _B = 1.5, 0.75
_WORDS = re.compile(r"\w+")


def top_k_sentences(query: str, sentences: Sequence[str], k: int) -> tuple[str, ...]:
    """The k sentences most relevant to the query by BM25, in their original order.

    The paper's "Top-3 relevant partner personas using BM25" (Table 1, third row).

    Okapi with k1 = 1.5 and b = 0.75. The one inside the logarithm keeps a weight
    positive: among four or five sentences the classic one makes a word that half of
    them have count against. Ties go to the earlier sentence (our choice).
    """
    documents = [Counter(_bm25_words(sentence)) for sentence in sentences]
    scores = [_bm25(_bm25_words(query), d, documents) for d in documents]
    best = sorted(range(len(sentences)), key=lambda i: (-scores[i], i))[:k]
    return tuple(sentences[i] for i in sorted(best))


TOLD = ("gold", "top3", "none")


def told_sentences(told: str, source: Instance | Dialogue) -> tuple[str, ...]:
    """What a response generator is told of the partner: of the gold persona, that is.

    told: "gold" for all of it, "top3" for what BM25 finds for the context, "none". A
    dialogue has no context yet, so "top3" asks for an instance.
    """
    if told == "top3":
        return top_k_sentences(" ".join(source.context), source.partner_persona, 3)
    return source.partner_persona if told == "gold" else ()


def _bm25(query: Sequence[str], document: Counter, documents: list[Counter]) -> float:
    """The document's score; a word asked twice counts twice."""
    mean_length = sum(d.total() for d in documents) / len(documents)
    score = 0.0
    for word in query:
        if word in document:
            having = sum(word in d for d in documents)
            idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
            length = 1 - _B + _B * document.total() / mean_length
            score += idf * document[word] * (_K1 + 1) / (document[word] + _K1 * length)
    return score


def most_similar(documents: Sequence[str], queries: Sequence[str]) -> list[int]:
    """Index of each query's best document by BM25; the first if none has its words."""
    import bm25s  # it starts JAX's backend: findings/bm25s_starts_jax.sh

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells of each index
    index = bm25s.BM25(method="lucene", k1=_K1, b=_B)
    index.index([_bm25_words(d) or [""] for d in documents], show_progress=False)
    known = index.vocab_dict

    @functools.cache
    def best(query: str) -> int:
        words = [word for word in _bm25_words(query) if word in known]
        return int(np.argmax(index.get_scores(words))) if words else 0

    return [best(query) for query in queries]


def _bm25_words(text: str) -> list[str]:
    return _WORDS.findall(text.lower())
