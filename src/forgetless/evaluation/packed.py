"""One prompt with several answers in one row: the prompt is encoded once, and no answer sees another.

A row is padding, the prompt, answer 1, answer 2, ... (each without its last token, after which nothing is predicted); a mask of
four dimensions lets every answer see the prompt and itself, and position ids go on from the prompt for each. For four short options
that is less than a third of the tokens, with the same numbers up to rounding. Models that cannot take such a mask (attention without
one, state spaces, positions by distance) are found out by trying.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from forgetless.data.encoding import Example
from forgetless.data.model import Language

CPU_TOKENS = 384
"""On a CPU, whose speed does not grow beyond that, the most tokens of a batch: more only means more padding."""
MASK_PLACES = 16 << 20
"""The most places of the masks of one batch: 64 MB in fp32."""
TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-6}
"""The largest difference in log-probability to a pass without packing; other data types are not packed, for their rounding is coarse."""

Group = list[int]


def groups(examples: Sequence[Example]) -> list[Group]:
    """Indexes of consecutive examples with the same prompt."""
    found: list[Group] = []
    for index, example in enumerate(examples):
        if found and type(example) is Example and example.prompt == examples[found[-1][0]].prompt:
            found[-1].append(index)
        else:
            found.append([index])
    return found


def batches(
    examples: Sequence[Example], found: Sequence[Group], size: int, positions: int, tokens: int | None = None
) -> Iterator[list[Group]]:
    """Groups in order of length: at most ``size`` together and ``tokens`` with padding, with at most ``positions`` that need logits."""
    rows: list[Group] = []
    prompt = answers = 0
    for group in sorted(found, key=lambda group: (len(examples[group[0]].prompt), _answers(examples, group))):
        wide, tall = max(answers, _answers(examples, group)), max(prompt, len(examples[group[0]].prompt))
        count = len(rows) + 1
        padded = count * (wide + tall)
        full = count > size or (tokens is not None and padded > tokens)
        if rows and (full or count * (wide + 1) > positions or padded * (wide + tall) > MASK_PLACES):
            yield rows
            rows, wide, tall = [], _answers(examples, group), len(examples[group[0]].prompt)
        rows.append(group)
        answers, prompt = wide, tall
    if rows:
        yield rows


def packed_logits(language: Language, examples: Sequence[Example], rows: Sequence[Group], narrow: bool) -> list[tuple[int, Tensor]]:
    """For each example of ``rows`` its index and the logits that predict its answer, of shape (answer tokens, vocabulary)."""
    model = language.model
    prompts = max(len(examples[group[0]].prompt) for group in rows)
    length = prompts + max(_answers(examples, group) for group in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    positions = torch.zeros_like(ids)
    sees = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)  # padding sees itself: a softmax over nothing is not a number
    columns: list[tuple[int, int, list[int]]] = []
    for row, group in enumerate(rows):
        prompt = examples[group[0]].prompt
        start, place = prompts - len(prompt), prompts
        ids[row, start:prompts] = torch.tensor(prompt)
        positions[row, start:prompts] = torch.arange(len(prompt))
        sees[row, start:prompts, start:prompts] = torch.ones(len(prompt), len(prompt)).tril().bool()
        for index in group:
            answer = examples[index].answer[:-1]
            end = place + len(answer)
            ids[row, place:end] = torch.tensor(answer)
            positions[row, place:end] = torch.arange(len(prompt), len(prompt) + len(answer))
            sees[row, place:end, start:prompts] = True
            sees[row, place:end, place:end] = torch.ones(len(answer), len(answer)).tril().bool()
            columns.append((row, index, [prompts - 1, *range(place, end)]))
            place = end
    kept = sorted({column for *_, own in columns for column in own})
    mask = torch.zeros(len(rows), 1, length, length, dtype=model.dtype).masked_fill_(~sees[:, None], torch.finfo(model.dtype).min)
    inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device), "position_ids": positions.to(model.device)}
    with torch.no_grad():
        if narrow:
            logits = model(**inputs, use_cache=False, logits_to_keep=torch.tensor(kept, device=model.device)).logits
        else:
            logits = model(**inputs, use_cache=False).logits[:, kept]
    place_of = {column: number for number, column in enumerate(kept)}
    return [(index, logits[row, [place_of[column] for column in own]].float()) for row, index, own in columns]


def agrees(packed: Sequence[tuple[int, Tensor]], plain: Sequence[tuple[int, Tensor]], tolerance: float) -> bool:
    """Whether both give every token of every answer the same log-probabilities, of the tokens that matter: those above 1e-6."""
    other = dict(plain)
    for index, own in packed:
        p, q = own.log_softmax(-1), other[index].log_softmax(-1)
        likely = (p > -14) | (q > -14)
        if not bool(((p - q).abs() <= tolerance)[likely].all()):
            return False
    return True


def _answers(examples: Sequence[Example], group: Group) -> int:
    return sum(len(examples[index].answer) - 1 for index in group)
