"""The fast products of a convolution against torch's in double precision, alone and inside networks."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ganzoo.training import convolutions
from ganzoo.training.convolutions import convolve, input_gradient, output_size, weight_gradient
from ganzoo.training.fast_convolutions import fast_convolutions

# batch, in, out, side, kernel, stride, padding
GEOMETRIES = [
    (4, 3, 16, 8, 4, 2, 1),  # the first layer of a discriminator: few channels
    (3, 1, 16, 14, 5, 2, 2),
    (2, 3, 8, 8, 3, 2, 1),
    (2, 2, 8, 7, 5, 2, 2),  # an odd side has no phases
    (4, 16, 24, 8, 5, 2, 2),  # a small output
    (4, 32, 16, 7, 5, 2, 2),
    (2, 16, 16, 6, 3, 1, 1),
    (2, 16, 24, 20, 4, 2, 1),  # squares of pixels
    (2, 24, 16, 16, 4, 2, 1),
    (2, 80, 16, 16, 4, 2, 1),
    (2, 16, 8, 9, 3, 2, 0),  # what the padding leaves over
    (2, 16, 8, 4, 4, 1, 0),
]
PRECISIONS = {torch.bfloat16: 6e-3, torch.float32: 2e-6, torch.float64: 1e-13}


def _error(value: torch.Tensor, exact: torch.Tensor) -> float:
    assert value.shape == exact.shape
    value, exact = value.detach().double(), exact.detach().double()
    return float((value - exact).norm() / exact.norm())


def _tensors(geometry, dtype):
    batch, into, out, side, kernel, stride, padding = geometry
    torch.manual_seed(0)
    x = torch.randn(batch, into, side, side, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(out, into, kernel, kernel, dtype=dtype).to(memory_format=torch.channels_last)
    size = output_size((side, side), (kernel, kernel), (stride, stride), (padding, padding))
    y = torch.randn(batch, out, *size, dtype=dtype).to(memory_format=torch.channels_last)
    return x, weight, y, (stride, stride), (padding, padding)


@pytest.fixture
def every_form(monkeypatch):
    """Large kernels' own form for small kernels too."""
    monkeypatch.setattr(convolutions, "_LARGE_KERNEL", 0)
    monkeypatch.setattr(convolutions, "_LARGE_KERNEL_IN_FLOAT32", 0)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("large", [False, True])
def test_the_products_are_those_of_double_precision(geometry, dtype, large, request):
    if large:
        request.getfixturevalue("every_form")
    x, weight, y, stride, padding = _tensors(geometry, dtype)
    exact_x, exact_weight = x.double().requires_grad_(), weight.double().requires_grad_()
    exact = F.conv2d(exact_x, exact_weight, stride=stride, padding=padding)
    of_x, of_weight = torch.autograd.grad(exact, (exact_x, exact_weight), y.double())
    limit = PRECISIONS[dtype]
    assert _error(convolve(x, weight, stride, padding), exact.detach()) < limit
    assert _error(input_gradient(y, weight, x.shape[2:], stride, padding), of_x) < limit
    assert _error(weight_gradient(x, y, weight.shape[2:], stride, padding), of_weight) < limit


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_products_keep_channels_last(geometry):
    x, weight, y, stride, padding = _tensors(geometry, torch.bfloat16)
    for value in (
        convolve(x, weight, stride, padding),
        input_gradient(y, weight, x.shape[2:], stride, padding),
        weight_gradient(x, y, weight.shape[2:], stride, padding),
    ):
        assert value.is_contiguous(memory_format=torch.channels_last)


def _forms_taken(monkeypatch, geometry, dtype) -> set[str]:
    taken = set()
    for name in ("_unfold", "_joined_phases", "_even_weight_gradient"):
        form = getattr(convolutions, name)
        monkeypatch.setattr(convolutions, name, lambda *args, name=name, form=form: (taken.add(name), form(*args))[1])
    x, weight, y, stride, padding = _tensors(geometry, dtype)
    convolve(x, weight, stride, padding)
    input_gradient(y, weight, x.shape[2:], stride, padding)
    weight_gradient(x, y, weight.shape[2:], stride, padding)
    return taken


@pytest.mark.parametrize(
    ("geometry", "dtype", "forms"),
    [
        ((4, 3, 16, 8, 4, 2, 1), torch.bfloat16, {"_joined_phases"}),
        ((4, 3, 16, 8, 4, 2, 1), torch.float32, {"_joined_phases"}),
        ((2, 2, 8, 7, 5, 2, 2), torch.bfloat16, set()),
        ((4, 16, 24, 8, 5, 2, 2), torch.bfloat16, {"_unfold"}),
        ((4, 16, 24, 8, 5, 2, 2), torch.float32, set()),
        ((2, 16, 24, 20, 4, 2, 1), torch.bfloat16, {"_even_weight_gradient"}),
        ((2, 16, 24, 20, 4, 2, 1), torch.float32, set()),
        ((2, 80, 16, 20, 4, 2, 1), torch.bfloat16, set()),
        ((4, 3, 16, 8, 4, 2, 1), torch.float64, set()),
        ((4, 16, 24, 8, 5, 2, 2), torch.float64, set()),
    ],
)
def test_the_form_follows_from_shape_and_number_format(monkeypatch, geometry, dtype, forms):
    assert _forms_taken(monkeypatch, geometry, dtype) == forms


def test_a_very_large_kernel_over_a_small_output_is_a_matrix_product(monkeypatch):
    assert _forms_taken(monkeypatch, (1, 640, 640, 8, 5, 2, 2), torch.bfloat16) == {"_unfold"}
    monkeypatch.setattr(convolutions, "_is_slow_weight_gradient", lambda *args: False)  # so it was the output, too
    assert _forms_taken(monkeypatch, (1, 640, 640, 8, 5, 2, 2), torch.bfloat16) == {"_unfold"}


class _Net(nn.Module):
    """Convolutions and transposed ones with biases, and both ways between images and rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.down = nn.Conv2d(3, 16, 4, 2, 1)
        self.deep = nn.Conv2d(16, 32, 5, 2, 2, bias=False)
        self.dense = nn.Linear(32 * 4, 32 * 4)
        self.up = nn.ConvTranspose2d(32, 16, 5, 2, 2, output_padding=1)
        self.image = nn.ConvTranspose2d(16, 3, 4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.deep(F.leaky_relu(self.down(x), 0.2)), 0.2)
        x = self.dense(x.flatten(1)).view(-1, 32, 2, 2)
        return torch.tanh(self.image(torch.relu(self.up(x))))


def _penalised_gradients(net: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return gradients of first and second order: of an output's square and of the square of its gradient."""
    out = net(x)
    (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    loss = out.square().sum() + slope.square().sum()
    names = [name for name, _ in net.named_parameters()]
    return dict(zip(names, torch.autograd.grad(loss, list(net.parameters())), strict=True))


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-13), (torch.float32, 2e-5)])
def test_gradients_of_any_order_are_torchs_own(dtype, limit):
    net = _Net().to(dtype).to(memory_format=torch.channels_last)
    x = torch.randn(3, 3, 8, 8, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    plain = _penalised_gradients(net, x)
    with fast_convolutions():
        fast = _penalised_gradients(net, x)
    for name, gradient in plain.items():
        assert _error(fast[name], gradient) < limit, name


def test_gradients_pass_a_finite_difference_check_of_second_order():
    torch.manual_seed(0)
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True)

    def both(x, weight):
        with fast_convolutions():
            y = F.conv2d(x, weight, stride=2, padding=1)
            return F.conv_transpose2d(y, weight, stride=2, padding=1)

    assert torch.autograd.gradcheck(both, (x, weight))
    assert torch.autograd.gradgradcheck(both, (x, weight))


def test_under_autocast_they_compute_in_bfloat16_and_gradients_are_float32():
    net = _Net().to(memory_format=torch.channels_last)
    x = torch.randn(8, 3, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        with fast_convolutions():
            fast = net(x)
        plain = net(x)
    exact = copy.deepcopy(net).double()(x.detach().double())
    assert fast.dtype == plain.dtype == torch.bfloat16
    assert _error(fast, exact) < 1.5 * _error(plain, exact)
    gradients = torch.autograd.grad(fast.float().square().sum(), list(net.parameters()))
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.conv2d(x, torch.ones(4, 2, 3, 3), groups=2),
        lambda x: F.conv2d(x, torch.ones(4, 4, 3, 3), dilation=2),
        lambda x: F.conv2d(x, torch.ones(4, 4, 3, 3), padding="same"),
        lambda x: F.conv2d(x[0], torch.ones(4, 4, 3, 3)),
        lambda x: F.conv2d(x[:0], torch.ones(4, 4, 3, 3)),
        lambda x: F.conv2d(x, weight=torch.ones(4, 4, 3, 3), bias=torch.ones(4), stride=(2, 1), padding=(1, 0)),
        lambda x: F.conv2d(x, torch.ones(4, 4, 3, 3), None, [2], [1]),
        lambda x: F.conv_transpose2d(x, torch.ones(4, 2, 3, 3), groups=2),
        lambda x: F.conv_transpose2d(x, torch.ones(4, 4, 3, 3), stride=2, output_padding=1, dilation=2),
        lambda x: F.conv_transpose2d(x, torch.ones(4, 4, 3, 3), bias=torch.ones(4), stride=(2, 1), padding=(1, 0)),
        lambda x: x.flatten(),
        lambda x: x.flatten(2),
        lambda x: x.flatten(1).view(-1, 4, 9, 9),
        lambda x: x.view(2, -1),
        lambda x: x.view(8, 81),
        lambda x: x.flatten(0, 2),
    ],
)
def test_every_way_to_call_a_convolution_gives_what_torch_gives(call):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 9, 9)
    with fast_convolutions():
        fast = call(x)
    plain = call(x)
    assert fast.shape == plain.shape
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


def test_outside_of_the_context_torch_is_as_it_was():
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    with fast_convolutions():
        inside = F.conv2d(x, torch.ones(4, 3, 3, 3))
    outside = F.conv2d(x, torch.ones(4, 3, 3, 3))
    assert "Convolve" in type(inside.grad_fn).__name__
    assert "Convolution" in type(outside.grad_fn).__name__
