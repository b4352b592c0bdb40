"""Tokenizers as they lie in folders, of Hugging Face's form or of older ones."""

import os
from collections.abc import Sequence
from pathlib import Path

from ppg_jax import files
from ppg_jax.errors import UserError

# "PyTorch was not found": nothing here asks transformers for a model.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

END_OF_TEXT = "<|endoftext|>"
CONFIG = "tokenizer_config.json"
_RULES = "tokenizer.json"
# Of a tokenizer, and what the largest, of a million tokens, stays far below.
_FILES = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"}
_FILES |= {"vocab.txt", "added_tokens.json", "special_tokens_map.json"}
_MOST_BYTES = 1 << 28
# What GPT-2's and BERT's own folders leave to the class that is meant to read them.
_USUAL = {
    "eos_token": END_OF_TEXT,
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
# By whose rules vocab.json with merges.txt, and vocab.txt, are read.
_OF_MERGES = ("GPT2Tokenizer", "GPT2TokenizerFast")
_OF_PIECES = tuple(
    f"{name}Tokenizer{end}"
    for name in ("Bert", "DistilBert", "Electra")
    for end in ("", "Fast")
)


def load_tokenizer(path):
    """The fast tokenizer of a folder in Hugging Face form.

    A folder with only `tokenizer.json`, only `vocab.json` and `merges.txt` (GPT-2), or
    only `vocab.txt` (BERT, lower case) will do. What `tokenizer.json` says holds,
    whatever class stands beside it, and text is what the tokens say, without a
    clean-up. Tokens that end, begin or fill up a text are GPT-2's and BERT's where the
    folder names none and has these; beside `tokenizer.json` alone the end is what
    config.json says, or else what separates texts, too.
    Raises UserError where there is no tokenizer, or one that cannot be read.
    """
    path = Path(path)
    names = {p.name for p in path.iterdir()} if path.is_dir() else set()
    kind = _kind(path, names)
    alone = not names & {CONFIG, "vocab.json", "vocab.txt"}
    for name in sorted(names & _FILES):
        files.require_file(path / name, "get it again.")
        if (size := (path / name).stat().st_size) > _MOST_BYTES:
            raise UserError(
                f"{path / name} has {size:,} bytes, expected {_MOST_BYTES:,} at most; "
                "get it again."
            )
    try:
        tokenizer = kind.from_pretrained(str(path), trust_remote_code=False)
        if _RULES in names:
            _obey(tokenizer.backend_tokenizer, path / _RULES)
        _name_usual(tokenizer, _ends_beside(path) if alone else [END_OF_TEXT])
    except Exception as error:  # of any kind: both libraries raise plain Exceptions
        raise _unreadable(path, names, error) from None
    tokenizer.clean_up_tokenization_spaces = False
    # Whoever reads texts knows how long they may be, and what they are filled up with.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _kind(path: Path, names: set[str]) -> type:
    """The class of transformers that reads a folder with these files."""
    from transformers import (
        BertTokenizerFast,
        GPT2TokenizerFast,
        PreTrainedTokenizerFast,
    )

    if {_RULES, CONFIG} <= names:
        return PreTrainedTokenizerFast
    if {"vocab.json", "merges.txt"} <= names:
        _require_class(path / CONFIG, _OF_MERGES)
        return GPT2TokenizerFast
    if "vocab.txt" in names:
        _require_class(path / CONFIG, _OF_PIECES)
        return BertTokenizerFast
    if _RULES in names:
        return PreTrainedTokenizerFast
    raise UserError(
        f"{path}: no tokenizer here; expected tokenizer.json, or vocab.json with "
        "merges.txt (GPT-2), or vocab.txt (BERT)."
    )


def _name_usual(tokenizer, ends: Sequence[str | int]) -> None:
    """Names what a folder leaves unsaid; ends: tokens, or numbers, of which the first
    that is known ends a text."""
    known = tokenizer.get_vocab()
    ends = [_token(tokenizer, end) for end in ends]
    end = next((token for token in ends if token in known), END_OF_TEXT)
    for name, token in {**_USUAL, "eos_token": end}.items():
        if getattr(tokenizer, name) is None and token in known:
            setattr(tokenizer, name, token)


def _token(tokenizer, end: str | int) -> str | None:
    if isinstance(end, str):
        return end
    in_range = 0 <= end < 2**31  # of tokenizers' numbers
    return tokenizer.convert_ids_to_tokens(end) if in_range else None


def _ends_beside(path: Path) -> list[str | int]:
    """What may end a text where tokenizer.json alone tells of the tokens."""
    config = path / "config.json"
    told = files.read_json(config).get("eos_token_id") if config.exists() else None
    stated = told if isinstance(told, list) else [told]  # any of several ends it
    numbers = [number for number in stated if type(number) is int]
    return [*numbers, END_OF_TEXT, _USUAL["sep_token"]]


def _unreadable(path: Path, names: set[str], error: Exception) -> UserError:
    """The error of a library, with the file that it is of where one is damaged."""
    if isinstance(error, UserError):
        return error
    again = "get it again, or give another folder."
    for name in sorted(n for n in names & _FILES if n.endswith(".json")):
        try:
            files.read_json(path / name, again)
            if name == _RULES:
                _stated(path / name)
        except UserError as damaged:
            return damaged
        except Exception as found:  # of tokenizers
            path, error = path / name, found
            break
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    told = f"the tokenizer cannot be read ({reason.rstrip('.')})"
    return UserError(f"{path}: {told}; {again}")


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
    stated = _stated(file)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        setattr(backend, part, getattr(stated, part))


def _stated(file: Path):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))


def require_config(folder: Path, again: str) -> None:
    """Raises UserError where a tokenizer of ours has lost its `CONFIG`: which tokens
    end and fill up a text would be guessed."""
    if not (folder / CONFIG).exists():
        raise UserError(f"{folder / CONFIG} is missing; {again}")
