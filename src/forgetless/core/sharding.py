"""What one process holds of a model whose weights are sharded by FSDP2 (``fully_shard``), or replicated by DDP."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from forgetless.core.world import World
from forgetless.errors import InputError, ProtectionError

Group = Any
"""A `torch.distributed.ProcessGroup`."""


def is_sharded(tensor: object) -> bool:
    """Whether it is a DTensor. Their module takes a second to load; as long as nobody has loaded it there is none."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory: of a sharded one its shard, else the tensor itself."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        return cast(Tensor, cast(Any, tensor).to_local())


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be sharded; collective where it is."""
    return cast(Tensor, cast(Any, tensor).full_tensor()) if is_sharded(tensor) else tensor


class Held:
    """The trainable parameters as this process holds them.

    Attributes:
        real: the model's own parameters by name.
        parameters: what methods see: the same, or for a sharded one a stand-in, a leaf in the memory of its shard.
    """

    def __init__(self, real: Mapping[str, nn.Parameter]) -> None:
        self.real = dict(real)
        self.sharded = any(is_sharded(parameter) for parameter in self.real.values())
        self.parameters = {name: _stand_in(parameter) for name, parameter in self.real.items()}

    def bind(self) -> None:
        """Let the stand-ins have the memory and the gradients that the real parameters have now."""
        for name, shown, parameter in self._stand_ins():
            now = local(parameter.detach())
            if now.data_ptr() != shown.data_ptr() or now.shape != shown.shape:
                shown.data = now
            grad = parameter.grad
            if grad is not None and not is_sharded(grad):
                raise ProtectionError(f"the gradient of {name!r} is not sharded as the parameter is")
            shown.grad = None if grad is None else local(grad)

    def give_back(self) -> None:
        """Let the real parameters have the stand-ins' gradients."""
        for _, shown, parameter in self._stand_ins():
            kept = None if parameter.grad is None else local(parameter.grad)
            if shown.grad is None or kept is None or kept.data_ptr() != shown.grad.data_ptr() or kept.dtype != shown.grad.dtype:
                parameter.grad = None if shown.grad is None else _like(parameter, shown.grad)

    def release(self) -> None:
        """Let go of the gradients, so that ``zero_grad`` frees them."""
        for _, shown, _ in self._stand_ins():
            shown.grad = None

    def gradients(self) -> dict[str, Tensor]:
        """What this process holds of the gradients that the parameters have now."""
        return {name: local(parameter.grad) for name, parameter in self.real.items() if parameter.grad is not None}

    def full(self, name: str, tensor: Tensor) -> Tensor:
        """From something shaped like this process's shard of a parameter to that of the whole parameter.

        Collective. What does not belong to a sharded parameter is given back as it is.
        """
        parameter = self.real.get(name)
        if parameter is None or not is_sharded(parameter):
            return tensor
        return full(_like(parameter, tensor.to(local(parameter).device)))

    def own(self, name: str, tensor: Tensor) -> Tensor:
        """The inverse of `full`: of something shaped like the whole parameter this process's shard. What is empty stays so."""
        parameter = self.real.get(name)
        if parameter is None or not is_sharded(parameter) or not tensor.numel():
            return tensor
        if tensor.shape != parameter.shape:
            raise ProtectionError(f"the state holds {tuple(tensor.shape)} for {name!r}, whose shape is {tuple(parameter.shape)}")
        from torch.distributed.tensor import distribute_tensor

        whole, like = tensor.to(local(parameter).device), cast(Any, parameter)
        shard = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
        return local(shard).clone(memory_format=torch.contiguous_format)

    def _stand_ins(self) -> Iterator[tuple[str, nn.Parameter, nn.Parameter]]:
        if self.sharded:
            for name, parameter in self.real.items():
                yield name, self.parameters[name], parameter


def _stand_in(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(local(parameter.detach())) if is_sharded(parameter) else parameter


def _like(parameter: Tensor, shard: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    like = cast(Any, parameter)
    return DTensor.from_local(shard, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside a DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def world_of(model: nn.Module, group: Group | Literal["alone"] | None) -> World:
    """The processes that train ``model`` together.

    Args:
        model: plain, wrapped in DistributedDataParallel, or sharded by ``fully_shard``.
        group: those of a plain model whose gradients somebody else averages; ``"alone"``: this process trains by itself.

    Raises:
        InputError: it is sharded in a way that is not supported, or several processes run and nothing says how they belong together.
    """
    reshard(model)
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise InputError(
            "FSDP1 (FullyShardedDataParallel) flattens parameters, so none can be told from its neighbours",
            where="model",
            mend="Use FSDP2: torch.distributed.fsdp.fully_shard(model), in Accelerate fsdp_version: 2",
        )
    sharded = {name: parameter for name, parameter in model.named_parameters() if is_sharded(parameter)}
    if sharded:
        return _sharded_world(model, sharded)
    if isinstance(model, DistributedDataParallel):
        return _world((model.process_group,), (), model)
    if group == "alone":
        return World()
    if group is not None:
        return _world((group,), (), model) if dist.get_world_size(group) > 1 else World()
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise InputError(
            f"{dist.get_world_size()} processes run, but this model is neither wrapped in DistributedDataParallel nor sharded",
            where="model",
            mend="Give the wrapped model; or group=..., the processes that average its gradients; or group='alone' if each trains its own",
        )
    return World()


def _sharded_world(model: nn.Module, sharded: Mapping[str, Any]) -> World:
    from torch.distributed.tensor import Replicate, Shard

    for name, parameter in sharded.items():
        *outer, last = parameter.placements
        if type(last) is not Shard or not all(isinstance(one, Replicate) for one in outer):
            raise InputError(
                f"{name!r} is placed as {parameter.placements}; tensor parallelism is not supported",
                where="model",
                mend="Shard by fully_shard alone, over a mesh of one dimension, or of two with copies (HSDP)",
            )
        if parameter.device_mesh.device_type != parameter.device.type:
            raise InputError("its weights are offloaded to the processor", where="model", mend="Leave CPUOffloadPolicy out of fully_shard")
    meshes = {parameter.device_mesh for parameter in sharded.values()}
    plain = [name for name, p in model.named_parameters() if p.requires_grad and not is_sharded(p)]
    if len(meshes) > 1 or plain:
        raise InputError(
            f"{plain[0]!r} is trained but not sharded" if plain else f"its weights lie on {len(meshes)} different meshes",
            where="model",
            mend="Call fully_shard on the whole model last, on one mesh, without ignored_params that are trained",
        )
    mesh = meshes.pop()
    groups = tuple(mesh.get_group(dimension) for dimension in range(mesh.ndim))
    return _world(groups, groups[-1:], model)


def _world(groups: tuple[Group, ...], shards: tuple[Group, ...], model: nn.Module) -> World:
    found = next(model.parameters()).device
    device = torch.device("cpu") if all(dist.get_backend(group) == "gloo" for group in groups) else found
    return World(groups, shards, device)


@contextmanager
def reducing(model: nn.Module) -> Iterator[None]:
    """Let FSDP reduce gradients in every backward pass, whatever was set for accumulation."""
    groups = [group for module in model.modules() for group in _parameter_groups(module)]
    kept = [(group.reduce_grads, group.all_reduce_grads) for group in groups]
    try:
        for group in groups:
            group.reduce_grads = group.all_reduce_grads = True
        yield
    finally:
        for group, (reduce_grads, all_reduce_grads) in zip(groups, kept, strict=True):
            group.reduce_grads, group.all_reduce_grads = reduce_grads, all_reduce_grads


def reshard(model: nn.Module) -> None:
    """Let FSDP put the shards back in the place of the weights that it has gathered, which it may leave there after a forward pass.

    To be called before the parameters of a model are looked at by name, or written. Of a model that is not sharded nothing is done.
    """
    for module in model.modules():
        if _parameter_groups(module):
            module.reshard()  # type: ignore[operator]  # of FSDPModule


def _parameter_groups(module: nn.Module) -> list[Any]:
    """FSDP2's own groups of parameters of a module: none where it is not sharded. (Torch offers no public way to read them.)"""
    if not hasattr(module, "_get_fsdp_state"):
        return []
    state: Any = module._get_fsdp_state()  # type: ignore[operator]  # a method of FSDPModule
    found = getattr(state, "_fsdp_param_groups", None)
    return list(found) if found is not None else [one for one in (state._fsdp_param_group,) if one is not None]
