"""Layers and kinds of tensors told from the names of models in use."""

from __future__ import annotations

import pytest
from torch import nn

from forgetless.analysis.places import last_layers, places
from language import language_model
from nets import net

NAMES = {
    "model.embed_tokens.weight": (None, "embedding"), "model.layers.7.self_attn.q_proj.weight": (7, "attention"),
    "model.layers.7.mlp.down_proj.weight": (7, "MLP"), "model.layers.7.input_layernorm.weight": (7, "norm"),
    "model.layers.7.self_attn.q_norm.weight": (7, "norm"), "model.norm.weight": (None, "norm"), "lm_head.weight": (None, "embedding"),
    "transformer.h.3.attn.c_attn.bias": (3, "attention"), "transformer.h.3.mlp.c_fc.weight": (3, "MLP"),
    "transformer.h.3.ln_1.weight": (3, "norm"),
    "transformer.wpe.weight": (None, "embedding"), "transformer.ln_f.weight": (None, "norm"),
    "gpt_neox.layers.0.attention.query_key_value.weight": (0, "attention"), "gpt_neox.layers.0.mlp.dense_4h_to_h.weight": (0, "MLP"),
    "model.decoder.layers.2.fc1.weight": (2, "MLP"), "model.decoder.layers.2.self_attn_layer_norm.bias": (2, "norm"),
    "model.layers.1.block_sparse_moe.experts.4.w1.weight": (1, "MLP"), "classifier.weight": (None, "other"),
}  # fmt: skip


class Named(nn.Module):
    """A module that says that it has these parameters."""

    def named_parameters(self, *args: object, **options: object):  # type: ignore[override]
        return ((name, None) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_names_in_use_are_told(name: str) -> None:
    place = places(Named())[name]
    assert (place.layer, place.kind) == NAMES[name]


def test_modules_tell_where_names_do_not() -> None:
    model = nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    assert [place.kind for place in places(model).values()] == ["embedding", "norm", "norm", "other", "other"]


def test_the_last_layers_come_with_what_follows_them() -> None:
    assert last_layers(places(Named()), 1) == [
        "model.layers.7.self_attn.q_proj.weight", "model.layers.7.mlp.down_proj.weight", "model.layers.7.input_layernorm.weight",
        "model.layers.7.self_attn.q_norm.weight", "model.norm.weight", "transformer.ln_f.weight", "classifier.weight",
    ]  # fmt: skip
    assert last_layers(places(net()), 1) == ["2.weight", "2.bias"]
    own = places(language_model())
    assert "model.embed_tokens.weight" not in last_layers(own, 1) and "model.norm.weight" in last_layers(own, 1)
