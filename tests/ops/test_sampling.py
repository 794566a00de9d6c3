import torch

from forgetless.ops.sampling import draw_tokens

PROBABILITIES = torch.tensor([0.5, 0.3, 0.15, 0.05])


def constant(new, past):
    return PROBABILITIES.log().expand(len(new), -1), past


def shares(**options):
    made = draw_tokens(constant, torch.zeros(64, 1, dtype=torch.int64), 100, draw=torch.Generator().manual_seed(0), **options)
    return torch.bincount(torch.tensor(made).flatten(), minlength=4) / 6400


def test_tokens_have_the_models_probabilities_at_the_temperature():
    torch.testing.assert_close(shares(temperature=1.0, top_k=None), PROBABILITIES, atol=0.02, rtol=0)
    sharp = PROBABILITIES**2 / (PROBABILITIES**2).sum()
    torch.testing.assert_close(shares(temperature=0.5, top_k=None), sharp, atol=0.02, rtol=0)


def test_top_k_leaves_the_likeliest():
    torch.testing.assert_close(shares(temperature=1.0, top_k=2), torch.tensor([0.625, 0.375, 0, 0]), atol=0.02, rtol=0)


def test_a_text_ends_with_the_first_end_token_and_is_given_what_came_before():
    seen = []

    def count_up(new, past):
        seen.append(new.tolist())
        return torch.nn.functional.one_hot(new[:, -1] + 1, 10).float() * 1e4, None

    made = draw_tokens(count_up, torch.tensor([[7, 1], [7, 4]]), 9, temperature=1.0, top_k=None, draw=torch.Generator(), ends=(6,))
    assert made == [[2, 3, 4, 5, 6], [5, 6]]
    assert seen[:2] == [[[7, 1], [7, 4]], [[2], [5]]]
