"""Our GPT-2 and that of transformers on torch compute the same, weights and all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs pip install "ppg_jax[parity]"')

import transformers  # noqa: E402

from ppg_jax.inference.generator import Generator  # noqa: E402
from ppg_jax.inference.sampling import Decoding  # noqa: E402
from ppg_jax.losses import cross_entropy, token_log_probs  # noqa: E402
from ppg_jax.models import pretrained  # noqa: E402
from ppg_jax.models.decoder import Pass, causal_mask  # noqa: E402
from ppg_jax.models.gpt2 import GPT2, Block  # noqa: E402
from tests.parity import oracle  # noqa: E402

SIZES = {
    "odd": {
        "vocab_size": 17,
        "n_positions": 32,
        "n_embd": 20,
        "n_layer": 3,
        "n_head": 5,
    },
    "dialogpt-small": {},
}


@pytest.fixture(scope="module", params=SIZES)
def pair(request, tmp_path_factory):
    """(torch model, our model, params) with the same random weights."""
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 1}
    config = transformers.GPT2Config(**SIZES[request.param], **ids)
    noise = 0.2 if request.param == "odd" else 0.02
    theirs = oracle.randomise(transformers.GPT2LMHeadModel(config), noise)
    folder = tmp_path_factory.mktemp("gpt2")
    return theirs, *oracle.load_ours(theirs, folder)


def batch(vocab_size, side="right"):
    """Rows of 11, 7 and 1 tokens, padded with a token that also occurs inside."""
    tokens = np.random.default_rng(0).integers(vocab_size, size=(3, 11))
    lengths = np.array([[11], [7], [1]])
    places = np.arange(11)[None]
    mask = places < lengths if side == "right" else places >= 11 - lengths
    return np.where(mask, tokens, 1), mask


def positions(mask):
    return np.maximum(mask.cumsum(axis=1) - 1, 0)


def run_torch(theirs, tokens, mask, **options):
    arrays = {
        "input_ids": tokens,
        "attention_mask": mask.astype(int),
        "position_ids": positions(mask),
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return theirs(**tensors, **options)


@pytest.mark.parametrize("side", ["right", "left"])
def test_logits(pair, side):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size, side)
    with torch.no_grad():
        expected = run_torch(theirs, tokens, mask).logits.numpy()
    apply = jax.jit(model.apply)
    logits = np.asarray(apply({"params": params}, tokens, attention_mask=mask))
    assert np.abs(logits - expected)[mask].max() <= 1e-4


def test_each_layer(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    with torch.no_grad(), oracle.recorded(theirs.transformer.h) as calls:
        run_torch(theirs, tokens, mask)
    assert len(calls) == model.config.n_layer
    block = jax.jit(Block(model.config, jnp.float32).apply)
    for layer, (x, expected) in enumerate(calls):
        weights = {"params": params[f"h_{layer}"]}
        y, _ = block(weights, x, Pass(causal_mask(mask)))
        assert np.abs(y - expected)[mask].max() <= 1e-5


def test_gradients_and_one_adamw_step(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    labels = torch.from_numpy(np.where(mask, tokens, -100))
    grads, after = oracle.torch_step(
        theirs, run_torch(theirs, tokens, mask, labels=labels).loss
    )

    @jax.jit
    def step(params):
        def loss(params):
            logits = model.apply({"params": params}, tokens, attention_mask=mask)
            log_probs = token_log_probs(logits[:, :-1], tokens[:, 1:])
            return cross_entropy(log_probs, jnp.asarray(mask[:, 1:]))

        grads = jax.grad(loss)(params)
        return grads, oracle.our_step(params, grads)

    ours = (oracle.under_torch_names(model, "gpt2", tree) for tree in step(params))
    assert oracle.largest_difference(next(ours), grads) <= 1e-4
    assert oracle.largest_difference(next(ours), after) <= 1e-4


def test_export_reopens_in_transformers_bit_for_bit(pair, tmp_path):
    theirs, model, params = pair
    tokenizer = oracle.word_tokenizer(17)
    folder = pretrained.export(model, params, tokenizer, tmp_path / "out")
    opened = transformers.GPT2LMHeadModel.from_pretrained(folder).state_dict()
    expected = theirs.state_dict()
    assert opened.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(opened[name], tensor), name
    reopened = transformers.AutoTokenizer.from_pretrained(folder)
    assert reopened("w3 w5")["input_ids"] == tokenizer("w3 w5")["input_ids"] == [3, 5]


def test_greedy_text_alone_and_in_a_padded_batch(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    prompts = [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]
    expected = []
    for prompt in prompts:
        text = torch.tensor([prompt])
        options = {"attention_mask": torch.ones_like(text), "pad_token_id": 0}
        reply = theirs.generate(text, max_new_tokens=8, do_sample=False, **options)
        expected.append(tuple(reply[0, len(prompt) :].tolist()))
    generator = Generator(model, Decoding(max_new_tokens=8), end_id=1, bucket=16)
    together = generator(params, prompts)
    alone = [generator(params, [prompt])[0] for prompt in prompts]
    for completions in (together, alone):
        assert [c.tokens + (1,) * c.ended for c in completions] == expected


def test_bfloat16_stays_close(pair):
    theirs, model, params = pair
    tokens, mask = batch(model.config.vocab_size)
    half = GPT2(model.config, dtype=jnp.bfloat16)
    logits = jax.jit(half.apply)({"params": params}, tokens, attention_mask=mask)
    assert logits.dtype == jnp.float32
    with torch.no_grad():
        expected = run_torch(theirs, tokens, mask).logits.numpy()
    # bfloat16 keeps 8 bits (0.4 % a rounding), and the residual stream is rounded twice
    # a layer: a few per cent of the largest logit is what torch's own bfloat16 has too.
    difference = np.abs(logits - expected)[mask].max()
    assert 0 < difference < 0.05 * np.abs(expected[mask]).max()


def test_every_tensor_has_its_parameter_and_the_reverse(pair):
    theirs, model, params = pair
    ours = oracle.under_torch_names(model, "gpt2", params)
    tensors = {n: p.detach().numpy() for n, p in theirs.named_parameters()}
    assert oracle.largest_difference(ours, tensors) == 0
    if model.config.n_layer == 12:
        assert sum(array.size for array in ours.values()) == 124_439_808
