"""Tokens drawn from a language model, one position after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Forward = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""``forward(new_ids, past)``: the logits (rows, vocabulary) after the newest ids, and what it wants to be given as ``past`` next time."""


def draw_tokens(
    forward: Forward,
    prompts: Tensor,
    length: int,
    *,
    temperature: float,
    top_k: int | None,
    draw: torch.Generator,
    ends: Sequence[int] = (),
) -> list[list[int]]:
    """What follows each prompt: at most ``length`` tokens, up to and with the first of ``ends``.

    Args:
        forward: the model.
        prompts: of shape (rows, positions), all of one length.
        length: the most tokens to draw.
        temperature: the logits are divided by it.
        top_k: draw among so many of the likeliest only; None: among all.
        draw: the generator, on the CPU.
        ends: tokens that end a text.
    """
    made: list[list[int]] = [[] for _ in range(len(prompts))]
    open_rows, new, past = set(range(len(prompts))), prompts, None
    for _ in range(length):
        logits, past = forward(new, past)
        logits = logits.detach().cpu().float() / temperature
        if top_k is not None and top_k < logits.shape[-1]:
            likeliest = logits.topk(top_k).indices
            logits = torch.full_like(logits, -torch.inf).scatter(-1, likeliest, logits.gather(-1, likeliest))
        found = torch.multinomial(logits.softmax(-1), 1, generator=draw)
        for row in sorted(open_rows):
            made[row].append(int(found[row]))
            if made[row][-1] in ends:
                open_rows.discard(row)
        if not open_rows:
            break
        new = found.to(prompts.device)
    return made
