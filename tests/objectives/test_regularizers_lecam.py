"""LeCam against the formula by hand: its moving averages over several steps, its start, its slopes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regularizer_views import Step
from torch import Tensor

from ganzoo.objectives.regularizers.lecam import LeCam

REALS = [[0.5, -1.0, 2.0], [1.5, 0.0, -2.0], [3.0, 1.0, 0.25]]
FAKES = [[-0.5, 0.25, -2.0], [1.0, -1.0, 0.0], [0.5, -3.0, 2.5]]


def logits(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).requires_grad_()


def test_the_anchors_follow_the_means_and_the_term_is_the_papers() -> None:
    regularizer, decay = LeCam(decay=0.75).double(), 0.75
    anchors = None
    for real, fake in zip(REALS, FAKES, strict=True):
        means = np.array([np.mean(real), np.mean(fake)])
        anchors = means if anchors is None else decay * anchors + (1 - decay) * means
        expected = np.mean(np.maximum(0, np.array(real) - anchors[1]) ** 2) + np.mean(
            np.maximum(0, anchors[0] - np.array(fake)) ** 2
        )
        view = Step().discriminator(real_logits=logits(real), fake_logits=logits(fake))
        loss = regularizer.discriminator_loss(view)
        assert loss is not None
        assert loss.item() == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(regularizer.anchors.numpy(), anchors, rtol=1e-13)


def test_before_it_begins_there_is_no_term_and_the_anchors_are_the_last_batchs_means() -> None:
    regularizer = LeCam(decay=0.9, begin_kimg=2.0).double()
    for index, kimg in enumerate((0.0, 1.999)):
        view = Step().discriminator(kimg, real_logits=logits(REALS[index]), fake_logits=logits(FAKES[index]))
        assert regularizer.discriminator_loss(view) is None
        assert regularizer.anchors.tolist() == pytest.approx([np.mean(REALS[index]), np.mean(FAKES[index])])
    view = Step().discriminator(2.0, real_logits=logits(REALS[2]), fake_logits=logits(FAKES[2]))
    assert regularizer.discriminator_loss(view) is not None
    expected = [0.9 * np.mean(one[1]) + 0.1 * np.mean(one[2]) for one in (REALS, FAKES)]
    assert regularizer.anchors.tolist() == pytest.approx(expected, rel=1e-13)


def test_its_slopes_are_those_of_fixed_anchors() -> None:
    regularizer = LeCam().double()
    real, fake = logits(REALS[0]), logits(FAKES[0])
    loss = regularizer.discriminator_loss(Step().discriminator(real_logits=real, fake_logits=fake))
    assert loss is not None
    of_real, of_fake = torch.autograd.grad(loss, (real, fake))
    a_real, a_fake = np.mean(REALS[0]), np.mean(FAKES[0])
    np.testing.assert_allclose(of_real, 2 / 3 * np.maximum(0, np.array(REALS[0]) - a_fake), rtol=1e-13)
    np.testing.assert_allclose(of_fake, -2 / 3 * np.maximum(0, a_real - np.array(FAKES[0])), rtol=1e-13)


def test_the_anchors_are_those_of_all_processes_together() -> None:
    regularizer = LeCam().double()
    asked: list[Tensor] = []

    def mean(tensor: Tensor) -> Tensor:
        asked.append(tensor)
        return torch.tensor([10.0, -10.0], dtype=torch.float64)

    loss = regularizer.discriminator_loss(
        Step().discriminator(mean=mean, real_logits=logits(REALS[0]), fake_logits=logits(FAKES[0]))
    )
    assert [one.tolist() for one in asked] == [pytest.approx([np.mean(REALS[0]), np.mean(FAKES[0])])]
    assert not asked[0].requires_grad
    assert regularizer.anchors.tolist() == [10.0, -10.0]
    assert loss is not None
    expected = np.mean((np.array(REALS[0]) + 10) ** 2) + np.mean((10 - np.array(FAKES[0])) ** 2)
    assert loss.item() == pytest.approx(expected, rel=1e-13)


def test_a_loss_that_waits_for_its_backward_keeps_its_own_anchors() -> None:
    regularizer = LeCam(decay=0.0).double()
    real, fake = logits(REALS[0]), logits(FAKES[0])
    first = regularizer.discriminator_loss(Step().discriminator(real_logits=real, fake_logits=fake))
    regularizer.discriminator_loss(Step().discriminator(real_logits=logits(REALS[1]), fake_logits=logits(FAKES[1])))
    assert first is not None
    (slope,) = torch.autograd.grad(first, real)
    np.testing.assert_allclose(slope, 2 / 3 * np.maximum(0, np.array(REALS[0]) - np.mean(FAKES[0])), rtol=1e-13)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        LeCam(decay=decay)
