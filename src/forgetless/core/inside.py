"""An optimizer that steps inside ``backward``: each parameter as soon as its gradient is there, which is then freed."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from forgetless.core.method import Chain, Method, overrides
from forgetless.core.world import World
from forgetless.errors import InputError, ProtectionError


class InsideBackward:
    """Calls ``step(parameter, name)`` inside ``backward``; it is asked to free the gradient by giving True.

    The recipe is PyTorch's own ("How to save memory by fusing an optimizer step into the backward pass"); gradients never exist
    all at once, which saves their 4 bytes a weight.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], step: Callable[[nn.Parameter, str], bool]) -> None:
        self._step = step
        self._stepped: set[str] = set()
        self._handles = [parameter.register_post_accumulate_grad_hook(self._of(name)) for name, parameter in parameters.items()]  # type: ignore[no-untyped-call]  # untyped in torch

    def _of(self, name: str) -> Callable[[Tensor], None]:
        def arrived(parameter: Tensor) -> None:
            assert isinstance(parameter, nn.Parameter)
            if name in self._stepped:
                raise ProtectionError(
                    f"a second gradient of {name!r} came before optimizer.step(): with in_backward every backward is a whole step; "
                    "leave accumulation out, or in_backward"
                )
            if self._step(parameter, name):
                parameter.grad = None
                self._stepped.add(name)

        return arrived

    @property
    def began(self) -> bool:
        """Whether a parameter has been stepped since the last step ended."""
        return bool(self._stepped)

    def end_step(self) -> None:
        """``optimizer.step()`` was called: the next ``backward`` is another step."""
        if not self._stepped:
            raise ProtectionError("optimizer.step() was called, but no backward came before it")
        self._stepped.clear()

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()


def check_inside(method: Method, world: World) -> None:
    """Raise `InputError` where the method cannot work parameter by parameter."""
    for part in method.methods if isinstance(method, Chain) else (method,):
        name = type(part).__name__
        why = "edits all gradients together" if part.edits_gradients else "has a penalty" if overrides(part, "penalty") else None
        if why is not None:
            raise InputError(f"{name} {why}, which are never there at once", where="in_backward", mend="Leave in_backward out")
    if world.size > 1:
        raise InputError("it works in one process only", where="in_backward", mend="Shard the model with fully_shard, without in_backward")
