"""Texts as token ids: many in one call, which fast tokenizers share out among the cores, and each text once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["MOST", "Text", "tokenized"]

Text = tuple[str, bool]
"""A text, and whether it gets the special tokens that the tokenizer puts before every text."""

MOST = 1 << 22
"""So many tokens are remembered of a tokenizer, four bytes each; then it begins anew."""
_AT_ONCE = 4096
_SAMPLE: Text = ("A sample: 1 é\n", True)


class _Memory:
    """What a tokenizer made of texts, as long as it makes the same of them."""

    def __init__(self) -> None:
        self.known: dict[Text, array[int]] = {}
        self.state: tuple[int, list[int]] | None = None
        self.size = 0


_memories: WeakKeyDictionary[Any, _Memory] = WeakKeyDictionary()


def tokenized(tokenizer: Any, texts: Iterable[Text]) -> dict[Text, tuple[int, ...]]:
    """The tokens of each text: with what the tokenizer puts before every text where it gets special tokens, never with what it puts after.

    What is not remembered goes to the tokenizer in one call. It is all forgotten where the tokenizer has got tokens since, or treats a
    sample otherwise (``add_bos_token``, say).

    Args:
        tokenizer: a Hugging Face tokenizer.
        texts: any number, some of them equal.
    """
    memory = _memories.setdefault(tokenizer, _Memory())
    state = (len(tokenizer), _asked(tokenizer, [_SAMPLE])[0])
    if memory.state != state or memory.size > MOST:
        memory.known, memory.size, memory.state = {}, 0, state
    wanted = dict.fromkeys(texts)
    new = [text for text in wanted if text not in memory.known]
    for start in range(0, len(new), _AT_ONCE):
        some = new[start : start + _AT_ONCE]
        for text, ids in zip(some, _asked(tokenizer, some), strict=True):
            memory.known[text] = array("i", ids)
            memory.size += len(ids)
    return {text: tuple(memory.known[text]) for text in wanted}


def _asked(tokenizer: Any, texts: list[Text]) -> list[list[int]]:
    """What the tokenizer makes of ``texts``, in their order."""
    made: dict[int, list[int]] = {}
    for special in (False, True):
        places = [place for place, text in enumerate(texts) if text[1] == special]
        if not places:
            continue
        found = tokenizer([texts[place][0] for place in places], add_special_tokens=special, return_special_tokens_mask=True)
        for place, ids, added in zip(places, found["input_ids"], found["special_tokens_mask"], strict=True):
            closing = next((n for n, mark in enumerate(reversed(added)) if not mark), max(0, len(ids) - 1)) if special else 0
            made[place] = list(ids[: len(ids) - closing])
    return [made[place] for place in range(len(texts))]
