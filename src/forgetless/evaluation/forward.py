"""Teacher-forced passes over many examples, batched by length."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from forgetless.data.encoding import Example, collate, pad_id
from forgetless.data.model import Language
from forgetless.errors import ForgetlessError
from forgetless.evaluation import packed
from forgetless.evaluation.vision import Seen, image_inputs
from forgetless.progress import Advance, silent

LOGITS_BYTES = 512 << 20
"""The most that the logits of one batch of several sequences may take, in fp32; longer texts go in smaller batches."""
PACK_FROM = 4
"""From so many questions with several answers on a prompt is encoded once for all its answers: trying it out costs one of them."""


class NotNumbersError(ForgetlessError):
    """A model's outputs are not numbers (NaN)."""

    def __init__(self, language: Language) -> None:
        super().__init__(f"model {language.name}: its outputs are not numbers (NaN). Its weights are broken; take an earlier copy")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time being; every module then gets back the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def answer_logits(
    language: Language, examples: Sequence[Example], *, batch_size: int, advance: Advance = silent
) -> Iterator[tuple[int, Tensor]]:
    """For each example its index and the logits that predict its answer, fp32 of shape (answer tokens, vocabulary).

    Examples come in order of length, so that a batch pads little. Consecutive ones with the same prompt share a row in which the
    prompt stands once (`packed`), if the model gives the same numbers for the longest of them that way; else padding stands on the
    right, where a causal model cannot see it. Only the positions that predict an answer go through the output layer where the model
    allows it.

    Raises:
        NotNumbersError: the model gives no numbers (NaN).
    """
    found = packed.groups(examples)
    yield from _passes(language, examples, found if _packs(language, examples, found) else None, batch_size, advance)


def both_logits(
    before: Language, after: Language, examples: Sequence[Example], *, batch_size: int, advance: Advance = silent
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For each example its index and what `answer_logits` gives of either model, cut to the tokens that both have.

    Rows are shared where both models allow it. The order is that of `answer_logits`.

    Raises:
        NotNumbersError: a model gives no numbers (NaN).
    """
    found = packed.groups(examples)
    shared = found if _packs(before, examples, found) and _packs(after, examples, found) else None
    pairs = zip(_passes(before, examples, shared, batch_size, advance), _passes(after, examples, shared, batch_size, silent), strict=True)
    for (index, old), (same, new) in pairs:
        assert index == same
        width = min(old.shape[-1], new.shape[-1])  # the longer one has tokens that were added, or padding
        yield index, old[:, :width], new[:, :width]


def _passes(
    language: Language, examples: Sequence[Example], found: Sequence[packed.Group] | None, batch_size: int, advance: Advance
) -> Iterator[tuple[int, Tensor]]:
    """The passes of `answer_logits`: of the groups ``found`` packed, of single examples where it is None."""
    narrow = _narrow(language)
    config = language.model.config.get_text_config() if language.processor else language.model.config
    positions = LOGITS_BYTES // (4 * (getattr(config, "vocab_size", None) or len(language.tokenizer)))
    if found is not None:
        tokens = packed.CPU_TOKENS if language.model.device.type == "cpu" else None
        for rows in packed.batches(examples, found, batch_size, positions, tokens):
            for index, own in packed.packed_logits(language, examples, rows, narrow):
                yield index, _numbers(own, language)
            advance(sum(map(len, rows)))
        return
    for some in _batches(examples, batch_size, positions, narrow):
        for index, own in _plain(language, examples, some, narrow):
            yield index, _numbers(own, language)
        advance(len(some))


def log_probability(logits: Tensor, answer: Sequence[int]) -> float:
    """The mean log-probability of the tokens of ``answer`` under ``logits`` of shape (answer tokens, vocabulary)."""
    tokens = torch.tensor(answer, device=logits.device)
    return float((logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)).mean())


def _plain(language: Language, examples: Sequence[Example], rows: Sequence[int], narrow: bool) -> Iterator[tuple[int, Tensor]]:
    """The examples ``rows`` as one batch, a row each."""
    model, device = language.model, language.model.device
    own = [examples[index] for index in rows]
    batch = collate(own, pad_id(language.tokenizer))
    spans = [(len(one.prompt) - 1, len(one) - 1) for one in own]
    kept = sorted({position for first, last in spans for position in range(first, last)})
    inputs = {key: batch[key].to(device) for key in ("input_ids", "attention_mask")}
    inputs |= image_inputs(language, own, batch["input_ids"].shape[1])
    with torch.no_grad():  # not inference_mode: weights that FSDP gathers within it could not be trained afterwards
        if narrow:
            logits = model(**inputs, use_cache=False, logits_to_keep=torch.tensor(kept, device=device)).logits
        else:
            logits = model(**inputs, use_cache=False).logits[:, kept]
    place = {position: column for column, position in enumerate(kept)}
    for row, index in enumerate(rows):
        first, last = spans[row]
        yield index, logits[row, place[first] : place[last - 1] + 1].float()


def _numbers(logits: Tensor, language: Language) -> Tensor:
    if logits.isnan().any():
        raise NotNumbersError(language)
    return logits


def _narrow(language: Language) -> bool:
    """Whether the model can be asked for some positions' logits alone."""
    return "logits_to_keep" in inspect.signature(language.model.forward).parameters


def _packs(language: Language, examples: Sequence[Example], found: Sequence[packed.Group]) -> bool:
    """Whether packing is worth it, and the model gives the longest group of several answers the same numbers packed as one by one."""
    tolerance, narrow = packed.TOLERANCE.get(language.model.dtype), _narrow(language)
    if tolerance is None or sum(len(group) > 1 for group in found) < PACK_FROM:
        return False
    longest = max((group for group in found if len(group) > 1), key=lambda group: sum(len(examples[index]) for index in group))
    plain = list(_plain(language, examples, longest, narrow))
    try:
        together = packed.packed_logits(language, examples, [longest], narrow)
    except (ValueError, TypeError, RuntimeError, IndexError, AttributeError, NotImplementedError):
        return False  # a model that refuses such a mask or position ids is asked the plain way
    return packed.agrees(together, plain, tolerance)


def _batches(examples: Sequence[Example], size: int, positions: int, narrow: bool) -> Iterator[list[int]]:
    """Indexes in order of length: at most ``size`` together, no more than ``positions`` that need logits, none with images among others."""
    rows: list[int] = []
    answers = 0
    for index in sorted(range(len(examples)), key=lambda index: (isinstance(examples[index], Seen), len(examples[index]))):
        length, own = len(examples[index]), len(examples[index].answer)
        kept = min(length, answers + own) if narrow else length
        mixed = bool(rows) and isinstance(examples[index], Seen) != isinstance(examples[rows[0]], Seen)
        if rows and (len(rows) == size or (len(rows) + 1) * kept > positions or mixed):
            yield rows
            rows, answers = [], 0
        rows.append(index)
        answers += own
    if rows:
        yield rows
