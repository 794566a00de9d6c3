"""Models whose output at a position predicts that position's label, and reference passes of models that recompute activations."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
)

import forgetless as fl
from forgetless.core.gradients import mean_gradient
from forgetless.integrations.forms import EncoderDecoderPredictions
from forgetless.integrations.huggingface import _predictions
from trainers import arguments

BERT = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 4}


def examples(count, labels):
    draw = torch.Generator().manual_seed(4)
    found = []
    for _ in range(count):
        ids = torch.randint(1, 20, (6,), generator=draw)
        own = torch.where(torch.tensor([0, 1, 0, 1, 1, 0]).bool(), torch.randint(0, labels, (6,), generator=draw), -100)
        found.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": own})
    return found


@pytest.mark.parametrize(("kind", "labels"), [(BertForTokenClassification, 4), (BertForMaskedLM, 20)])
def test_each_position_is_read_with_its_own_label(kind, labels, tmp_path):
    """What the methods take for the rows and their labels gives the model's own loss; and a trainer goes through with it."""
    torch.manual_seed(0)
    model = kind(BertConfig(**BERT, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    rows = examples(4, labels)
    batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    trainer = Trainer(model, arguments(tmp_path, max_steps=2), train_dataset=rows)
    read = _predictions(trainer, "trainer")
    assert torch.equal(read.labels(batch), batch["labels"][batch["labels"] != -100])
    found = model(**batch)
    torch.testing.assert_close(torch.nn.functional.cross_entropy(read.logits(found, batch), read.labels(batch)), found.loss)
    fl.protect(trainer, fl.EWC(strength=1.0) >> fl.LwF(), retain=rows).train()


def test_targets_longer_than_their_input_are_kept_whole():
    read = EncoderDecoderPredictions()
    short = {"input_ids": torch.tensor([[7, 8, 1, 0, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 1, 0, 0, 0]])}
    short["labels"] = torch.tensor([[1, 2, 3, 4, 5, 9]])
    kept = read.collate([short])
    assert kept["labels"].tolist() == [[1, 2, 3, 4, 5, 9]] and kept["input_ids"].tolist() == [[7, 8, 1]]
    longer = {key: torch.cat([value, value[:, :2]], 1) for key, value in short.items()}
    both = read.collate([short, longer])
    assert both["labels"].tolist() == [[1, 2, 3, 4, 5, 9, -100, -100], [1, 2, 3, 4, 5, 9, 1, 2]]
    torch.manual_seed(0)
    config = T5Config(vocab_size=12, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(config).eval()
    rows = read.logits(model(**kept), kept)
    torch.testing.assert_close(torch.nn.functional.cross_entropy(rows, read.labels(kept)), model(**kept).loss)


@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_reference_passes_recompute_activations_as_training_does(drop):
    torch.manual_seed(0)
    shape = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**shape, attention_dropout=drop))
    ids = torch.randint(0, 16, (2, 5))
    batch = {"input_ids": ids, "labels": ids}
    task = fl.Task("t", [batch], [batch])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found, forwards = [], []
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(lambda *_: forwards.append(1))
    for checkpoints in (False, True):
        if checkpoints:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        with fl.attach(fl.Plain(), model, optimizer, task, lambda model, batch: model(**batch).loss) as session:
            forwards.clear()
            found.append(mean_gradient(session.ctx, [batch]))
            assert len(forwards) == (4 if checkpoints else 2)
        assert all(module.training for module in model.modules())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)
