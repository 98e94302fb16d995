"""The auxiliary classifier against scikit-learn, and InfoGAN's bound against NumPy and information theory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from regularizer_views import CLASSES, LATENT, Step, assert_slopes, surroundings
from sklearn.metrics import log_loss
from torch import Tensor, nn

from ganzoo.objectives.regularizers.auxiliary_classifier import AuxiliaryClassifier
from ganzoo.objectives.regularizers.contract import Regularizer
from ganzoo.objectives.regularizers.infogan import LEAST_DEVIATION, InfoGAN, gaussian_log_likelihood


def prepared(regularizer: Any, **changes: Any) -> Any:
    torch.manual_seed(8)
    regularizer.prepare(surroundings(**changes))
    return regularizer.double()


def softmax(logits: Any) -> Any:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def dense(head: nn.Module, x: Any) -> Any:
    assert isinstance(head, nn.Linear)
    return x @ head.weight.detach().numpy().T + head.bias.detach().numpy()


def flat(features: Tensor) -> Any:
    return features.detach().numpy().reshape(len(features), -1)


# ------------------------------------------------------------------ the auxiliary classifier


def test_the_classifiers_losses_are_scikit_learns_log_loss() -> None:
    step, regularizer = Step(), prepared(AuxiliaryClassifier())
    label = step.label.numpy()
    expected = [
        log_loss(label, softmax(dense(regularizer.head, flat(features["last"]))), labels=range(CLASSES))
        for features in (step.real_features, step.fake_features)
    ]
    of_discriminator = regularizer.discriminator_loss(step.discriminator())
    assert of_discriminator.item() == pytest.approx(sum(expected), rel=1e-12)
    assert regularizer.generator_loss(step.generator()).item() == pytest.approx(expected[1], rel=1e-12)


def test_the_classifiers_slopes_are_the_finite_differences() -> None:
    step, regularizer = Step(), prepared(AuxiliaryClassifier())
    for parameter in (step.real_features["last"], step.fake_features["last"], *regularizer.parameters()):
        assert_slopes(lambda: regularizer.discriminator_loss(step.discriminator()), parameter)
    assert_slopes(lambda: regularizer.generator_loss(step.generator()), step.fake_features["last"])


def test_the_classifier_looks_at_the_last_features_alone_and_the_generator_at_no_real_image() -> None:
    step, regularizer = Step(), prepared(AuxiliaryClassifier())
    loss = regularizer.discriminator_loss(step.discriminator())
    unused = (step.real_features["first"], step.fake_features["first"])
    assert torch.autograd.grad(loss, unused, allow_unused=True) == (None, None)
    assert not hasattr(step.generator(), "real_features")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0, "labelled": False}, "needs labelled images, and data.num_classes is 0"),
        ({"labelled": False}, "needs labelled images, and the classes are drawn at random"),
        ({"num_classes": 1}, "needs 2 classes or more, not 1"),
    ],
)
def test_a_classifier_without_classes_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AuxiliaryClassifier().prepare(surroundings(**changes))


# ------------------------------------------------------------------ InfoGAN


@pytest.mark.parametrize("variance", ["unit", "learned"])
def test_infogans_loss_is_minus_the_log_likelihood_of_the_code(variance: str) -> None:
    step = Step(labelled=False)
    regularizer = prepared(
        InfoGAN(continuous=2, variance=variance, hidden=0, class_weight=3.0, continuous_weight=0.7), labelled=False
    )
    out = dense(regularizer.head, flat(step.fake_features["last"]))
    of_class = log_loss(step.label.numpy(), softmax(out[:, :CLASSES]), labels=range(CLASSES))
    mean, rest = out[:, CLASSES : CLASSES + 2], out[:, CLASSES + 2 :]
    deviation = 0.01 + np.log1p(np.exp(rest)) if variance == "learned" else np.ones_like(mean)
    code = step.z.numpy()[:, -2:]
    density = np.exp(-((code - mean) ** 2) / (2 * deviation**2)) / np.sqrt(2 * np.pi * deviation**2)
    expected = 3.0 * of_class - 0.7 * np.mean(np.log(density).sum(axis=1))
    for loss in (
        regularizer.discriminator_loss(step.discriminator()),
        regularizer.generator_loss(step.generator()),
    ):
        assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_the_hidden_layer_is_a_leaky_relu_of_slope_a_tenth() -> None:
    step, regularizer = Step(labelled=False), prepared(InfoGAN(hidden=6), labelled=False)
    hidden = dense(regularizer.head[0], flat(step.fake_features["last"]))
    logits = dense(regularizer.head[2], np.where(hidden > 0, hidden, 0.1 * hidden))
    expected = log_loss(step.label.numpy(), softmax(logits), labels=range(CLASSES))
    assert regularizer.discriminator_loss(step.discriminator()).item() == pytest.approx(expected, rel=1e-12)
    assert (hidden < 0).any()


@pytest.mark.parametrize("options", [{}, {"continuous": 3, "variance": "learned"}], ids=str)
def test_infogans_slopes_are_the_finite_differences(options: dict[str, Any]) -> None:
    step, regularizer = Step(labelled=False), prepared(InfoGAN(hidden=4, **options), labelled=False)
    for parameter in (step.fake_features["last"], *regularizer.parameters()):
        assert_slopes(lambda: regularizer.discriminator_loss(step.discriminator()), parameter, count=3)
    assert_slopes(lambda: regularizer.generator_loss(step.generator()), step.fake_features["last"])


def test_labels_of_the_data_are_no_code() -> None:
    step, regularizer = Step(), prepared(InfoGAN(continuous=1))
    assert regularizer.classes == 0
    other = step.label.flip(0)
    loss = regularizer.discriminator_loss(step.discriminator())
    assert torch.equal(loss, regularizer.discriminator_loss(step.discriminator(fake_label=other)))


def train_head(regularizer: InfoGAN, features: Tensor, label: Tensor | None, z: Tensor, steps: int = 100) -> float:
    """Return the loss of new samples, the second half, after Q has learnt from the first."""
    half = len(z) // 2
    step = Step(labelled=False)

    def loss(part: slice) -> Tensor:
        shown = {"last": features[part]}
        chosen = None if label is None else label[part]
        value = regularizer.discriminator_loss(step.discriminator(fake_features=shown, fake_label=chosen, z=z[part]))
        assert value is not None
        return value

    optimizer = torch.optim.Adam(regularizer.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(slice(half)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return float(loss(slice(half, None)))


def test_the_bound_never_tells_more_of_a_class_than_its_entropy() -> None:
    # H(c) - loss is at most I(c; x): 0 where the features do not depend on the code, H(c) where they are the code.
    torch.manual_seed(0)
    label = torch.randint(CLASSES, (3000,))
    entropy = math.log(CLASSES)
    z = torch.randn(3000, LATENT).double()
    nothing = train_head(prepared(InfoGAN(hidden=0), labelled=False), torch.randn(3000, 2, 3).double(), label, z)
    assert -0.02 < entropy - nothing < 0.02
    all_of_it = 4.0 * nn.functional.one_hot(label, 6).double().view(-1, 2, 3)
    everything = train_head(prepared(InfoGAN(hidden=0), labelled=False), all_of_it, label, z)
    assert 0.9 * entropy < entropy - everything <= entropy


def test_the_bound_never_tells_more_of_a_number_than_the_channel_lets_through() -> None:
    # x = c + 0.5 n of standard normal c and n: I(c; x) = ln(1 + 1 / 0.25) / 2, and a Gaussian Q reaches it.
    torch.manual_seed(0)
    z = torch.randn(3000, LATENT).double()
    features = (z[:, -1:] + 0.5 * torch.randn(3000, 1)).double().expand(-1, 6).reshape(-1, 2, 3)
    regularizer = prepared(
        InfoGAN(continuous=1, variance="learned", hidden=0, continuous_weight=1.0), num_classes=0, labelled=False
    )
    entropy, information = 0.5 * math.log(2 * math.pi * math.e), 0.5 * math.log(5.0)
    bound = entropy - train_head(regularizer, features, None, z)
    assert information - 0.08 < bound < information + 0.04


def test_a_learned_deviation_has_a_floor() -> None:
    regularizer = prepared(InfoGAN(continuous=1, variance="learned", hidden=0), num_classes=0, labelled=False)
    regularizer.head.bias.data.fill_(-1e4)
    _, _, deviation = regularizer.guess(torch.zeros(2, 2, 3, dtype=torch.float64))
    assert (deviation == LEAST_DEVIATION).all()


def test_the_log_likelihood_is_torchs() -> None:
    value, mean = torch.randn(7).double(), torch.randn(7).double()
    deviation = torch.rand(7).double() + 0.1
    expected = torch.distributions.Normal(mean, deviation).log_prob(value)
    assert torch.allclose(gaussian_log_likelihood(value, mean, deviation), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({}, {}, "there is no code"),
        ({}, {"num_classes": 0, "labelled": False}, "there is no code"),
        ({}, {"num_classes": 1, "labelled": False}, "there is no code"),
        ({"continuous": 4}, {}, r"continuous \(=4\) cannot exceed generator.latent_dim \(=3\)"),
    ],
)
def test_infogan_without_a_code_is_refused(options: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InfoGAN(**options).prepare(surroundings(**changes))


@pytest.mark.parametrize("options", [{"variance": "some"}, {"continuous": -1}, {"hidden": -1}], ids=str)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        InfoGAN(**options)


# ------------------------------------------------------------------ both


@pytest.mark.parametrize(
    ("regularizer", "changes"),
    [(AuxiliaryClassifier(), {}), (InfoGAN(continuous=1), {"labelled": False})],
    ids=["auxiliary_classifier", "infogan"],
)
def test_features_in_bfloat16_are_judged_in_float32(regularizer: Regularizer, changes: dict[str, Any]) -> None:
    regularizer.prepare(surroundings(**changes))
    step = Step(**({"labelled": False} if changes else {}))
    rough = {name: values.detach().bfloat16() for name, values in step.fake_features.items()}
    exact = {name: values.float() for name, values in rough.items()}
    losses = [regularizer.generator_loss(step.generator(fake_features=one, z=step.z.float())) for one in (rough, exact)]
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[0].dtype == torch.float32
    assert torch.equal(losses[0], losses[1])
