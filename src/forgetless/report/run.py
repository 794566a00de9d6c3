"""A run as plain typed values: what a run folder says, ready for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INJECT, INJECT_HELDOUT, RETAIN, RETAIN_HELDOUT = "inject", "inject-heldout", "retain", "retain-heldout"
STANDARD_SPLITS = (INJECT, INJECT_HELDOUT, RETAIN, RETAIN_HELDOUT)


@dataclass(frozen=True, slots=True)
class SplitCount:
    """One split at the end of one epoch, counted in items."""

    total: int
    right: int
    learned: int
    forgotten: int


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step; those that may be None are so where they were not reported.

    ``predicted`` and ``real``: the change of the retain loss by this step, to first order and measured.
    """

    step: int
    epoch: int
    loss: float
    lr: float
    seconds: float
    conflicting_fraction: float | None
    sign_flips: float | None
    predicted: float | None = None
    real: float | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """The state after an epoch; epoch 0 is before training. ``layers``: mean conflicting share by tensor name.

    Of a watched run: ``kl``, the forward and the reverse divergence from the start by sample; ``moved``, the relative movement by
    layer; ``circuit``, the rank correlation of the circuit with that at the start. ``flips``: the share of the signs turned at a
    refresh, by layer.
    """

    epoch: int
    step: int
    seconds: float
    splits: Mapping[str, SplitCount]
    layers: Mapping[str, float]
    kl: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    moved: Mapping[str, float] = field(default_factory=dict)
    flips: Mapping[str, float] = field(default_factory=dict)
    circuit: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One question: its outcome and what the model said before and after training."""

    id: str
    split: str
    subject: str | None
    prompt: str
    answer: str
    before: bool
    after: bool
    said_before: str | None
    said_after: str | None
    lang: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """Forgetting on a split the user named: ``total`` items right before, ``forgotten`` of them wrong after."""

    total: int
    forgotten: int


@dataclass(frozen=True, slots=True)
class Paired:
    """Before against after on one split: exact McNemar p-value, accuracy difference with its 95% interval."""

    n: int
    learned: int
    forgotten: int
    p_value: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Promise:
    """What became of a budget, on items that nobody saw; all but ``allowed`` are None where that was not checked."""

    allowed: float
    kept: bool | None = None
    forgotten: int | None = None
    total: int | None = None
    low: float | None = None
    high: float | None = None
    upper: float | None = None
    confidence: float | None = None
    acts: int | None = None
    blend: float | None = None


@dataclass(frozen=True, slots=True)
class GuardLook:
    """One look of the guard of a budget: of ``total`` known items of its probe ``forgotten`` were wrong; exact 95% interval."""

    step: int
    forgotten: int
    total: int
    low: float
    high: float
    expected: float | None
    good: bool | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class GuardAct:
    """One act of the guard: what it did (``what`` says to what) and why."""

    step: int
    act: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Watched:
    """``budget.jsonl``: the share allowed, the looks and the acts in their order."""

    allowed: float
    looks: tuple[GuardLook, ...]
    acts: tuple[GuardAct, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """``summary.json``: the figures of a finished run."""

    method: str
    model: str
    seed: int | None
    epochs_run: int
    steps: int
    seconds: float
    eval_seconds: float | None
    peak_memory_bytes: int | None
    stopped_because: str | None
    inject_total: int
    learned: int
    inject_heldout_total: int | None
    learned_heldout: int | None
    retain_total: int | None
    forgotten: int | None
    retain_heldout_total: int | None
    forgotten_heldout: int | None
    probes: Mapping[str, Probe]
    conflicting_fraction: float | None
    constraint_violation: float | None
    budget: Promise | None
    verdict: str | None
    paired: Mapping[str, Paired]


def counts_before(epochs: Sequence[Epoch]) -> Mapping[str, SplitCount]:
    """The counts before training, by split; none where these were not recorded."""
    return epochs[0].splits if epochs and epochs[0].epoch == 0 else {}


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder in memory. ``summary`` is None while the run is unfinished; ``notes`` tell what was amiss in the files."""

    folder: Path
    config: Mapping[str, Any]
    steps: tuple[Step, ...]
    epochs: tuple[Epoch, ...]
    items: tuple[Item, ...]
    summary: Summary | None
    notes: tuple[str, ...]
    watched: Watched | None = None

    @property
    def finished(self) -> bool:
        """Whether the run wrote its summary."""
        return self.summary is not None

    @property
    def method(self) -> str:
        """The method, or the chain of methods, as in the settings."""
        return str(self.summary.method if self.summary else self.config["method"])

    @property
    def model(self) -> str:
        """The model as named in the settings."""
        return str(self.summary.model if self.summary else self.config.get("model", "unknown"))

    @property
    def seed(self) -> int | None:
        """The seed, where one was recorded."""
        seed = self.summary.seed if self.summary else self.config.get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def probes(self) -> tuple[str, ...]:
        """Names of the splits that are neither inject nor retain, in the order of the files."""
        names = list(self.summary.probes) if self.summary else []
        names += [name for epoch in self.epochs for name in epoch.splits]
        return tuple(dict.fromkeys(name for name in names if name not in STANDARD_SPLITS))
