"""Audits a corpus, and gets PersonaChat.

python -m launch.prepare_data --data=persona_world     # the embedded corpus
python -m launch.prepare_data --data=data --download   # PersonaChat, 223 MB, once
"""

import sys
from pathlib import Path

from absl import flags

from ppg_jax.data import audit, corpus, dialogue, personachat
from ppg_jax.launching import fail, main

_DATA = flags.DEFINE_string("data", None, "Folder, file, hub:NAME or persona_world.")
_VERSION = flags.DEFINE_enum("version", "original", corpus.VERSIONS, "Of the personas.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Get PersonaChat into --data first.")
_TOKENIZER = flags.DEFINE_string("tokenizer", None, "Folder of one; else count words.")
_WRITE_JSONL = flags.DEFINE_string("write_jsonl", None, "Folder for SPLIT.jsonl.")


def prepare_data() -> None:
    if not _DATA.value:
        fail("--data is empty; give persona_world, hub:NAME or a path.")
    if _DOWNLOAD.value:
        personachat.download(_DATA.value, show_progress)
    config = corpus.DataConfig(source=_DATA.value, version=_VERSION.value)
    splits = corpus.load_splits(config)
    tokenize, unit = tokenizer()
    print(audit.table(audit.audit(splits, tokenize), unit))
    print(f"\n{unit} of the texts alone, without a prompt's prefixes and separators.")
    for split, dialogues in splits.items() if _WRITE_JSONL.value else ():
        path = Path(_WRITE_JSONL.value) / f"{split}.jsonl"
        dialogue.write_jsonl(dialogues, path)
        print(f"wrote {path}")


def tokenizer():
    """Text -> tokens, and what they are called."""
    if not _TOKENIZER.value:
        return str.split, "words"
    from ppg_jax.data import tokenization  # transformers takes seconds to import

    loaded = tokenization.load_tokenizer(_TOKENIZER.value)
    return lambda text: loaded.encode(text, add_special_tokens=False), "tokens"


def show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r{done / 1e6:.0f} of {total / 1e6:.0f} MB", end=end, file=sys.stderr)


if __name__ == "__main__":
    flags.mark_flag_as_required("data")
    main(prepare_data)
