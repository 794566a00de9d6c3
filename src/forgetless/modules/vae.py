"""A small variational autoencoder (Kingma & Welling 2014), and the generator of old inputs made of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from forgetless.errors import InputError


class VAE(nn.Module):
    r"""Fully connected, with ReLU. Its loss is :math:`-\log p(x|z) + KL(q(z|x) \| N(0, I))`, mean over examples.

    Args:
        size: numbers in an input.
        hidden: widths of the encoder's layers; the decoder's are the same, backwards.
        latent: dimensions of z.
        binary: inputs lie in [0, 1]: :math:`-\log p` is the summed binary cross-entropy. Else it is that of a Gaussian whose one
            variance is the best for the batch (Rybkin et al. 2021, arXiv 2006.13202): :math:`\tfrac{size}{2} \log MSE`.
    """

    def __init__(self, size: int, hidden: Sequence[int], latent: int, binary: bool) -> None:
        super().__init__()
        self.latent, self.binary = latent, binary
        self.encoder, self.heads = _layers([size, *hidden]), nn.Linear(hidden[-1], 2 * latent)
        self.decoder = nn.Sequential(*_layers([latent, *reversed(hidden)]), nn.Linear(hidden[0], size))

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """Of inputs (examples, size), with standard normal ``noise`` (examples, latent)."""
        mean, log_variance = self.heads(self.encoder(x)).chunk(2, -1)
        made = self.decoder(mean + (log_variance / 2).exp() * noise)
        if self.binary:
            distance = binary_cross_entropy_with_logits(made, x, reduction="none").sum(-1).mean()
        else:
            distance = 0.5 * x.shape[-1] * ((made - x).square().mean() + 1e-8).log()
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(-1).mean()
        total: Tensor = distance + divergence
        return total

    def decode(self, z: Tensor) -> Tensor:
        """The mean of the inputs that belong to ``z``."""
        made: Tensor = self.decoder(z)
        return made.sigmoid() if self.binary else made


class VAEGenerator:
    """Makes inputs like those of the tasks it has learned (deep generative replay, Shin et al. 2017, arXiv 1705.08690).

    Each task is learned together with samples of the generator as it stood before, which count for all earlier tasks alike:
    with n tasks the new inputs weigh 1/n (van de Ven & Tolias 2019). It goes on from its weights, with a fresh Adam.

    Args:
        hidden, latent: of the `VAE`.
        steps: optimizer steps a task; None: one for each of its batches.
        lr: Adam's learning rate.
        seed: of its first weights.

    Attributes:
        learned: tasks learned so far; it can sample once there is one.
    """

    def __init__(
        self, hidden: Sequence[int] = (400, 400), latent: int = 100, steps: int | None = None, lr: float = 1e-3, seed: int = 0
    ) -> None:
        self.hidden, self.latent, self.steps, self.lr, self.seed = tuple(hidden), latent, steps, lr, seed
        self.learned = 0
        self.shape: tuple[int, ...] = ()
        self.vae: VAE | None = None

    def learn(self, batches: Iterable[Any], draw: torch.Generator) -> list[float]:
        """Learn the inputs of one task; gives the loss on the new inputs at each step."""
        losses: list[float] = []
        before = copy.deepcopy(self.vae) if self.learned else None
        share, optimizer = 1 / (self.learned + 1), None
        with torch.enable_grad():
            for batch in self._walk(batches):
                whole = inputs(batch)
                x = whole.detach().flatten(1).to(torch.float64 if whole.dtype == torch.float64 else torch.float32)
                if self.vae is None:
                    self.shape = tuple(whole.shape[1:])
                    self.vae = self._make(bool(x.min() >= 0 and x.max() <= 1)).to(x)
                optimizer = optimizer or torch.optim.Adam(self.vae.to(x.device).parameters(), lr=self.lr)
                new = self.vae.loss(x, _noise(len(x), self.latent, draw, x))
                losses.append(float(new.detach()))
                total = new
                if before is not None:
                    with torch.no_grad():
                        old = before.to(x.device).decode(_noise(len(x), self.latent, draw, x))
                    total = share * new + (1 - share) * self.vae.loss(old, _noise(len(x), self.latent, draw, x))
                optimizer.zero_grad()
                total.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
                optimizer.step()
        if self.vae is None:
            raise InputError(
                "the task gives no batch to learn to generate", where="generator", mend="Give batches that can be walked again"
            )
        self.learned += 1
        return losses

    def sample(self, count: int, draw: torch.Generator) -> Tensor:
        """``count`` inputs; drawn one after another, so that 4 and 4 are the same as 8."""
        assert self.vae is not None, "nothing learned yet"
        like = next(self.vae.parameters())
        noise = torch.stack([torch.randn(self.latent, generator=draw, dtype=like.dtype) for _ in range(count)])
        with torch.no_grad():
            return self.vae.decode(noise.to(like.device)).view(count, *self.shape)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        weights = {} if self.vae is None else {name: value.clone() for name, value in self.vae.state_dict().items()}
        return {"learned": self.learned, "shape": self.shape, "binary": self.vae is not None and self.vae.binary, "weights": weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.learned, self.shape, self.vae = state["learned"], tuple(state["shape"]), None
        if state["weights"]:
            self.vae = self._make(state["binary"]).to(next(iter(state["weights"].values())))
            self.vae.load_state_dict(state["weights"])

    def _make(self, binary: bool) -> VAE:
        with torch.random.fork_rng([]):
            torch.manual_seed(self.seed)
            return VAE(max(1, torch.Size(self.shape).numel()), self.hidden, self.latent, binary)

    def _walk(self, batches: Iterable[Any]) -> Iterator[Any]:
        """As many batches as there are steps, again from the start where they run out."""
        left = self.steps
        while left is None or left:
            taken = 0
            for batch in batches:
                taken += 1
                yield batch
                if left is not None:
                    left -= 1
                    if not left:
                        return
            if left is None or not taken:
                return


def inputs(batch: Any) -> Tensor:
    """The float inputs of a batch: the tensor, the first of a pair, or the one float tensor of a mapping.

    Raises:
        InputError: there are none, so no autoencoder can learn to make them.
    """
    if isinstance(batch, Mapping):
        found = [value for key, value in batch.items() if key != "labels" and isinstance(value, Tensor) and value.is_floating_point()]
        x = found[0] if len(found) == 1 else None
    else:
        x = batch[0] if isinstance(batch, Sequence) else batch
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise InputError(
            "the batches hold no float inputs that the built-in generator could learn to make",
            where="generative-replay.generator",
            mend="Give GenerativeReplay(generator=...) an object with learn(batches, draw) and sample(count, draw)",
        )
    return x


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for size, following in pairwise(sizes):
        parts += [nn.Linear(size, following), nn.ReLU()]
    return nn.Sequential(*parts)


def _noise(count: int, latent: int, draw: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(count, latent, generator=draw, dtype=like.dtype).to(like.device)
