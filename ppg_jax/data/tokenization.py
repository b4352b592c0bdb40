"""Tokenizers: loaded from a folder or a hub, or trained on the corpus at hand.

The only file that imports transformers.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from ppg_jax.data import corpus
from ppg_jax.data.dialogue import Dialogue
from ppg_jax.errors import UserError

END_OF_TEXT = "<|endoftext|>"


def load_tokenizer(path):
    """The fast tokenizer of a folder in Hugging Face form.

    A folder with only `vocab.json` and `merges.txt` (GPT-2), or only `vocab.txt` (BERT,
    lower case) will do. Raises UserError where there is neither.
    """
    from transformers import AutoTokenizer, BertTokenizerFast, GPT2TokenizerFast

    path = Path(path)
    names = {p.name for p in path.iterdir()} if path.is_dir() else set()
    if {"tokenizer.json", "tokenizer_config.json"} <= names:
        return AutoTokenizer.from_pretrained(str(path))
    if {"vocab.json", "merges.txt"} <= names:
        return GPT2TokenizerFast.from_pretrained(str(path))
    if "vocab.txt" in names:
        return BertTokenizerFast.from_pretrained(str(path))
    raise UserError(
        f"{path}: no tokenizer here; expected tokenizer.json and "
        "tokenizer_config.json, or vocab.json with merges.txt (GPT-2), or vocab.txt "
        "(BERT)."
    )


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


def byte_level_bpe(
    tokens: Sequence[str],
    merges: Sequence[tuple[str, str]],
    special: Sequence[str],
    split_digits: bool = False,
    max_length: int | None = None,
    **named: str,
):
    """A tokenizer of GPT-2's kind from its parts, in the order of their numbers.

    special: those of `tokens` that are never text. split_digits: each digit is a word.
    named: `eos_token` and the like. A character of which `tokens` lack a byte would be
    left out without a word; it becomes U+FFFD.
    """
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
    )
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocabulary, list(merges)))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if split_digits else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*digits, byte_level])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=max_length, **named
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


def load_or_train(
    spec: str,
    folder: Path,
    texts,
    corpus_sha256: str,
    special=(),
    load=load_tokenizer,
):
    """The tokenizer that `spec` names, kept in `folder`, for a run to be repeated with.

    spec: "bpe:SIZE" or "wordpiece:SIZE" trains one on `texts` (a function that returns
    them); anything else is what `load` makes a tokenizer of. special: tokens to add.
    Raises UserError if `folder` was made from another spec, corpus or special tokens.
    """
    made_from = {"spec": spec, "corpus_sha256": corpus_sha256}
    if special:
        made_from["special_tokens"] = list(special)
    record = folder / "made_from.json"
    if record.exists():
        theirs = json.loads(record.read_text(encoding="utf-8"))
        if theirs != made_from:
            raise UserError(
                f"{folder} was made from {theirs}, this run asks for {made_from}. Give "
                "another --workdir, or delete that folder to start again."
            )
        return load_tokenizer(folder)
    kind, _, size = spec.partition(":")
    train = {"bpe": train_byte_level_bpe, "wordpiece": train_wordpiece}.get(kind)
    if train is None:
        tokenizer = load(spec)
        if special:
            tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    elif not size.isdigit():
        raise UserError(
            f"tokenizer={spec!r} has no size; write for example {kind}:8192."
        )
    else:
        extra = (tuple(special),) if special else ()
        tokenizer = train(texts(), int(size), *extra)
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    tokenizer.save_pretrained(str(temporary))
    (temporary / record.name).write_text(json.dumps(made_from), encoding="utf-8")
    os.replace(temporary, folder)
    return load_tokenizer(folder)


def of_run(
    spec: str,
    folder: Path,
    train: Sequence[Dialogue],
    special=(),
    load=load_tokenizer,
):
    """`load_or_train` on the dialogues, for the stages of a run directory to share."""

    def texts():
        for dialogue in train:
            yield from dialogue.utterances
            yield from dialogue.self_persona + dialogue.partner_persona

    digest = corpus.fingerprint(train)
    return load_or_train(spec, folder, texts, digest, special, load)


def sha256(tokenizer) -> str:
    """A name for what a tokenizer does."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
