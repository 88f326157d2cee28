"""The entropy bonus: Eq. 28-34 and the schedule's three phases."""

import math

import pytest
import torch

from artune.tuning.entropy import EntropyController, entropy_fraction, scheduled_coefficient, token_entropy

PAPER = EntropyController(c0=2.2e-3, c_min=7e-5, c_max=4e-3, target=0.78)


def test_token_entropy_equals_the_sum_over_the_vocabulary():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(-1)
    torch.testing.assert_close(token_entropy(logits), -(p * p.log()).sum(-1))


def test_uniform_logits_have_the_full_fraction():
    assert entropy_fraction(token_entropy(torch.zeros(4, 9, 128)), 128).item() == pytest.approx(1.0)


def test_filtered_logits_have_the_entropy_of_the_others_and_a_finite_gradient():
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    filtered = logits.masked_fill(torch.arange(9) > 5, -torch.inf).requires_grad_()
    kept = logits[:, :6].clone().requires_grad_()
    entropies = [token_entropy(filtered), token_entropy(kept)]
    for entropy in entropies:
        entropy.sum().backward()
    torch.testing.assert_close(*entropies)
    torch.testing.assert_close(filtered.grad[:, :6], kept.grad)
    assert filtered.grad[:, 6:].count_nonzero() == 0


@pytest.mark.parametrize("vocabulary", [7, 1000])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_finite_logits_have_the_bits_of_the_plain_formula(vocabulary, kind):
    draws = torch.Generator().manual_seed(0)
    logits, weights = 3 * torch.randn(4, 5, vocabulary, generator=draws), torch.randn(4, 5, generator=draws)
    ours, plain = (logits.to(kind).requires_grad_() for _ in range(2))
    logp = torch.log_softmax(plain.float(), -1)
    expected, found = -(logp.exp() * logp).sum(-1), token_entropy(ours)
    for entropy in (expected, found):
        (entropy * weights).sum().backward()
    assert torch.equal(found, expected)
    assert torch.equal(ours.grad, plain.grad)


def test_the_entropy_waits_for_no_value_of_the_logits():
    logits = torch.empty(2, 5, device="meta", requires_grad=True)  # a branch on a value fails there
    token_entropy(logits).sum().backward()
    assert logits.grad.shape == (2, 5)


def test_a_single_token_left_has_no_entropy():
    logits = torch.tensor([[1.0, -torch.inf, -torch.inf]], requires_grad=True)
    token_entropy(logits).sum().backward()
    assert token_entropy(logits).item() == 0.0
    assert logits.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_a_codebook_of_one_code_has_fraction_zero():
    assert entropy_fraction(token_entropy(torch.zeros(4, 9, 1)), 1).item() == 0.0


def test_certain_logits_have_zero_entropy_and_no_nan():
    logits = torch.full((1, 5), -1e4)
    logits[0, 2] = 1e4
    assert token_entropy(logits).item() == 0.0


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.0), (0.025, 0.5), (0.05, 1.0), (0.5, 1.0), (0.85, 1.0), (0.925, 0.5), (1.0, 0.0)]
)
def test_the_schedule_warms_up_stays_and_decays(progress, expected):
    assert scheduled_coefficient(progress, 1.0) == pytest.approx(expected)


def test_the_decay_may_end_at_a_floor():
    assert scheduled_coefficient(1.0, 1.0, floor=0.2) == pytest.approx(0.2)


def test_inside_the_deadband_the_coefficient_is_the_schedule():
    assert PAPER.coefficient(0.5, 0.78 - 0.014) == pytest.approx(2.2e-3)


def test_outside_the_deadband_the_feedback_is_exponential():
    assert PAPER.coefficient(0.5, 0.70) == pytest.approx(2.2e-3 * math.exp(3.0 * 0.08))
    assert PAPER.coefficient(0.5, 0.90) == pytest.approx(2.2e-3 * math.exp(-3.0 * 0.12))


def test_the_coefficient_stays_between_its_bounds():
    assert PAPER.coefficient(0.0, 0.78) == 7e-5
    assert PAPER.coefficient(0.5, 0.0) == 4e-3
