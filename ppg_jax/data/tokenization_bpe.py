"""A tokenizer of GPT-2's kind from its parts, as a GGUF file has them.

Importing transformers waits until something is asked that needs it.
"""

import functools
from collections.abc import Iterable, Sequence


def byte_level_bpe(
    tokens: Sequence[str],
    merges: Sequence[tuple[str, str]],
    special: Iterable[str] = (),
    added: Iterable[str] = (),
    split_digits: bool = False,
    **settings,
):
    """A tokenizer of GPT-2's kind from its parts; `tokens` in the order of their ids.

    special: those of `tokens` that are never text. added: those that are text, and one
    token wherever they stand. split_digits: each digit is a word. settings: `eos_token`
    and the like. A character that has a byte without a token would vanish without a
    word; it is read as U+FFFD, or as "?" where that has none either.

    Raises:
      ValueError: no tokenizer can be made of these.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    special = list(special)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ValueError("a token stands twice in the vocabulary")
    try:
        backend = Tokenizer(models.BPE(vocabulary, list(merges)))
    except Exception as error:  # the tokenizers library raises plain Exceptions
        raise ValueError(str(error)) from None
    backend.normalizer = _replacing_the_unspeakable(vocabulary)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if split_digits else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*digits, byte_level])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(t, normalized=False) for t in special])
    backend.add_tokens([AddedToken(t, normalized=False) for t in added])
    made = Deferred(backend, settings)
    named = {text for name, text in settings.items() if name.endswith("_token")}
    # transformers makes them special, whatever the file says.
    return made if named <= set(special) else made.whole


class Deferred:
    """A `PreTrainedTokenizerFast` that is made when first it is asked for more than
    tokens and text, for importing transformers is a tenth of what a chat's first answer
    takes.

    settings: as transformers takes them; special tokens among them are those of the
    backend.
    """

    def __init__(self, backend, settings: dict):
        self._backend, self._settings = backend, settings

    @functools.cached_property
    def whole(self):
        from transformers import PreTrainedTokenizerFast

        whole = PreTrainedTokenizerFast(
            tokenizer_object=self._backend, **self._settings
        )
        # Which is no part of what a copy is made of.
        encodes = self._backend.encode_special_tokens
        whole.backend_tokenizer.encode_special_tokens = encodes
        return whole

    @property
    def backend_tokenizer(self):
        made = "whole" in vars(self)
        return self.whole.backend_tokenizer if made else self._backend

    @property
    def eos_token_id(self) -> int | None:
        end = self._settings.get("eos_token")
        return None if end is None else self.backend_tokenizer.token_to_id(end)

    def get_vocab(self) -> dict[str, int]:
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    def decode(self, ids, skip_special_tokens=False, **options) -> str:
        if options != {"clean_up_tokenization_spaces": False}:
            return self.whole.decode(ids, skip_special_tokens, **options)
        return self.backend_tokenizer.decode(list(ids), skip_special_tokens)

    def __call__(self, *texts, **options):
        return self.whole(*texts, **options)

    def __len__(self) -> int:
        return len(self.whole)

    def __getattr__(self, name: str):
        if name.startswith("_"):  # of a copy that has nothing yet
            raise AttributeError(name)
        return getattr(self.whole, name)


def _symbols() -> dict[int, str]:
    """What stands for each byte in GPT-2's tokens: itself if it is seen, or another."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unseen = sorted(set(range(0x100)) - set(seen))
    others = {byte: chr(0x100 + i) for i, byte in enumerate(unseen)}
    return {byte: chr(byte) for byte in seen} | others


def _replacing_the_unspeakable(vocabulary):
    from tokenizers import Regex, normalizers

    symbols = _symbols()
    lacking = sorted(byte for byte in symbols if symbols[byte] not in vocabulary)
    if any(0x80 <= byte < 0xC0 for byte in lacking):
        raise ValueError("bytes from 0x80 to 0xBF have no tokens: not byte-level")
    spans = [span for span in map(_characters, lacking) if span]
    if not spans:
        return None
    left = next(c for c in "\ufffd?" if not any(a <= ord(c) <= b for a, b in spans))
    pattern = "".join(rf"\x{{{a:x}}}-\x{{{b:x}}}" for a, b in spans)
    return normalizers.Replace(Regex(f"[{pattern}]"), left)


def _characters(byte: int) -> tuple[int, int] | None:
    """First and last character whose UTF-8 begins with `byte`."""
    if byte < 0x80:
        return byte, byte
    # Shorter characters have a shorter form: with these first bytes they are illegal.
    forms = ((0xF0, 18, 0x10000), (0xE0, 12, 0x800), (0xC0, 6, 0x80))
    mark, bits, least = next(form for form in forms if byte >= form[0])
    start = (byte - mark) << bits
    first, last = max(start, least), min(start + (1 << bits) - 1, 0x10FFFF)
    return (first, last) if first <= last else None
