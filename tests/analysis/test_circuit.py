"""Circuit vectors by gradients of activations, against finite differences with the activations patched in by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from forgetless.analysis.circuit import activations, circuit, circuit_change, components, corrupted_pairs, stability, touching
from forgetless.errors import InputError
from language import language_batches, language_model
from nets import net


def language_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """In float64: the models' own loss is worked out in float32, too coarse for differences."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())


BATCHES = language_batches(2, 1, size=3)


def model_of(seed: int = 0) -> nn.Module:
    return language_model(seed, torch.float64).eval()


def by_difference(model: nn.Module, batch: dict[str, Tensor], other: list[Tensor], step: float = 1e-2) -> list[float]:
    """For each component the slope of the loss as its activation alone is moved towards the other one."""
    places = components(model)
    clean = activations(model, language_loss, batch, places)

    def loss(index: int, own: slice, size: float) -> float:
        def patch(at: int, value: Tensor) -> Tensor:
            moved = value.clone()
            if at == index:
                moved[..., own] += size * (other[index] - clean[index])[..., own]
            return moved

        with torch.no_grad(), touching(model, places, patch):
            return language_loss(model, batch).item()

    slopes = []
    for index, place in enumerate(places):
        width = clean[index].shape[-1] // place.parts
        for part in range(place.parts):
            own = slice(part * width, (part + 1) * width)
            slopes.append((loss(index, own, step) - loss(index, own, -step)) / 2 / step)
    return slopes


def test_a_circuit_of_pairs_is_that_of_finite_differences() -> None:
    model = model_of()
    pairs = corrupted_pairs(BATCHES)
    found = circuit(model, language_loss, pairs)
    each = [by_difference(model, clean, activations(model, language_loss, other, components(model))) for clean, other in pairs]
    wanted = [sum(values) / len(values) for values in zip(*each, strict=True)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert len(found) == 3 and float(found.abs().min()) > 0, "two heads and a block"
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_change_between_two_models_is_that_of_finite_differences() -> None:
    before, after = model_of(), model_of(3)
    found = circuit_change(before, after, language_loss, BATCHES)
    each = [by_difference(before, batch, activations(after, language_loss, batch, components(before))) for batch in BATCHES]
    assert found.tolist() == pytest.approx([sum(values) / 2 for values in zip(*each, strict=True)], rel=1e-3, abs=1e-6)
    assert circuit_change(before, copy.deepcopy(before), language_loss, BATCHES).tolist() == [0.0] * 3


def test_frozen_models_have_circuits_too() -> None:
    model = model_of()
    wanted = circuit(model, language_loss, corrupted_pairs(BATCHES))
    model.requires_grad_(False)
    torch.testing.assert_close(circuit(model, language_loss, corrupted_pairs(BATCHES)), wanted)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_stability_is_the_rank_correlation_of_two_circuits() -> None:
    one = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert stability(one, one * 10) == pytest.approx(1) and stability(one, -one) == pytest.approx(-1)
    assert stability(one, torch.ones(4)) is None
    with pytest.raises(InputError, match="4 and 3"):
        stability(one, one[:3])


@pytest.mark.parametrize("architecture", ["GPT2", "GPTNeoX", "OPT", "Qwen2"])
def test_components_of_models_in_use_are_found(architecture: str) -> None:
    import transformers

    sizes = {
        "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50},
        "GPTNeoX": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50},
        "OPT": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 32,
            "vocab_size": 50,
            "word_embed_proj_dim": 16,
        },
        "Qwen2": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 32,
            "vocab_size": 50,
        },
    }[architecture]
    config = getattr(transformers, f"{architecture}Config")(**sizes)
    torch.manual_seed(0)
    model = getattr(transformers, "GPT2LMHeadModel" if architecture == "GPT2" else f"{architecture}ForCausalLM")(config).double().eval()
    kinds = [place.kind for place in components(model)]
    assert kinds.count("heads") == 2 and kinds.count("MLP") == (0 if architecture == "OPT" else 2)
    batches = [{key: value % 50 if key == "input_ids" else value for key, value in batch.items()} for batch in BATCHES]
    for batch in batches:
        batch["labels"] = batch["input_ids"].clone()
    found = circuit(model, language_loss, corrupted_pairs(batches))
    clean, other = corrupted_pairs(batches)[0]
    if architecture == "Qwen2":
        each = [by_difference(model, c, activations(model, language_loss, o, components(model))) for c, o in corrupted_pairs(batches)]
        assert found.tolist() == pytest.approx([sum(values) / 2 for values in zip(*each, strict=True)], rel=1e-3, abs=1e-6)
    assert len(found) == sum(place.parts for place in components(model)) and bool(found.any()) and clean is not other


def test_what_has_no_circuit_is_refused() -> None:
    with pytest.raises(InputError, match="no attention head"):
        components(net())
    with pytest.raises(InputError, match="no pair"):
        circuit(model_of(), language_loss, [])
    long, short = language_batches(1, 1, length=9)[0], language_batches(1, 1, length=8)[0]
    with pytest.raises(InputError, match="same length"):
        circuit(model_of(), language_loss, [(long, short)])
    broken = model_of()
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    with pytest.raises(InputError, match="not a finite number"):
        circuit(broken, language_loss, corrupted_pairs(BATCHES))
