"""Tokens of a tokenizer that the table of its model has no rows for."""

import json

_NEEDED = ("eos_token", "bos_token", "cls_token", "sep_token")
_NEEDLESS = ("pad_token", "mask_token", "unk_token")


def drop_rowless(tokenizer, rows: int) -> tuple[list[str], list[str]]:
    """(tokens that are left out from now on, tokens that may not be) of those beyond
    the `rows` of a model's table, as where some were added to its tokenizer alone.

    Left out is what no text needs: special tokens, unless they begin or end texts.
    """
    numbers = tokenizer.get_vocab()
    rowless = sorted((t for t, n in numbers.items() if n >= rows), key=numbers.get)
    if not rowless:
        return [], []
    backend = tokenizer.backend_tokenizer
    stated = json.loads(backend.to_str())
    special = {t["content"] for t in stated["added_tokens"] if t["special"]}
    needed = {getattr(tokenizer, name) for name in _NEEDED}
    needed |= backend.get_vocab(with_added_tokens=False).keys()
    dropped = [t for t in rowless if t in special - needed]
    if len(dropped) < len(rowless):
        return [], [t for t in rowless if t not in dropped]
    kept = [t for t in stated["added_tokens"] if t["content"] not in dropped]
    text = json.dumps(stated | {"added_tokens": kept})
    tokenizer._tokenizer = type(backend).from_str(text)
    for name in _NEEDLESS:
        if getattr(tokenizer, name) in dropped:
            setattr(tokenizer, name, None)
    more = [t for t in tokenizer.extra_special_tokens if t not in dropped]
    tokenizer.extra_special_tokens = more
    return dropped, []
