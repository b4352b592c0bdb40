"""Tokenizers: loaded from a folder or a hub, or trained on the corpus at hand.

These files alone import transformers: `tokenization_folder` reads folders.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from ppg_jax import files
from ppg_jax.data import corpus
from ppg_jax.data.dialogue import Dialogue
from ppg_jax.data.tokenization_folder import END_OF_TEXT, require_config
from ppg_jax.data.tokenization_folder import load_tokenizer as load_tokenizer
from ppg_jax.errors import UserError

_BYTES = 256
_ANY_LENGTH = 10**9  # or more: transformers' word for a tokenizer that does not say
_ADDS_SPACE = re.compile(r"ByteLevel\(add_prefix_space=(True|False)")
MADE_FROM = "made_from.json"  # what the tokenizer of a run was made from


def save(tokenizer, folder: Path, longest: int = 0) -> None:
    """Writes the files of a tokenizer so that transformers 4.57 and 5 open them.

    longest: tokens that its model has room for, where the tokenizer does not say; 0 if
    nobody knows.
    """
    tokenizer.save_pretrained(str(folder))
    file = folder / "tokenizer_config.json"
    values = files.read_json(file)
    extra = values.pop("extra_special_tokens", None)
    if isinstance(extra, list):
        values["additional_special_tokens"] = extra
    # None of our models has token types, but GPT-2 of transformers would add them up.
    values["model_input_names"] = ["input_ids", "attention_mask"]
    values["tokenizer_class"] = "PreTrainedTokenizerFast"
    told = values.get("model_max_length")
    if longest and not (type(told) in (int, float) and told < _ANY_LENGTH):
        values["model_max_length"] = longest
    # Rows of a batch have to be padded with something, which masks hide.
    if values.get("pad_token") is None and "eos_token" in values:
        values["pad_token"] = values["eos_token"]
    # transformers 4 goes by what stands here, whatever tokenizer.json says.
    first = tokenizer.backend_tokenizer.pre_tokenizer
    if (found := _ADDS_SPACE.search(repr(first))) is not None:
        values["add_prefix_space"] = found[1] == "True"
    for name in ("backend", "is_local", "local_files_only"):
        values.pop(name, None)
    files.write_json(file, values)


def train_byte_level_bpe(texts: Iterable[str], vocab_size: int, special=()):
    """A GPT-2 tokenizer with `vocab_size` tokens at most, learned from `texts`.

    Any text round-trips, as with GPT-2's own. The end token comes first (id 0).
    """
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    tokens = [END_OF_TEXT, *special]
    bpe.train_from_iterator(
        texts, vocab_size=vocab_size, special_tokens=tokens, show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        additional_special_tokens=list(special),
    )


def train_wordpiece(texts, vocab_size: int):
    """A lower-case BERT tokenizer with `vocab_size` tokens at most."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    texts = list(texts)
    trainer = BertWordPieceTokenizer(lowercase=True)
    normalize = trainer.normalizer.normalize_str
    alphabet = sorted({c for text in texts for c in normalize(text) if not c.isspace()})
    # The trainer numbers "##a", "##b".. in the random order of a hash table, and breaks
    # ties by number: named beforehand, they make the result a function of the texts.
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [f"##{character}" for character in alphabet]
    trainer.train_from_iterator(
        texts, vocab_size, special_tokens=special + pieces, show_progress=False
    )
    wordpiece = BertWordPieceTokenizer(trainer.get_vocab(), lowercase=True)
    return BertTokenizerFast(tokenizer_object=wordpiece._tokenizer)


TRAINED = {"bpe": train_byte_level_bpe, "wordpiece": train_wordpiece}


def load_or_train(
    spec: str,
    folder: Path,
    texts,
    corpus_sha256: str,
    special=(),
    load=load_tokenizer,
    init: str = "",
):
    """The tokenizer that `spec` names, kept in `folder`, for a run to be repeated with.

    spec: "bpe:SIZE" or "wordpiece:SIZE" trains one on `texts` (a function that returns
    them); anything else is what `load` makes a tokenizer of. special: tokens to add.
    init: the model that training starts from, if it starts from one.
    Raises UserError if `folder` was made from another spec, corpus or special tokens,
    or if the model numbers tokens otherwise.
    """
    made_from = {"spec": spec, "corpus_sha256": corpus_sha256}
    if special:
        made_from["special_tokens"] = list(special)
    kind, _, size = spec.partition(":")
    if kind in TRAINED and not size.isdigit():
        raise UserError(
            f"tokenizer={spec!r} has no size; write for example {kind}:8192."
        )
    if kind == "bpe" and int(size) <= _BYTES:
        raise UserError(
            f"tokenizer={spec!r} is too small: each of {_BYTES} bytes is a token, and "
            "there is an end token; write for example bpe:8192."
        )
    # Stages that are started together in a new run directory: one makes it.
    if not (folder / MADE_FROM).exists():
        with files.one_at_a_time(folder.with_name(f".{folder.name}.lock")):
            if not (folder / MADE_FROM).exists():
                _make(spec, folder, texts, made_from, special, load, init)
    theirs = files.read_json(folder / MADE_FROM, _again(folder))
    recorded = theirs.pop("sha256", None)  # older ones do not say
    if theirs != made_from:
        raise UserError(
            f"{folder} was made from {theirs}, this run asks for {made_from}. Give "
            "another --workdir, or delete that folder to start again."
        )
    require_config(folder, _again(folder))
    tokenizer = load_tokenizer(folder)
    if recorded not in (None, sha256(tokenizer)):
        raise UserError(f"{folder} is damaged: it was another one. {_again(folder)}")
    _require_numbers_of(init, tokenizer, spec, load)
    return tokenizer


def _again(folder: Path) -> str:
    return f"Delete {folder} to have it made again."


def _make(spec, folder: Path, texts, made_from: dict, special, load, init) -> None:
    kind, _, size = spec.partition(":")
    if kind in TRAINED:
        extra = (tuple(special),) if special else ()
        tokenizer = TRAINED[kind](texts(), int(size), *extra)
    else:
        tokenizer = load(spec)
        if special:
            tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    _require_numbers_of(init, tokenizer, spec, load)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} has lost its {MADE_FROM}. {_again(folder)}")
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    save(tokenizer, temporary)
    made_from = made_from | {"sha256": sha256(load_tokenizer(temporary))}
    files.write_json(temporary / MADE_FROM, made_from)
    os.replace(temporary, folder)


def require_fitting(spec: str, init: str) -> None:
    """Raises ValueError for a tokenizer trained anew beside weights with their own."""
    if init and spec.partition(":")[0] in TRAINED:
        raise ValueError(
            f"tokenizer={spec!r} trains one anew, and the weights of init={init!r} "
            'belong to its own tokens; give tokenizer="" to take that of init.'
        )


def _require_numbers_of(init: str, tokenizer, spec: str, load) -> None:
    """Weights belong to the numbers of their own tokens; more may follow."""
    if init in ("", spec):
        return
    theirs, ours = load(init).get_vocab(), tokenizer.get_vocab()
    if not theirs.items() <= ours.items():
        raise UserError(
            f"tokenizer={spec!r} has {len(ours)} tokens and init={init!r} its own "
            f'{len(theirs)}, numbered otherwise; give tokenizer="" to take that of '
            "init."
        )


def of_run(
    spec: str,
    folder: Path,
    train: Sequence[Dialogue],
    special=(),
    load=load_tokenizer,
    init: str = "",
):
    """`load_or_train` on the dialogues, for the stages of a run directory to share."""

    def texts():
        for dialogue in train:
            yield from dialogue.utterances
            yield from dialogue.self_persona + dialogue.partner_persona

    digest = corpus.fingerprint(train)
    return load_or_train(spec, folder, texts, digest, special, load, init)


def sha256(tokenizer) -> str:
    """A name for what a tokenizer does."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def size_of(tokenizer) -> int:
    """Rows that a table of its tokens needs: a vocabulary may have gaps, so it is the
    largest id that counts."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def end_of(tokenizer) -> int:
    """The id of the token that ends a turn; UserError if the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path or 'the model'} has no end "
            "token; name one as eos_token in its tokenizer_config.json."
        )
    return tokenizer.eos_token_id
