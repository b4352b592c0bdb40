"""The models that are raced, as folders that every contestant opens.

GPT-2s and DistilBERTs of several sizes have random weights and a real vocabulary.
SmolLM2 is the pretrained one, with its own vocabulary; what answers or is improved then
are the generators that come with the package, and MiniLM judges.
"""

from collections.abc import Callable
from pathlib import Path

from ppg_jax.data.prompts import PromptConfig
from ppg_jax.data.tokenization import load_tokenizer, size_of
from ppg_jax.errors import UserError
from ppg_jax.files import one_at_a_time
from ppg_jax.inference.found import RELEASED
from ppg_jax.models import peft, pretrained, quantize, starts
from ppg_jax.models.distilbert import DistilBert, DistilBertConfig
from ppg_jax.models.gpt2 import GPT2, GPT2Config

# Width, layers, heads; the tokenizer decides the vocabulary.
GPT2_SIZES = {
    "tiny": (64, 2, 2),
    "mini": (256, 4, 4),
    "small": (768, 12, 12),
    "medium": (1024, 24, 16),
}
DISTILBERT_SIZES = {
    "tiny": (64, 2, 2),
    "mini": (256, 3, 4),
    "small": (768, 6, 12),
    "medium": (768, 6, 12),
}
WEIGHTS = quantize.WEIGHTS  # types of those that answer
SMOLLM2 = "smollm2"
SIZES = (*GPT2_SIZES, SMOLLM2)
BACKBONES = {"generator": SMOLLM2, "critic": "minilm"}  # names of `pretrained.load`
RELEASED_RANK = 16  # of the adapters that come with the package


def prompts(size: str, max_length: int) -> PromptConfig:
    """The form of prompts, and the lengths of completions."""
    if size == SMOLLM2:  # as it was trained
        return PromptConfig(max_length=max_length, max_persona_tokens=96)
    # Random weights never end, so these are the lengths of all completions; those of
    # PersonaChat have 37 and 14 tokens on average.
    return PromptConfig(
        max_length=max_length, max_persona_tokens=48, max_response_tokens=16
    )


def tolerance(size: str) -> float:
    """How far log-likelihoods and losses may be apart, relative to the largest.

    Float32 sums in another order, over hundreds of tokens. With random weights of 124 M
    parameters it is 3e-8 to 4e-7 (docs/results/performance_cpu/float32), of a critic's
    scores and loss 1.1e-6 and 2.0e-6 on an AMD EPYC, with SmolLM2's trained ones 2e-6
    to 3e-6.
    """
    return 1e-5 if size == SMOLLM2 else 4e-6


def generators(
    suite: str, size: str, rank: int, tokenizer_source: str, folder: Path
) -> dict:
    """The fields of a `workload.Job` that name generators; what is missing is written.

    rank: of adapters, which alone are trained then; 0 trains all weights. folder: of
    the whole model; the others lie beside it.
    """
    whole = write_generator(size, tokenizer_source, folder)
    if size == SMOLLM2 and suite == "generate":
        merged, adapted = (_released(whole, r) for r in (0, RELEASED_RANK))
        return {"generator": whole, "pair": merged, "adapters": adapted}
    if size == SMOLLM2 and suite == "reinforce":
        return {"generator": whole, "pair": _released(whole, rank)}
    return {"generator": write_adapters(whole, rank) if rank else whole}


def write_generator(size: str, tokenizer_source: str, folder: Path) -> str:
    """A GPT-2 with random weights and a real vocabulary, as a model folder; or SmolLM2,
    whose vocabulary is its own.
    """
    if size == SMOLLM2:
        return _write_pretrained("generator", folder)
    width, layers, heads = GPT2_SIZES[size]
    tokenizer = pretrained.load_tokenizer(tokenizer_source)
    config = GPT2Config(
        vocab_size=size_of(tokenizer), n_embd=width, n_layer=layers, n_head=heads
    )
    return _write_random(GPT2(config), tokenizer, folder)


def write_critic(size: str, tokenizer_source: str, folder: Path) -> str:
    """A DistilBERT classifier with random weights and a real vocabulary; beside SmolLM2
    it is MiniLM, with a new head.
    """
    if size == SMOLLM2:
        return _write_pretrained("critic", folder)
    width, layers, heads = DISTILBERT_SIZES[size]
    tokenizer = pretrained.load_tokenizer(tokenizer_source)
    config = DistilBertConfig(
        vocab_size=size_of(tokenizer),
        dim=width,
        hidden_dim=4 * width,
        n_layers=layers,
        n_heads=heads,
    )
    tokenizer.model_max_length = config.max_position_embeddings
    return _write_random(DistilBert(config), tokenizer, folder)


def write_adapters(whole: str, rank: int) -> str:
    """New adapters of a generator, in PEFT's form, with its tokenizer."""
    folder = Path(f"{whole}_rank{rank}")

    def write():
        model, params, tokenizer = pretrained.load(whole)
        params = starts.adapted(params, rank, 0, "train")
        pretrained.export(model, params, tokenizer, folder, base=whole)

    return _once(folder, write)


def _released(whole: str, rank: int) -> tuple[str, str]:
    """The persona and the response generator of the package, as adapters of that whole
    model, or (rank 0) merged into it.

    Raises UserError if their rank is another one.
    """
    persona, response = (
        _write_released(RELEASED / name, whole, rank, Path(f"{whole}_{name}"))
        for name in ("persona", "response")
    )
    return persona, response


def _write_released(source: Path, whole: str, rank: int, target: Path) -> str:
    folder = target.with_name(f"{target.name}_rank{rank}") if rank else target

    def write():
        model, params, tokenizer = pretrained.load(source)
        params = starts.adapted(params, rank, 0, "reinforce")
        base = whole if rank else ""
        pretrained.export(model, params, tokenizer, folder, base=base)

    return _once(folder, write)


def _write_pretrained(what: str, folder: Path) -> str:
    return _once(
        folder, lambda: pretrained.export(*pretrained.load(BACKBONES[what]), folder)
    )


def _write_random(model, tokenizer, folder: Path) -> str:
    def write():
        pretrained.export(model, starts.initial_params(model, 0), tokenizer, folder)

    _once(folder, write)
    if load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise UserError(f"{folder} has another tokenizer; give --models=ANOTHER.")
    return str(folder)


def _once(folder: Path, write: Callable[[], object]) -> str:
    """The folder; it is written if it is not there."""
    # Several benchmarks may begin at the same time; one of them writes.
    with one_at_a_time(folder.with_name(f".{folder.name}.lock")):
        if not ((folder / "config.json").exists() or peft.is_adapter(folder)):
            write()
    return str(folder)
