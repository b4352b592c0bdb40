"""Tokenizers: loaded from a folder or a hub, or trained on the corpus at hand.

The only file that imports transformers, but for `tokenization_bpe`.
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
from ppg_jax.errors import UserError

# "PyTorch was not found": nothing here asks transformers for a model.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

END_OF_TEXT = "<|endoftext|>"
# Of a tokenizer, and what the largest, of a million tokens, stays far below.
_FILES = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"}
_FILES |= {"vocab.txt", "added_tokens.json", "special_tokens_map.json"}
_MOST_BYTES = 1 << 28
_BYTES = 256
_ANY_LENGTH = 10**9  # or more: transformers' word for a tokenizer that does not say
# What GPT-2's and BERT's own folders leave to the class that is meant to read them.
_USUAL = {
    "eos_token": END_OF_TEXT,
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
_ADDS_SPACE = re.compile(r"ByteLevel\(add_prefix_space=(True|False)")
# By whose rules vocab.json with merges.txt, and vocab.txt, are read.
_OF_MERGES = ("GPT2Tokenizer", "GPT2TokenizerFast")
_OF_PIECES = tuple(
    f"{name}Tokenizer{end}"
    for name in ("Bert", "DistilBert", "Electra")
    for end in ("", "Fast")
)
MADE_FROM = "made_from.json"  # what the tokenizer of a run was made from


def load_tokenizer(path):
    """The fast tokenizer of a folder in Hugging Face form.

    A folder with only `vocab.json` and `merges.txt` (GPT-2), or only `vocab.txt` (BERT,
    lower case) will do. What `tokenizer.json` says holds, whatever class stands beside
    it, and text is what the tokens say, without a clean-up. Tokens that end, begin or
    fill up a text are GPT-2's and BERT's where the folder names none and has these.
    Raises UserError where there is no tokenizer, or one that cannot be read.
    """
    from transformers import (
        BertTokenizerFast,
        GPT2TokenizerFast,
        PreTrainedTokenizerFast,
    )

    path = Path(path)
    names = {p.name for p in path.iterdir()} if path.is_dir() else set()
    if {"tokenizer.json", "tokenizer_config.json"} <= names:
        kind = PreTrainedTokenizerFast
    elif {"vocab.json", "merges.txt"} <= names:
        kind = GPT2TokenizerFast
        _require_class(path / "tokenizer_config.json", _OF_MERGES)
    elif "vocab.txt" in names:
        kind = BertTokenizerFast
        _require_class(path / "tokenizer_config.json", _OF_PIECES)
    else:
        raise UserError(
            f"{path}: no tokenizer here; expected tokenizer.json and "
            "tokenizer_config.json, or vocab.json with merges.txt (GPT-2), or "
            "vocab.txt (BERT)."
        )
    for name in names & _FILES:
        if (size := (path / name).stat().st_size) > _MOST_BYTES:
            raise UserError(
                f"{path / name} has {size:,} bytes, expected {_MOST_BYTES:,} at most; "
                "get it again."
            )
    try:
        tokenizer = kind.from_pretrained(str(path), trust_remote_code=False)
        if "tokenizer.json" in names:
            _obey(tokenizer.backend_tokenizer, path / "tokenizer.json")
        known = tokenizer.get_vocab()
        for name, token in _USUAL.items():
            if getattr(tokenizer, name) is None and token in known:
                setattr(tokenizer, name, token)
    except Exception as error:  # of any kind: both libraries raise plain Exceptions
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path}: the tokenizer cannot be read ({reason.rstrip('.')}); get it "
            "again, or give another folder."
        ) from None
    tokenizer.clean_up_tokenization_spaces = False
    # Whoever reads texts knows how long they may be, and what they are filled up with.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _require_class(file: Path, known: Sequence[str]) -> None:
    """Raises UserError if a folder without tokenizer.json names another class."""
    named = files.read_json(file).get("tokenizer_class") if file.exists() else None
    if named not in (None, *known):
        raise UserError(
            f"{file}: tokenizer_class is {named!r}, which has rules of its own; save "
            "it with transformers as a fast tokenizer, which writes a tokenizer.json."
        )


def _obey(backend, file: Path) -> None:
    """Undoes what transformers changes of a file's rules."""
    from tokenizers import Tokenizer

    stated = Tokenizer.from_file(str(file))
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        setattr(backend, part, getattr(stated, part))


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
