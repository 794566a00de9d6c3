"""A plan: what is compared with what, on which data, at which budget. Read from YAML and checked before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from forgetless.comparison.yaml_lines import MEND, Lines
from forgetless.errors import InputError
from forgetless.train.settings import as_number

LARGEST_SEED = 2**63 - 1
SEED = "{seed}"
"""In the name of a question file: the seed of the training, so that every seed has questions of its own."""


def _listed(value: Any) -> Any:
    """A single value may stand for a list of one."""
    return value if isinstance(value, list) else [value]


def _distinct(values: list[Any]) -> list[Any]:
    if not values:
        raise ValueError("at least one is needed")
    twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} stands twice")
    return values


def _seeds(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError("at least one seed is needed")
        return list(range(value))
    return value


Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), BeforeValidator(as_number)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(as_number)]
Rates = Annotated[list[Rate], BeforeValidator(_listed)]
Names = Annotated[list[str], BeforeValidator(_listed)]
Whole = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1, max_length=80)]


def _dashed(name: str) -> str:
    return name.replace("_", "-")


class _Strict(BaseModel):
    """Unknown keys are refused, and no value is turned into another kind. Keys may have dashes, as flags do, or underscores."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_by_name=True, alias_generator=_dashed)


class Data(_Strict):
    """One data set: question files by split, or one that is built in."""

    builtin: Literal["demo"] | None = None
    inject: str | None = None
    retain: str | None = None
    retain_heldout: str | None = None
    inject_heldout: str | None = None
    probes: dict[Text, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"builtin": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _something(self) -> Data:
        if self.builtin is None and self.inject is None:
            raise ValueError("inject is missing: the questions to learn")
        if self.builtin is not None and (self.inject or self.retain or self.retain_heldout or self.inject_heldout or self.probes):
            raise ValueError(f"{self.builtin} has files of its own; name either")
        for name in self.probes:
            if name in ("inject", "retain", "retain-heldout", "inject-heldout", "..", ".") or "/" in name:
                raise ValueError(f"{name!r} cannot be the name of a probe")
        return self

    def files(self) -> dict[str, str]:
        """Question files by the name of their split."""
        named = {"inject": self.inject, "inject-heldout": self.inject_heldout, "retain": self.retain, "retain-heldout": self.retain_heldout}
        return {name: file for name, file in named.items() if file is not None} | self.probes

    @property
    def by_seed(self) -> bool:
        """Whether some file is another one for each seed."""
        return any(SEED in file for file in self.files().values())

    def at(self, seed: int) -> Data:
        """The data set as a training with this seed sees it."""
        files = {name.replace("-", "_"): file.replace(SEED, str(seed)) for name, file in self.files().items() if name not in self.probes}
        probes = {name: file.replace(SEED, str(seed)) for name, file in self.probes.items()}
        return self.model_copy(update={**files, "probes": probes})


class Contender(_Strict):
    """A method, or a chain, with what is tried of it.

    Attributes:
        method: a name, or several joined by commas.
        label: how it is called; the method where that is left out.
        options: ``option`` of a single method, ``method.option`` in a chain; a list holds values to try.
        rates, optimizers: in place of the plan's.
        old_data: whether it may look at the retain set, which is scored in any case.
    """

    method: Text
    label: Text | None = None
    options: dict[str, Any] = {}
    rates: Rates | None = None
    optimizers: Names | None = None
    old_data: bool = True

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    _own_rates = field_validator("rates", "optimizers")(lambda value: value if value is None else _distinct(value))

    @property
    def names(self) -> tuple[str, ...]:
        """The methods, in the order in which they apply."""
        return tuple(part.strip() for part in self.method.split(",") if part.strip())

    @property
    def title(self) -> str:
        """The label, or the method."""
        return self.label or ",".join(self.names)


class Budget(_Strict):
    """What every run may spend: so many epochs, steps or seconds of training, and where it may end before."""

    epochs: Whole | None = None
    steps: Whole | None = None
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    until_learned: Share | None = None

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if sum(value is not None for value in (self.epochs, self.steps, self.seconds)) != 1:
            raise ValueError("give one of epochs, steps and seconds")
        return self


def _one_or_several(value: Any) -> Any:
    """A single data set stands for one called ``data``, or by the name of what is built in."""
    if isinstance(value, str):
        return {value: value}
    alone = isinstance(value, dict) and any(str(key).replace("-", "_") in Data.model_fields for key in value)
    return {"data": value} if alone else value


class Plan(_Strict):
    """Everything that a comparison is asked to do. `docs/compare.md` says what each key means."""

    title: Text = "Comparison"
    model: Text = "smollm2-135m"
    data: Annotated[dict[Text, Data], Field(min_length=1), BeforeValidator(_one_or_several)]
    methods: Annotated[list[Contender], Field(min_length=1), BeforeValidator(_listed)]
    rates: Rates | None = None
    optimizers: Names = ["adamw"]
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=LARGEST_SEED)]], BeforeValidator(_seeds)] = [0, 1, 2]
    budget: Budget
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    batch_size: Whole = 8
    retain_batch_size: Whole = 16
    eval_batch_size: Whole = 32
    scorer: str = "exact"
    template: str | None = None
    limit: Whole | None = None
    device: str = "auto"
    dtype: str = "float32"
    checkpoint_every: Whole | None = None
    levels: Annotated[list[Share], Field(min_length=1)] = [0.5, 0.8, 0.9]
    validation: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.3
    trials: Whole | None = None
    baselines: list[str] | None = None
    threads: Whole = 1
    keep_models: bool = False
    out: str | None = None
    jobs: Whole | None = None
    ray: bool = False
    prune: bool = False
    _lines: Lines | None = None

    _distinct_lists = field_validator("rates", "optimizers", "seeds", "levels")(lambda value: value if value is None else _distinct(value))

    @model_validator(mode="after")
    def _together(self) -> Plan:
        labels = [one.title for one in self.methods]
        twice = next((label for index, label in enumerate(labels) if label in labels[:index]), None)
        if twice is not None:
            raise ValueError(f"methods: {twice!r} stands twice; give each a label of its own")
        missing = next((name for name in self.baselines or () if name not in labels), None)
        if missing is not None:
            raise ValueError(f"baselines: {missing!r} is not among the methods ({', '.join(labels)})")
        without = next((one.title for one in self.methods if one.rates is None), None)
        for name in self.data:
            if "/" in name or "\\" in name or name.startswith("."):
                raise ValueError(f"data: {name!r} cannot be the name of a data set")
        if self.rates is None and without is not None:
            raise ValueError(f"rates is missing: learning rates to try, here or for {without!r}")
        names = [self.questions(name, seed) for name, one in self.data.items() for seed in (self.seeds if one.by_seed else self.seeds[:1])]
        twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
        if twice is not None:
            raise ValueError(f"data: {twice!r} is what the questions of another data set are called at that seed")
        return self

    def questions(self, data: str, seed: int) -> str:
        """What the questions of a data set are called at a seed: as the data set, or ``data@seed`` where its files differ by seed."""
        return f"{data}@{seed}" if self.data[data].by_seed else data

    def told(self, place: Sequence[str | int], what: str) -> str:
        """``what``, after file and line of the value at ``place`` (keys and indices from the top) where the plan was read from a file."""
        return f"{self._lines.where(place)}, {what}" if self._lines else what

    @property
    def compared_with(self) -> list[str]:
        """The labels of the baselines: those named, or those of none and replay that are in the plan."""
        labels = [one.title for one in self.methods]
        return [name for name in ("none", "replay") if name in labels] if self.baselines is None else self.baselines


def read_plan(path: Path) -> Plan:
    """The plan in a YAML file, with paths made absolute from the folder of that file.

    Raises:
        InputError: naming the file, the line, what is wrong and how to mend it.
    """
    lines = Lines(path)
    try:
        plan = Plan.model_validate(lines.value)
    except ValidationError as error:
        raise _told(error, lines) from None
    plan._lines = lines
    folder = path.absolute().parent
    data = {name: one.model_copy(update=_absolute(one, folder)) for name, one in plan.data.items()}
    model = str(folder / plan.model) if (folder / plan.model).is_dir() else plan.model
    return plan.model_copy(update={"data": data, "model": model, "out": plan.out and str(folder / plan.out)})


def _absolute(one: Data, folder: Path) -> dict[str, Any]:
    def of(file: str) -> str:
        path = Path(file).expanduser()
        beside = folder / path
        return str(beside) if beside.exists() or path.suffix.lower() in (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet") else file

    found: dict[str, Any] = {}
    for name in ("inject", "retain", "retain_heldout", "inject_heldout"):
        file = getattr(one, name)
        found[name] = file and of(file)
    return found | {"probes": {name: of(file) for name, file in one.probes.items()}}


def _told(error: ValidationError, lines: Lines) -> InputError:
    """The first thing that is wrong, where it stands, and how many more there are."""
    problems = error.errors(include_url=False, include_context=True)
    first, place = problems[0], [part for part in problems[0]["loc"] if not str(part).startswith("function-")]
    key = ".".join(str(part) for part in place)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    kind, given = first["type"], first.get("input")
    if kind == "extra_forbidden":
        what, mend = f"unknown key {place[-1]!r}", f"The keys here are {', '.join(_keys(place))}"
    elif kind == "missing":
        what, mend = f"{key} is missing", MEND
    elif kind == "value_error":
        what, mend = (f"{key}: " if key else "") + str(first["ctx"]["error"]), MEND
        place = place or [what.partition(":")[0]]
    else:
        shown = repr(given) if not isinstance(given, dict | list) or len(repr(given)) < 60 else type(given).__name__
        what, mend = f"{key} = {shown} is not allowed", first["msg"].replace("Input should", "It should")
        if isinstance(given, float) and math.isnan(given):
            mend = "It should be a number"
    return InputError(what + more, where=lines.where(place), mend=mend)


def _keys(place: list[Any]) -> list[str]:
    """The keys that are known where an unknown one stands."""
    inside: dict[str, type[BaseModel]] = {"methods": Contender, "budget": Budget, "data": Data}
    model = Plan if len(place) == 1 else inside[str(place[0])]
    return [_dashed(name) for name in model.model_fields]
