"""What the parity tests share: a torch model beside ours, and how to compare them."""

import contextlib

import numpy as np
import optax
import torch
from flax import traverse_util
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ppg_jax.models import pretrained
from ppg_jax.models.weight_map import FAMILIES, weights

# Adam divides a gradient by its own size: where that is rounding noise (the bias of the
# keys has no effect on attention, its true gradient is 0), two right answers differ by
# twice the learning rate. An epsilon above the noise makes the comparison meaningful.
ADAMW = {"b1": 0.9, "b2": 0.999, "eps": 1e-5, "weight_decay": 0.01}
LEARNING_RATE = 1e-3


def word_tokenizer(size: int):
    """A tokenizer of `size` words: w0 w1 w2 ..."""
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, "w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="w0", pad_token="w0", eos_token="w1"
    )


def randomise(model, noise: float):
    """Moves every weight: fresh biases are 0 and fresh scales 1, which hides faults."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def load_ours(theirs, folder, vocab_size=17):
    """The torch model, written by transformers and read by us."""
    theirs.save_pretrained(folder)
    word_tokenizer(vocab_size).save_pretrained(folder)
    model, params, _ = pretrained.load(folder)
    return model, params


def under_torch_names(model, kind: str, tree) -> dict[str, np.ndarray]:
    """A tree like params, as a state dict."""
    family = FAMILIES[kind]
    leaves = traverse_util.flatten_dict(tree, sep="/")
    layers = getattr(model.config, family.layers)
    named = {}
    for path, name, transposed in weights(family.modules + family.head, layers):
        if path not in leaves and family.in_head(name):  # it is tied
            continue
        array = np.asarray(leaves.pop(path))
        named[family.full_name(name)] = array.T if transposed else array
    assert not leaves
    return named


def largest_difference(ours: dict, theirs: dict) -> float:
    assert ours.keys() == theirs.keys()
    return max(np.abs(ours[name] - theirs[name]).max() for name in ours)


def torch_step(theirs, loss):
    """(gradients, parameters after one AdamW step) by name; the model stays the same.

    One parameter at a time: large models would need four times their size.
    """
    theirs.zero_grad()
    loss.backward()
    grads, after = {}, {}
    for name, parameter in theirs.named_parameters():
        moved = torch.nn.Parameter(parameter.detach().clone())
        moved.grad = parameter.grad
        torch.optim.AdamW(
            [moved],
            lr=LEARNING_RATE,
            betas=(ADAMW["b1"], ADAMW["b2"]),
            eps=ADAMW["eps"],
            weight_decay=ADAMW["weight_decay"],
        ).step()
        grads[name], after[name] = parameter.grad.numpy(), moved.detach().numpy()
        parameter.grad = None
    return grads, after


def our_step(params, grads):
    tx = optax.adamw(LEARNING_RATE, **ADAMW)
    updates, _ = tx.update(grads, tx.init(params), params)
    return optax.apply_updates(params, updates)


@contextlib.contextmanager
def recorded(modules):
    """Collects (input, output) of each torch module that runs inside the `with`."""
    calls = []

    def record(module, args, output):
        calls.append((args[0].detach().numpy(), output.detach().numpy()))

    handles = [module.register_forward_hook(record) for module in modules]
    yield calls
    for handle in handles:
        handle.remove()
