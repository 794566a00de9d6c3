"""Two real processes, by DDP or FSDP2, do what one does with all the data."""

import sys
from pathlib import Path

import pytest
import torch

from nets import batches, loss_fn, net

sys.path.insert(0, str(Path(__file__).parent))
from together import CASES, RESHAPING, RESUMED, accumulated, interrupted, stream

CLOSE = 1e-5
KINDS = ("ddp", "fsdp")


@pytest.fixture(scope="module")
def run(together, tmp_path_factory):
    """What every process of the worker found, by rank."""
    folder = tmp_path_factory.mktemp("processes")
    for name in RESUMED:
        interrupted("one", *CASES[name], folder, save=f"one-{name}")
    together(Path(__file__).parent / "worker.py", folder, "all")
    found = [torch.load(folder / f"all-{rank}.pt", weights_only=True) for rank in range(2)]
    return folder, found


@pytest.fixture(scope="module")
def one():
    """The same in one process, each when it is asked for."""
    kept = {}

    def ask(name, tasks=2):
        if (name, tasks) not in kept:
            kept[name, tasks] = stream("one", *(CASES | RESHAPING)[name.split(",")[0]], tasks=tasks)
        return kept[name, tasks]

    return ask


def apart(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def numbers(told, prefix=""):
    for key, value in told.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{key}/")
        else:
            yield prefix + key, value


EQUAL = [(kind, name) for kind in KINDS for name in CASES]
EQUAL += [("ddp", name) for name in (*RESHAPING, "cpl, gradients in buckets")]
EQUAL += [("fsdp", name) for name in ("lora", "progressive", "kl, whole after forward")]


@pytest.mark.parametrize(("kind", "name"), EQUAL)
def test_two_processes_give_the_weights_of_one(kind, name, run, one):
    _, found = run
    tasks = 1 if kind == "fsdp" and name in RESHAPING else 2
    two = [rank["equal", kind][name] for rank in found]
    assert apart(two[0]["weights"], two[1]["weights"]) == 0.0
    assert apart(two[0]["weights"], one(name, tasks)["weights"]) < CLOSE
    if name not in ("none", *RESHAPING):
        assert apart(two[0]["weights"], one("none", tasks)["weights"]) > 100 * CLOSE, "the method did nothing"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in CASES])
def test_metrics_and_violations_are_of_the_whole_model_on_every_process(kind, name, run, one):
    _, found = run
    two, single = [rank["equal", kind][name] for rank in found], one(name)
    assert two[0]["told"] == two[1]["told"] and two[0]["violations"] == two[1]["violations"] == single["violations"]
    for ours, theirs in zip(two[0]["told"], single["told"], strict=True):
        assert dict(numbers(ours)) == pytest.approx(dict(numbers(theirs)), abs=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_and_clipping_give_the_weights_of_one_process(kind, run):
    _, found = run
    two = found[0]["equal", kind]["accumulated"]
    assert apart(two["weights"], accumulated("one")["weights"]) < CLOSE and two["violations"] == [0.0]


def test_packed_signs_are_sharded(run, one):
    _, found = run
    single = one("cpl")["packed"]
    shares = [rank["equal", "fsdp"]["cpl"]["packed"] for rank in found]
    assert max(shares) <= single / 2 + 4 * 4, "half, and a word for what each of four tensors fills up"
    assert found[0]["equal", "ddp"]["cpl"]["packed"] == single


@pytest.mark.parametrize("kind", KINDS)
def test_element_wise_methods_add_no_collective_and_the_others_scalars(kind, run):
    _, found = run
    called = found[0]["collectives", kind]
    before, inside = called["none"]
    assert inside == [] and len(before) > 0
    for name in ("cpl", "ewc", "si", "mas", "l2sp", "packnet", "null-space"):
        assert called[name] == (before, [])
    assert called["gradient-protection"] == (before, [] if kind == "ddp" else [("c10d.allreduce_.default", 4)])
    agem = [numel for op, numel in called["agem"][1] if "allreduce" in op]
    if kind == "fsdp":
        assert agem == [2, 2, 3], "the number of batches left, twice, and three inner products"
        gem = [numel for op, numel in called["gem"][1] if "allreduce" in op]
        assert len(gem) >= 3 and max(gem) <= 4, "as many numbers as there are stored tasks, never a gradient"


def mean_gradient_of(whole):
    model = net()
    (sum(loss_fn(model, batch) for batch in whole) / len(whole)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shares", ["uneven", "nothing", "everywhere"])
def test_a_reference_gradient_is_the_mean_over_all_processes_however_they_share_the_batches(kind, shares, run):
    _, found = run
    whole = mean_gradient_of(batches(7, 3, size=6))
    for rank in found:
        assert apart(rank["reference", kind][shares], whole) < 1e-6
        assert rank["reference", kind][shares, "untouched"]


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_one_process_goes_on_in_two_and_of_two_in_one(kind, name, run):
    folder, found = run
    straight = interrupted("one", *CASES[name], folder)
    assert apart(found[0]["resumed"][kind, name], straight) < CLOSE
    assert apart(interrupted("one", *CASES[name], folder, load=f"{kind}-{name}"), straight) < CLOSE


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (
            "sharded after attach",
            "ProtectionError: 4 parameters, such as '0.weight', have been replaced since the session was made; call fully_shard",
        ),
        ("optimizer built too early", "InputError: optimizer: it misses 4 trainable parameters"),
        ("bare model", "InputError: model: 2 processes run, but this model is neither wrapped"),
        ("tensor parallel", "InputError: model: '0.weight' is placed as"),
        ("partly sharded", "InputError: model: '2.weight' is trained but not sharded"),
        ("FSDP1", "InputError: model: FSDP1"),
        ("osf", "InputError: method: OSF cannot work on sharded weights: it projects whole matrices"),
        ("supermask", "InputError: method: Supermask cannot work on sharded weights: a mask is chosen over"),
        ("generative-replay", "InputError: method: GenerativeReplay cannot work in several processes"),
        ("no epoch", "InputError: task.train: it has no length"),
    ],
)
def test_what_cannot_be_protected_is_refused_on_every_process(attempt, words, run):
    _, found = run
    for rank in found:
        assert rank["refused"][attempt].startswith(words)


def test_processes_that_train_alone_do_not_wait_for_each_other(run):
    _, found = run
    assert apart(found[0]["alone"], found[1]["alone"]) > 0


def test_shards_with_copies_in_four_processes_give_the_weights_of_one(together, tmp_path, one):
    together(Path(__file__).parent / "worker.py", tmp_path, "hybrid", processes=4)
    for name, four in torch.load(tmp_path / "hybrid-3.pt", weights_only=True).items():
        assert apart(four["weights"], one(name, 1)["weights"]) < CLOSE
        assert dict(numbers(four["told"][-1])) == pytest.approx(dict(numbers(one(name, 1)["told"][-1])), abs=CLOSE)
