"""What the guard does after looks, without a model."""

import pytest

from forgetless.errors import InputError
from forgetless.guard.budget import Budget, due, interval
from forgetless.guard.policy import (
    CALM,
    LOWER,
    MOST_LOWERED,
    MOST_ROLLBACKS,
    MOST_TIGHTENED,
    RAISE,
    ROLL_BACK,
    SAFE,
    STOP,
    TIGHTEN,
    Look,
    Policy,
)

ALLOWED = 0.02


def policy(**state):
    return Policy(ALLOWED, **state)


def look(forgotten, expected=0.0, total=100):
    return Look(1, forgotten, total, expected, 1.0)


def names(acts):
    return [act.name for act in acts]


def test_looks_within_the_budget_call_for_nothing():
    guard = policy()
    assert [guard.judge(look(count)) for count in (0, 1, 2, 2, 0)] == [[]] * 5
    assert guard.looks == 5


def test_looks_over_the_budget_that_prove_nothing_are_answered_by_what_can_be_undone_and_the_rate_is_lowered_once():
    guard = policy()
    found = [names(guard.judge(look(3))) for _ in range(MOST_TIGHTENED + 3)]
    assert found == [[TIGHTEN]] * MOST_TIGHTENED + [[LOWER], [], []]
    assert guard.rollbacks == 0


def test_while_looks_over_the_budget_get_better_nothing_is_done():
    guard = policy()
    assert names(guard.judge(look(5, expected=0.05))) == [TIGHTEN]
    assert [guard.judge(look(count, expected=count / 100)) for count in (4, 3)] == [[], []]
    assert names(guard.judge(look(3, expected=0.03))) == [TIGHTEN]


def test_after_an_alarm_it_goes_back_tightens_and_lowers_the_rate():
    guard = policy()
    assert names(guard.judge(look(15))) == [ROLL_BACK, TIGHTEN, LOWER]
    assert names(guard.judge(look(15))) == [ROLL_BACK, TIGHTEN, LOWER]
    assert names(guard.judge(look(15))) == [ROLL_BACK]


def test_margins_call_for_an_act_before_an_item_is_lost():
    guard = policy()
    assert not guard.good(look(0, expected=ALLOWED + 0.001))
    (act,) = guard.judge(look(0, expected=0.03))
    assert act.name == TIGHTEN
    assert "margins fell: 0.03" in act.reason


def test_a_tiny_expectation_on_a_small_probe_is_no_reason():
    assert policy().good(look(0, expected=0.04, total=10))
    assert not policy().good(look(0, expected=0.06, total=10))


def test_without_margins_accuracy_alone_counts():
    assert policy().good(Look(1, 2, 100))
    assert not policy().good(Look(1, 3, 100))
    assert policy().safe(Look(1, 0, 100))
    assert not policy().safe(Look(1, 1, 100))


def test_safe_to_end_is_well_within_the_budget():
    guard = policy()
    assert guard.safe(look(1, expected=SAFE * ALLOWED))
    assert not guard.safe(look(1, expected=SAFE * ALLOWED + 0.001))
    assert guard.good(look(2)) and not guard.safe(look(2))
    assert Policy(0.0).safe(look(0)) and not Policy(0.0).safe(look(1))


def test_where_enough_is_learned_but_not_safely_it_gets_more_careful_and_never_raises_the_rate_again():
    guard = policy()
    found = [names(guard.unsafe(look(2, expected=0.015))) for _ in range(MOST_TIGHTENED + MOST_LOWERED + 1)]
    assert found == [[TIGHTEN]] * MOST_TIGHTENED + [[LOWER]] * MOST_LOWERED + [[]]
    assert "2 of 100 forgotten and 0.015 expected" in policy().unsafe(look(2, expected=0.015))[0].reason
    assert not any(guard.judge(look(0)) for _ in range(3 * CALM))


def test_a_look_that_is_beyond_chance_goes_back_at_once():
    assert names(policy().judge(look(15)))[0] == ROLL_BACK
    assert "not by chance" in policy().judge(look(15))[0].reason


def test_it_goes_back_only_so_often_and_then_stops_with_the_last_good_point():
    guard, found = policy(), []
    while not guard.stopped:
        found += names(guard.judge(look(15)))
    assert found.count(ROLL_BACK) == MOST_ROLLBACKS + 1
    assert found[-1] == STOP
    assert found.count(TIGHTEN) == MOST_TIGHTENED
    assert found.count(LOWER) == MOST_LOWERED


def test_the_rate_rises_again_after_calm_looks_until_that_goes_wrong():
    guard = policy(tightened=MOST_TIGHTENED)
    assert names(guard.judge(look(3))) == [LOWER]
    calm = [names(guard.judge(look(0))) for _ in range(CALM)]
    assert calm == [[]] * (CALM - 1) + [[RAISE]]
    assert guard.lowered == 0
    assert names(guard.judge(look(3))) == [LOWER]
    assert not any(guard.judge(look(0)) for _ in range(3 * CALM))


def test_a_budget_of_nothing_is_good_only_while_nothing_is_lost():
    guard = Policy(0.0)
    assert guard.good(look(0, expected=0.0))
    assert not guard.good(look(1, expected=0.0))


def test_state_round_trips():
    guard = policy()
    for count in (3, 0, 3, 3):
        guard.judge(look(count))
    again = policy()
    again.load_state_dict(guard.state_dict())
    assert again == guard


def test_looks_cost_at_most_the_guards_share():
    for probe, step in ((1000, 100), (10, 5000), (333, 77)):
        every = interval(probe, step)
        assert probe / 3 <= 0.15 * step * every
        assert every == 1 or probe / 3 > 0.15 * step * (every - 1) * (1 - 1e-6)


def test_looks_come_at_the_interval_and_once_before_it():
    assert [step for step in range(65) if due(step, 16)] == [8, 16, 32, 48, 64]
    assert [step for step in range(7) if due(step, 1)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("allowed", [1.0, -0.1, float("nan"), 2, True, "0.1"])
def test_shares_that_make_no_sense_are_refused(allowed):
    with pytest.raises(InputError, match="budget"):
        Budget(allowed)


def test_other_options_that_make_no_sense_are_refused():
    for wrong in ({"every": 0}, {"seed": -1}, {"batch_size": 0}, {"scorer": "perplexity"}, {"scorer": "magic"}):
        with pytest.raises(InputError):
            Budget(0.1, **wrong)
