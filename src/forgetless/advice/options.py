"""What can be recommended: methods and chains with their costs in numbers.

Bytes are per parameter of an fp32 model, by what the method has to keep. ``compute`` is the rough time to learn as much, against
plain training's: by what the method has to do, and for auto, replay and CPL by what a 135M-parameter language model took at five seeds
(docs/results/study.md). `benchmarks/` measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Guarantee = Literal["exact", "wide", "strong", "some", "weak", "none"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A method, or a chain, that may be recommended.

    Attributes:
        methods: names of `METHODS`, in order.
        arguments: for ``--method-arg``.
        old_data: it needs examples of what must be kept.
        task_identity: it must be told the task at use.
        kinds: models it works on: ``language``, ``classifier`` (any module), ``sequential`` (a feed-forward network).
        bytes_per_parameter: beyond plain training, given the number of tasks.
        compute: time to learn as much, against plain training.
        guarantee: what it keeps: exactly everything; most of what its data covers, and other kinds of knowledge; the first of these;
            some; little.
        reason: one sentence, with where it is known from.
        single: makes sense where there is one task only.
        alone: ``compute`` where there is no old data, if that is another.
        later: ``guarantee`` over several tasks, if that is another.
        stores: without old data too it keeps examples of a task for those that follow.
    """

    methods: tuple[str, ...]
    old_data: bool
    task_identity: bool
    kinds: tuple[str, ...]
    bytes_per_parameter: Callable[[int], float]
    compute: float
    guarantee: Guarantee
    reason: str
    arguments: tuple[str, ...] = ()
    single: bool = True
    alone: float | None = None
    later: Guarantee | None = None
    stores: bool = False

    def time(self, *, old_data: bool) -> float:
        """``compute`` with old data or without."""
        return self.compute if old_data or self.alone is None else self.alone

    @property
    def name(self) -> str:
        """As ``--method`` takes it."""
        return ",".join(self.methods)


ALL = ("language", "classifier", "sequential")

CHOICES: tuple[Choice, ...] = (
    Choice(
        ("auto",), False, False, ("language",), lambda tasks: 0.0, 0.9, "wide",
        "the recipe: replay of the old examples, if there are any, and steps only where old inputs do not lie, which also keeps other "
        "kinds of knowledge; about a fifth of the weights is trained",
        alone=2.0, stores=True,
    ),
    Choice(
        ("replay",), True, False, ALL, lambda tasks: 0.0, 1.5, "strong",
        "training on old examples beside the new keeps these, and where the new contradicts the old also much that is like them; "
        "it costs a second batch a step and no memory on the device",
    ),
    Choice(
        ("replay", "cpl"), True, False, ALL, lambda tasks: 0.25, 3.0, "strong",
        "replay, and besides no weight moves against the old data: for the least loss, at the price of slower learning",
        ("cpl.refresh=4",),
    ),
    Choice(
        ("cpl",), True, False, ALL, lambda tasks: 0.25, 1.7, "strong",
        "holds back every weight on which old and new data disagree; keeps what its reference covers; learns more slowly",
        ("cpl.refresh=4", "cpl.retain_batches=1"),
    ),
    Choice(
        ("derpp",), True, False, ALL, lambda tasks: 0.0, 2.0, "strong",
        "replay of labels and of the old answers' logits: the best of the replay family on class-incremental streams",
        single=False,
    ),
    Choice(
        ("replay", "ewc", "gradient-protection"), True, False, ALL, lambda tasks: 8.0 * tasks, 2.0, "strong",
        "the classic protected step: replay with two brakes on the weights that matter",
    ),
    Choice(
        ("agem",), True, False, ALL, lambda tasks: 4.0, 2.0, "weak",
        "never steps against the mean old gradient; cheap, but one constraint protects the average only",
    ),
    Choice(
        ("gem",), True, False, ALL, lambda tasks: 4.0 * tasks, 3.0, "some",
        "never steps against any old task's gradient; its time and memory grow with the number of tasks",
        single=False,
    ),
    Choice(
        ("lora",), False, True, ALL, lambda tasks: 0.1 * tasks, 1.0, "exact",
        "an adapter for each task leaves the model itself untouched: what it knew is exactly there when the adapter is off",
        single=False,
    ),
    Choice(
        ("packnet",), False, True, ALL, lambda tasks: 1.0, 1.1, "exact",
        "each task gets weights of its own inside one model; earlier tasks stay exactly as they were, until the weights are used up",
        single=False,
    ),
    Choice(
        ("supermask",), False, True, ALL, lambda tasks: 4.0 + tasks / 8, 1.2, "exact",
        "the weights never change; a task is one bit a weight",
        single=False,
    ),
    Choice(
        ("progressive",), False, True, ("sequential",), lambda tasks: 16.0 * tasks, 2.0, "exact",
        "a column for each task: exact, and earlier features are reused, but the model grows with every task",
        single=False,
    ),
    Choice(
        ("kl",), False, False, ALL, lambda tasks: 4.0, 1.4, "some",
        "stays close to the old model's answers on the new inputs, the quantity that predicts forgetting; needs no old data",
    ),
    Choice(
        ("lwf",), False, False, ALL, lambda tasks: 4.0, 1.4, "some",
        "distils the old model's answers on the new inputs; needs no old data; weak where the new inputs are unlike the old",
    ),
    Choice(
        ("generative-replay",), False, False, ALL, lambda tasks: 0.0, 2.0, "some",
        "replays what the model itself makes up; better the better it can generate",
        later="strong",
    ),
    Choice(
        ("null-space",), False, False, ALL, lambda tasks: 0.0, 2.0, "strong",
        "steps only where inputs of earlier tasks do not lie: of these it keeps the covariance, and no example",
        single=False,
    ),
    Choice(
        ("l2sp",), False, False, ALL, lambda tasks: 4.0, 1.05, "weak",
        "pulls every weight back to where it began: simple and weak, a lower learning rate does much the same",
    ),
    Choice(
        ("online-ewc",), False, False, ALL, lambda tasks: 8.0, 1.05, "some",
        "a brake on the weights that mattered, of constant size whatever the number of tasks; needs a strength that fits",
        single=False,
    ),
    Choice(
        ("si",), False, False, ALL, lambda tasks: 16.0, 1.1, "some",
        "like EWC, with the importance collected while training instead of a pass over the data",
        single=False,
    ),
)  # fmt: skip
