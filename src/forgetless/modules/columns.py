"""A column of layers for every task, each looking at the hidden activations of those before it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from forgetless.errors import InputError

Adapter = Literal["mlp", "linear"]

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
_PASSING = ("activation", "pooling", "flatten", "dropout", "batchnorm", "normalization")
_Layer = TypeVar("_Layer", bound=nn.Module)


class ColumnNet(nn.Module):
    r"""Columns of the same shape, answered by one of them at a time (Rusu 2016, Eq. 1 and 2).

    The input of weighted layer i of column k, :math:`h_{i-1}^{(k)}`, is joined from the second layer on by what the earlier columns have
    there: :math:`W_i^{(k)} h_{i-1}^{(k)} + \text{lateral}(h_{i-1}^{(1)}, \dots, h_{i-1}^{(k-1)})`.

    Args:
        first: the first column: a feed-forward `torch.nn.Sequential` (they may be nested).
        task: the index of its task.

    Attributes:
        tasks: the index of the task of each column.
        active: the place of the column that answers.

    Raises:
        InputError: ``first`` is anything else.
    """

    def __init__(self, first: nn.Module, task: int) -> None:
        super().__init__()
        depth = sum(isinstance(layer, _WEIGHTED) for layer in _layers(first))
        if not depth:
            raise _unsupported("a network without a linear or conv layer")
        self.columns = nn.ModuleList([first])
        self.laterals = nn.ModuleList([nn.ModuleList()])
        self.tasks, self.active = [task], 0
        self.train(first.training)

    def add(self, task: int, adapter: Adapter, seed: int) -> None:
        """Freeze all columns and put a fresh one beside them, which answers from now on. Its weights depend on ``seed`` alone."""
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        lateral = {"mlp": MLPLateral, "linear": LinearLateral}[adapter]
        weighted = [layer for layer in _layers(self.columns[0]) if isinstance(layer, _WEIGHTED)]
        self.columns.append(_drawn(self.columns[0], seed, _fresh))
        self.laterals.append(
            nn.ModuleList(
                _drawn(layer, seed + depth, lambda layer: lateral(layer, len(self.tasks))) for depth, layer in enumerate(weighted[1:], 1)
            )
        )
        self.tasks.append(task)
        self.active = len(self.tasks) - 1
        self.train(self.training)

    def train(self, mode: bool = True) -> ColumnNet:
        """Set the mode of the newest column; frozen ones stay in evaluation mode, so that no statistic of theirs moves."""
        super().train(mode)
        for column in list(self.columns)[:-1]:
            column.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        inputs: list[list[Tensor]] = []  # by column: what its second and later weighted layers see
        for column in range(self.active):
            inputs.append(self._run(column, x, inputs)[1])
        return self._run(self.active, x, inputs)[0]

    def _run(self, column: int, x: Tensor, inputs: list[list[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """The answer of a column, and what its second and later weighted layers see."""
        own: list[Tensor] = []
        first = True
        for layer in _layers(self.columns[column]):
            if first or not isinstance(layer, _WEIGHTED):
                first, x = first and not isinstance(layer, _WEIGHTED), layer(x)
                continue
            own.append(x)
            x = layer(x)
            if column:
                x = x + self.laterals[column][len(own) - 1]([seen[len(own) - 1] for seen in inputs])  # type: ignore[index]  # a ModuleList
        return x, own


class LinearLateral(nn.Module):
    r"""Eq. 1: :math:`\sum_{j<k} U^{(k:j)} h^{(j)}`."""

    def __init__(self, layer: nn.Module, earlier: int) -> None:
        super().__init__()
        self.weights = nn.ModuleList(_without_bias(_fresh(layer)) for _ in range(earlier))

    def forward(self, inputs: list[Tensor]) -> Tensor:
        return torch.stack([weight(x) for weight, x in zip(self.weights, inputs, strict=True)]).sum(0)


class MLPLateral(nn.Module):
    r"""Eq. 2: :math:`U \sigma(V [\alpha_1 h^{(1)}, \dots, \alpha_{k-1} h^{(k-1)}])`.

    V projects to the width of one :math:`h` (for conv layers a convolution of size 1) and has a bias; :math:`\sigma` is the rectifier;
    each :math:`\alpha_j` is a learned scalar that starts as a normal draw of standard deviation 0.1.
    """

    def __init__(self, layer: nn.Module, earlier: int) -> None:
        super().__init__()
        own = next(layer.parameters())
        self.scales = nn.Parameter(torch.randn(earlier).mul_(0.1).to(own.dtype))
        if isinstance(layer, nn.Linear):
            self.reduce: nn.Module = nn.Linear(earlier * layer.in_features, layer.in_features)
        else:
            assert isinstance(layer, nn.Conv1d | nn.Conv2d)
            self.reduce = type(layer)(earlier * layer.in_channels, layer.in_channels, 1)
        self.reduce.to(own.dtype)
        self.weight = _without_bias(_fresh(layer))
        self._dim = -1 if isinstance(layer, nn.Linear) else -2 if isinstance(layer, nn.Conv1d) else -3

    def forward(self, inputs: list[Tensor]) -> Tensor:
        joined = torch.cat([scale * x for scale, x in zip(self.scales, inputs, strict=True)], dim=self._dim)
        answer: Tensor = self.weight(self.reduce(joined).relu())
        return answer


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a (nested) `torch.nn.Sequential`, in order.

    Raises:
        InputError: a part of it is not one of the layers that columns are made of.
    """
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        for part in model:
            yield from _layers(part)
    elif isinstance(model, (*_WEIGHTED, nn.Identity)) or (
        type(model).__module__ in {f"torch.nn.modules.{kind}" for kind in _PASSING} and not isinstance(model, nn.MultiheadAttention)
    ):
        yield model
    else:
        raise _unsupported(f"a {type(model).__name__}")


def _unsupported(what: str) -> InputError:
    return InputError(
        f"{what} cannot become a column",
        where="progressive",
        mend="Give a torch.nn.Sequential of linear and conv layers, activations, pooling, dropout and norms; for other networks use lora",
    )


def _fresh(model: _Layer) -> _Layer:
    """A trainable copy with weights drawn anew, as torch initialises each layer."""
    new = copy.deepcopy(model)
    for module in new.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    return new.requires_grad_(True)


def _without_bias(layer: _Layer) -> _Layer:
    layer.register_parameter("bias", None)
    return layer


def _drawn(model: nn.Module, seed: int, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """What ``make`` builds of a model, from random numbers of its own, the same on every device."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make(copy.deepcopy(model).cpu()).to(device)
