"""What a method measures reaches the trainer's log and, through the trainer's own callback, a real TensorBoard event file."""

import pytest

import forgetless as fl
from trainers import make_trainer, rows


def scalars(folder):
    """Every scalar in the event files under ``folder``: by tag, a list of step and value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, []).extend((event.step, event.value) for event in events.Scalars(tag))
    return found


def test_metrics_of_a_chain_stand_in_the_log_and_in_tensorboard_step_by_step(tiny, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    trainer = make_trainer(tiny, tmp_path, report_to=["tensorboard"])
    fl.protect(trainer, fl.Replay() >> fl.KL() >> fl.AGEM() >> fl.CPL(refresh=2), rows(8, 1))
    told = []

    class Also(type(trainer)):  # what the session said at the end of each step, read past the log
        def log(self, logs, *args, **options):
            if "loss" in logs:
                told.append(dict(self.forgetless.session.metrics))
            super().log(logs, *args, **options)

    trainer.__class__ = Also
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    names = ["kl", "memory_examples", "projected", "reference_dot", "conflicting_fraction"]
    assert [[line[f"forgetless/{name}"] for name in names] for line in lines] == [[float(one[name]) for name in names] for one in told]
    assert len(lines) == 6 and len({line["forgetless/conflicting_fraction"] for line in lines}) > 1
    events = scalars(tmp_path / "events")
    for name in names:
        tag = f"train/forgetless/{name}"
        assert [step for step, _ in events[tag]] == [1, 2, 3, 4, 5, 6]
        assert [value for _, value in events[tag]] == pytest.approx([line[f"forgetless/{name}"] for line in lines], rel=1e-6)
    assert events["train/forgetless/constraint_violation"][-1] == (6, 0.0)
    assert [line for line in trainer.state.log_history if line.get("forgetless/constraint_violation") == 0.0]
