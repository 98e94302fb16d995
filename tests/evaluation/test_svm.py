"""The linear support vector machines: the same problem as LinearSVC's, solved to the same answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC

from ganzoo.errors import UsageError
from ganzoo.evaluation.probe import newton, svm
from ganzoo.evaluation.probe.svm import LinearSVM, SVMProblem, fit_svm
from ganzoo.evaluation.tables import FeatureTable, FileRows, TableWriter

Table = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@pytest.fixture(scope="module")
def digits() -> Table:
    """600 digits of 8×8 in [0, 1]."""
    images, labels = load_digits(return_X_y=True)
    return (images[:600] / 16).astype(np.float32), labels[:600].astype(np.int64)


def wide(rows: int = 60, columns: int = 400, classes: int = 3) -> Table:
    """Far fewer rows than columns, of uneven scales and no mean of zero."""
    random = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    centres = random.normal(size=(classes, columns))
    features = centres[labels] + 3 * random.normal(size=(rows, columns)) + 1.0
    return (features * random.uniform(0.1, 2.0, columns)).astype(np.float32), labels.astype(np.int64)


def objective(features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], machine: LinearSVM) -> float:
    """The sum over classes, in float64."""
    weights, intercepts = machine.coefficients.astype(np.float64), machine.intercepts.astype(np.float64)
    signs = np.where(labels == machine.classes[:, None], 1.0, -1.0)
    hinge = np.maximum(0.0, 1.0 - signs * (weights @ features.astype(np.float64).T + intercepts[:, None]))
    return float(0.5 * (weights**2).sum() + 0.5 * (intercepts**2).sum() + machine.cost * (hinge**2).sum())


def reference(features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], cost: float) -> LinearSVM:
    """What scikit-learn finds, solved to far beyond its default."""
    found = LinearSVC(loss="squared_hinge", dual=False, C=cost, tol=1e-9, max_iter=5000)
    found.fit(features.astype(np.float64), labels)
    coefficients, intercepts = found.coef_.astype(np.float32), found.intercept_.astype(np.float32)
    return LinearSVM(found.classes_.astype(np.int64), coefficients, intercepts, cost, True)


def assert_same(features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], one: LinearSVM) -> None:
    wanted = reference(features, labels, one.cost)
    scale = np.abs(wanted.coefficients).max()
    assert one.converged
    assert objective(features, labels, one) == pytest.approx(objective(features, labels, wanted), rel=1e-5)
    assert np.abs(one.coefficients - wanted.coefficients).max() < 1e-3 * scale
    assert np.abs(one.intercepts - wanted.intercepts).max() < 1e-3 * max(scale, float(np.abs(wanted.intercepts).max()))
    assert (one.predict(features) == wanted.predict(features)).mean() > 0.999


@pytest.mark.parametrize("cost", [1e-4, 1e-2, 1.0])
def test_small_tables_give_the_coefficients_of_linear_svc(digits: Table, cost: float) -> None:
    assert_same(*digits, fit_svm(*digits, cost, tolerance=1e-6))


@pytest.mark.parametrize(("scale", "shift"), [(16.0, 0.0), (1.0, 3.0)])
def test_features_are_taken_as_they_are_with_any_scale_and_mean(digits: Table, scale: float, shift: float) -> None:
    features = digits[0] * np.float32(scale) + np.float32(shift)
    assert_same(features, digits[1], fit_svm(features, digits[1], 1e-3, tolerance=1e-6))


@pytest.mark.parametrize("cost", [1e-4, 1e-2, 1.0])
def test_tables_read_in_blocks_of_float32_give_the_coefficients_of_linear_svc(
    digits: Table, cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newton, "_EXACT_NUMBERS", 0)
    monkeypatch.setattr(newton, "_BLOCK_BYTES", 4 * 64 * 97)  # seven blocks, the last shorter
    assert_same(*digits, fit_svm(*digits, cost, tolerance=1e-5))


def test_a_table_in_a_file_gives_what_it_gives_in_memory(
    digits: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newton, "_EXACT_NUMBERS", 0)
    with TableWriter(tmp_path / "features.npy", *digits[0].shape) as writer:
        writer.add(digits[0])
    table = FeatureTable(FileRows(tmp_path / "features.npy"))
    one, other = fit_svm(table, digits[1], 1e-2), fit_svm(digits[0], digits[1], 1e-2)
    assert np.array_equal(one.coefficients, other.coefficients)
    assert np.array_equal(one.scores(table), other.scores(digits[0]))


@pytest.mark.parametrize("sample", [1024, 40])
def test_far_more_columns_than_rows_give_the_coefficients_of_linear_svc(
    sample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newton, "_SAMPLE_ROWS", sample)
    features, labels = wide()
    assert_same(features, labels, fit_svm(features, labels, 1e-2, tolerance=1e-6))


def test_a_sample_of_the_rows_saves_passes_where_features_are_badly_scaled(
    digits: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = digits[0] * np.geomspace(0.1, 10, 64).astype(np.float32) + 3
    passes = {}
    for sample in (300, 1):
        monkeypatch.setattr(newton, "_SAMPLE_ROWS", sample)
        told: list[int] = []
        fit_svm(features, digits[1], 1e-3, progress=told.append)
        passes[sample] = told[-1]
    assert passes[300] < 0.7 * passes[1]


def test_equal_rows_change_nothing(digits: Table) -> None:
    features, labels = digits[0][:50].repeat(2, axis=0), digits[1][:50].repeat(2)
    assert_same(features, labels, fit_svm(features, labels, 1e-2, tolerance=1e-6))


def test_arrays_that_cannot_be_written_are_read(digits: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newton, "_EXACT_NUMBERS", 0)
    frozen = digits[0].copy()
    frozen.flags.writeable = False
    assert np.array_equal(fit_svm(frozen, digits[1], 1e-2).coefficients, fit_svm(*digits, 1e-2).coefficients)


def test_labels_keep_their_numbers(digits: Table) -> None:
    machine = fit_svm(digits[0], digits[1] * 3 + 5, 1e-2)
    assert machine.classes.tolist() == list(range(5, 35, 3))
    assert machine.accuracy(digits[0], digits[1] * 3 + 5) > 0.9


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(4, 30), st.integers(1, 8), st.sampled_from([1e-3, 0.1, 1.0]))
def test_the_gradient_in_float64_vanishes_at_what_is_found(seed: int, rows: int, columns: int, cost: float) -> None:
    random = np.random.default_rng(seed)
    features, labels = random.normal(size=(rows, columns)).astype(np.float32), np.arange(rows) % 2
    machine = fit_svm(features, labels, cost, tolerance=1e-7)
    whole = np.column_stack([features.astype(np.float64), np.ones(rows)])
    weights = np.column_stack([machine.coefficients, machine.intercepts]).astype(np.float64)
    signs = np.where(labels == machine.classes[:, None], 1.0, -1.0)
    hinge = np.maximum(0.0, 1.0 - signs * (weights @ whole.T))
    gradient = weights - 2 * cost * (signs * hinge) @ whole
    at_zero = 2 * cost * signs @ whole
    assert np.linalg.norm(gradient) <= 1e-5 * np.linalg.norm(at_zero) + 1e-6


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-4, 1e3))
def test_the_length_of_a_step_is_the_minimum_along_it(seed: int, cost: float) -> None:
    import torch

    random = torch.Generator().manual_seed(seed)
    weights, scores = torch.randn(1, 5, generator=random).double(), torch.randn(1, 20, generator=random).double()
    direction, moved = torch.randn(1, 5, generator=random).double(), torch.randn(1, 20, generator=random).double()
    targets = torch.randint(-1, 2, (1, 20), generator=random).to(torch.int8)

    def value(length: float) -> float:
        hinge = (1 - targets * (scores + length * moved)).clamp(min=0) * (targets != 0)
        return float(0.5 * (weights + length * direction).square().sum() + cost * hinge.square().sum())

    if value(1e-6) >= value(0.0):
        direction, moved = -direction, -moved  # downhill, as Newton's direction is
    length = float(newton._exact_length(weights, direction, scores, moved, targets, cost))
    near = 1e-3 * max(1.0, length)
    assert value(length) <= min(value(length - near), value(length + near)) + 1e-12 * abs(value(length))


def test_cross_validation_names_held_out_images_as_folds_solved_one_by_one_do(digits: Table) -> None:
    features, labels = digits
    problem = SVMProblem(features, labels)
    choice = problem.choose_cost([1e-3, 1e-2], folds=3, seed=4)
    part = svm._parts(labels, problem.classes, 3, 4)
    for cost in (1e-3, 1e-2):
        right = []
        for turn in range(3):
            kept, held = part != turn, part == turn
            machine = reference(features[kept], labels[kept], cost)
            right.append(machine.predict(features[held]) == labels[held])
        assert choice.accuracies[cost] == pytest.approx(np.concatenate(right).mean(), abs=2 / len(labels))
    assert (choice.folds, choice.held_out) == (3, 3)


def test_one_held_out_part_is_a_fifth_of_every_class(digits: Table) -> None:
    labels = digits[1]
    part = svm._parts(labels, np.unique(labels), 5, 0)
    shares = [(part[labels == one] == 0).mean() for one in range(10)]
    assert shares == pytest.approx([0.2] * 10, abs=0.02)
    assert SVMProblem(*digits).choose_cost([1e-2], held_out=1).held_out == 1


def test_a_fit_after_the_choice_is_the_same_solution(digits: Table) -> None:
    problem = SVMProblem(*digits, tolerance=1e-6)
    problem.choose_cost([1e-3, 1e-2, 1e-1], held_out=1)
    assert_same(*digits, problem.fit(1e-2))


@pytest.mark.parametrize(
    ("best", "costs", "tried"),
    [
        (1e-2, [1e-3, 1e-2, 1e-1, 1.0, 10.0], [1e-3, 1e-2, 1e-1, 1.0]),  # two worse ones end it
        (10.0, [1e-2, 1e-1], [1e-2, 1e-1, 1.0, 10.0, 100.0]),  # beyond the last
        (1e-5, [1e-3, 1e-2, 1e-1], [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]),  # beyond the first
    ],
)
def test_c_is_looked_for_beyond_the_ends(best: float, costs: list[float], tried: list[float]) -> None:
    found, accuracies = svm._climb(lambda cost: -abs(np.log10(cost) - np.log10(best)), costs)
    assert found == pytest.approx(best)
    assert list(accuracies) == pytest.approx(tried)


def test_of_equal_accuracies_the_smallest_c_is_chosen() -> None:
    found, _ = svm._climb(lambda cost: min(cost, 1e-2), [1e-3, 1e-2, 1e-1, 1.0])
    assert found == 1e-2


@pytest.mark.parametrize("large", [False, True])
def test_features_that_are_not_finite_are_refused(large: bool, digits: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newton, "_EXACT_NUMBERS", 0 if large else 1 << 25)
    features = digits[0].copy()
    features[7, 3] = np.nan
    with pytest.raises(UsageError, match="not all finite"):
        fit_svm(features, digits[1], 1e-2)
    with pytest.raises(UsageError, match="not all finite"):
        fit_svm(np.full((4, 100), np.inf, dtype=np.float32), np.arange(4) % 2, 1e-2)


@pytest.mark.parametrize(
    ("labels", "cost", "message"),
    [
        (np.zeros(600, dtype=np.int64), 1e-2, "one class"),
        (np.arange(599) % 10, 1e-2, "600 rows"),
        (np.linspace(0, 1, 600), 1e-2, "600 rows"),
        (np.arange(600) % 10, 0.0, "C \\(=0.0\\)"),
        (np.arange(600) % 10, float("nan"), "C \\(=nan\\)"),
    ],
)
def test_what_cannot_be_solved_is_refused(
    digits: Table, labels: npt.NDArray[np.int64], cost: float, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fit_svm(digits[0], labels, cost)


def test_a_class_of_one_image_has_no_cross_validation(digits: Table) -> None:
    labels = np.zeros(600, dtype=np.int64)
    labels[0] = 1
    with pytest.raises(UsageError, match="a class has 1 images"):
        SVMProblem(digits[0], labels).choose_cost()
