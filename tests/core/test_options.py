import pytest

from forgetless.core import options
from forgetless.errors import InputError


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, True, "1", None, 2.5])
def test_what_is_no_number_in_the_bounds_is_refused(value):
    with pytest.raises(InputError, match=r"m\.strength: .* is not allowed. Give a number from 0 up to 2"):
        options.number("m.strength", value, high=2.0)


def test_the_lower_bound_may_be_shut_out():
    assert options.number("m.xi", 0) == 0.0
    with pytest.raises(InputError, match="above 0"):
        options.number("m.xi", 0, above=True)


def test_the_upper_bound_may_be_shut_out():
    assert options.number("m.decay", 0, below=1.0) == 0.0 and options.number("m.decay", 0.999, below=1.0) == 0.999
    for value in (1, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"m\.decay: .* is not allowed\. Give a number from 0 up, and below 1$"):
            options.number("m.decay", value, below=1.0)
    with pytest.raises(InputError, match=r"Give a number above 0, and below 1$"):
        options.number("m.decay", 0, above=True, below=1.0)


def test_whole_numbers_may_have_a_largest():
    assert options.whole("--seed", 7, 0, 7) == 7
    for value in (8, -1, 7.0):
        with pytest.raises(InputError, match=r"--seed: .* is not allowed\. Give a whole number from 0 to 7$"):
            options.whole("--seed", value, 0, 7)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_what_counts_nothing_is_refused(value):
    assert options.count("m.examples", None) is None and options.count("m.examples", 1) == 1
    with pytest.raises(InputError, match="at least 1"):
        options.count("m.examples", value)


def test_seeds_and_choices_are_checked():
    assert options.seed("m.seed", 0) == 0 and options.choice("m.labels", "data", ("model", "data")) == "data"
    for value in (-1, True, 1.0):
        with pytest.raises(InputError, match="at least 0"):
            options.seed("m.seed", value)
    with pytest.raises(InputError, match="Give 'model' or 'data'"):
        options.choice("m.labels", "none", ("model", "data"))


def test_a_flag_is_true_or_false_and_nothing_like_it():
    assert options.flag("m.compact", True) is True and options.flag("m.compact", False) is False
    for value in (1, 0, "true", None):
        with pytest.raises(InputError, match=r"m\.compact: .* is not allowed\. Give True or False$"):
            options.flag("m.compact", value)
