import pytest

from forgetless.train.settings import default_rate


@pytest.mark.parametrize(
    ("names", "rate"), [(("auto",), 1e-3), (("replay", "null-space"), 1e-3), (("none",), 1e-5), (("replay", "cpl"), 1e-5)]
)
def test_what_projects_most_of_a_step_away_has_a_higher_rate(names, rate):
    assert default_rate(names) == rate
