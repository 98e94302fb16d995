"""Several processes draw what one draws and compute what one computes; and how they talk to each other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from several import results, together
from tiny_runs import CONDITIONAL, labelled, recipe

from ganzoo.data import Pack, open_pack
from ganzoo.data.request import DataRequest
from ganzoo.errors import NotFiniteError, ProcessesError, UsageError
from ganzoo.recipes import Recipe
from ganzoo.torchrun import Place, place
from ganzoo.training.feeder import Feeder
from ganzoo.training.joining import device_here, join_world
from ganzoo.training.networks import build_networks
from ganzoo.training.processes import ALONE, StopVote, World
from ganzoo.training.rounds import make_round
from ganzoo.training.step import Step

CPU = torch.device("cpu")
STEPS = 4
NO_NORM = {"generator__norm": "none", "discriminator__norm": "none", "train__batch_size": 8}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pack]:
    home = tmp_path_factory.mktemp("packs")
    with open_pack(labelled(30), DataRequest(8, 1), cache_dir=home) as pack:
        yield pack


# ------------------------------------------------------------------ what they draw

ORDERS: dict[str, dict[str, Any]] = {
    "sequential": {},
    "simultaneous": {"train__update": "simultaneous"},
    "alternating": {"train__update": "alternate_minibatches"},
    "two steps of D": {"train__discriminator_steps": 2},
    "other batch of G": {"train__generator_batch_size": 12},
    "reused fakes": {"train__reuse_fakes": True},
    "joined": {"train__real_fake_batches": "joined"},
    "accumulated": {"train__accumulate": 2},
    "paired": {"objective__name": "relativistic"},
    "paired with reused reals": {"objective__name": "relativistic", "train__generator_reals": "reuse"},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("resident", [True, False])
def test_the_shares_are_what_one_process_draws(order: str, size: int, resident: bool, pack: Pack) -> None:
    """Images with flips, labels, z, and the numbers that key all other draws."""
    asked = recipe(**NO_NORM | CONDITIONAL | ORDERS[order])

    def feed(world: World) -> list[list[Any]]:
        round_ = make_round(asked.train, generator_uses_real=order.startswith("paired"))
        feeder = Feeder(asked, round_, pack, CPU, torch.float32, resident=resident, world=world)
        return list(feeder.rounds(2, 5))

    one, shares = feed(ALONE), [feed(World(rank, size)) for rank in range(size)]
    for number, parts in enumerate(one):
        for place_, part in enumerate(parts):
            together_ = [share[number][place_] for share in shares]
            for name in ("real", "label", "z"):
                whole = getattr(part, name)
                found = [getattr(share, name) for share in together_]
                assert whole is None if found[0] is None else torch.equal(whole, torch.cat(found)), name
            for name in ("reals", "latents"):
                numbers = [getattr(share, name).numbers for share in together_]
                assert np.array_equal(getattr(part, name).numbers, np.concatenate(numbers)), name


# ------------------------------------------------------------------ what they compute

_COMPUTED: dict[str, dict[str, Any]] = {
    **ORDERS,
    "dropout, labels, flips": CONDITIONAL,
    "spectral norm": {"discriminator__norm": "spectral"},
    "penalty on a line": {"penalty": [{"where": "line", "rule": "one_centered", "weight": 0.5, "every": 2}]},
    "penalty on both": {
        "penalty": [{"where": where, "rule": "zero_centered", "weight": 0.5} for where in ("real", "fake")]
    },
    "penalty, simultaneous, accumulated": {
        "penalty": [{"where": "around_real", "rule": "one_centered", "weight": 0.5}],
        "train__update": "simultaneous",
        "train__accumulate": 2,
    },
    "LeCam": {"regularizer": [{"name": "lecam", "weight": 0.3}]},
    "consistency": {"regularizer": [{"name": "consistency", "weight": 1.0}]},
    "latent consistency": {"regularizer": [{"name": "latent_consistency", "weight": 1.0}]},
    "weight clipping": {"regularizer": [{"name": "weight_clipping", "limit": 0.02}]},
    "adaptive augmentation": {"augmentation": {"name": "flip", "probability": {"every": 2, "kimg": 0.05}}},
    "RMSprop": {"optimizer__name": "rmsprop"},
}
_COMPUTED |= {name: {"objective__name": name} for name in ("minimax", "least_squares", "hinge", "margin")}


def compute(asked: Recipe, pack: Pack, world: World, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The networks, the average and the statistics after a few steps."""
    torch.set_default_dtype(dtype)
    networks = [network.to(dtype) for network in build_networks(asked)]
    torch.manual_seed(0)
    step = Step(asked, *networks, "fp32", world)
    for number, batches in enumerate(
        Feeder(asked, step.round, pack, CPU, dtype, resident=True, world=world).rounds(0, STEPS)
    ):
        step(number, batches)
    torch.set_default_dtype(torch.float32)
    found = {
        f"{name}/{key}": one
        for name in ("generator", "discriminator")
        for key, one in getattr(step, name).state_dict().items()
    }
    found |= {f"average/{key}": one for key, one in step.ema.network.state_dict().items()} if step.ema else {}
    if step.probability is not None:
        found["probability"] = step.probability.value
    world.settle_(list(step.statistics.state().values()))
    means = step.statistics.read()
    # The spread of the logits, and where it has no boundary the middle of them, are those of each share.
    of_shares = ("_std", *(() if step.objective.boundary is not None else ("accuracy/real", "accuracy/fake")))
    found |= {f"mean/{key}": torch.tensor(value) for key, value in means.items() if not key.endswith(of_shares)}
    return {key: one.detach().clone() for key, one in found.items()}


def _recipes() -> dict[str, Recipe]:
    return {name: recipe(**NO_NORM | changes) for name, changes in _COMPUTED.items()}


@pytest.fixture(scope="module")
def computed(pack: Pack) -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    """What two processes compute, by case and kind of number; launched once for all cases."""

    def work(rank: int) -> dict[tuple[str, str], dict[str, Any]]:
        found = {}
        with join_world(CPU) as world:
            for name, asked in _recipes().items():
                for dtype in (torch.float32, torch.float64):
                    one = compute(asked, pack, world, dtype)
                    found[name, str(dtype)] = {key: tensor.numpy() for key, tensor in one.items()}
        return found

    first, second = results(work)
    for case, numbers in first.items():
        for key, number in numbers.items():
            assert np.array_equal(number, second[case][key]), f"the processes differ in {key} of {case}"
    return {case: {key: torch.from_numpy(one) for key, one in numbers.items()} for case, numbers in first.items()}


@pytest.mark.parametrize("case", _COMPUTED)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_without_batch_norm_they_compute_what_one_process_computes(
    case: str, dtype: torch.dtype, tolerance: float, pack: Pack, computed: dict[Any, dict[str, torch.Tensor]]
) -> None:
    one, two = compute(_recipes()[case], pack, ALONE, dtype), computed[case, str(dtype)]
    assert one.keys() == two.keys()
    for name, number in one.items():
        near = torch.allclose(number.double(), two[name].double(), rtol=10 * tolerance, atol=tolerance)
        assert near, f"{name}: {(number - two[name]).abs().max():.1e} apart"


def test_the_means_are_over_all_processes_and_settling_keeps_what_is_the_same() -> None:
    def work(rank: int) -> list[Any]:
        with join_world(CPU) as world:
            tenth = torch.tensor([0.1, float(rank)])
            double = torch.full((2, 2), float(rank), dtype=torch.float64)
            whole = world.mean(tenth)
            world.mean_([tenth, double])
            settled = torch.tensor([0.1, float(rank)])
            world.settle_([settled])
            return [one.tolist() for one in (whole, tenth, double, settled)]

    for found in results(work, 3):
        assert found[0] == found[1] == pytest.approx([0.1, 1.0])
        assert found[2] == [[1.0, 1.0], [1.0, 1.0]]
        assert found[3] == [torch.tensor(0.1).item(), 1.0]  # the sum of three tenths by three is another number


def test_what_the_first_tells_everyone_knows() -> None:
    def work(rank: int) -> list[Any]:
        with join_world(CPU) as world:
            tensors = {"a/b": torch.tensor([1.5, 2.5]).bfloat16(), "none": torch.zeros(0, 3), "scalar": torch.tensor(7)}
            sent = world.tensors_of_first(tensors if rank == 0 else {})
            return [
                world.tell({"run": "é"} if rank == 0 else None),
                world.exchange(rank),
                world.least(10 - rank),
                {name: (str(one.dtype), one.tolist()) for name, one in sent.items()},
            ]

    expected = [
        {"run": "é"},
        [0, 1, 2],
        8,
        {
            "a/b": ("torch.bfloat16", [1.5, 2.5]),
            "none": ("torch.float32", []),
            "scalar": ("torch.int64", 7),
        },
    ]
    assert results(work, 3) == [expected] * 3


def test_a_vote_of_any_process_is_known_to_all_after_the_next() -> None:
    def work(rank: int) -> list[int]:
        with join_world(CPU) as world:
            vote = StopVote(world)
            counts = [vote(15 if (rank, step) == (1, 2) else 0) for step in range(5)]
            return [*counts, vote.count()]

    assert results(work) == [[0, 0, 0, 15, 0, 0]] * 2
    alone = StopVote(ALONE)
    assert [alone(0), alone(2), alone.count()] == [0, 2, 0]


def test_a_process_may_join_again_and_again() -> None:
    def work(rank: int) -> list[Any]:
        found = []
        for number in range(3):
            with join_world(CPU) as world:
                found.append(world.exchange(number * 10 + rank))
        return found

    assert results(work) == [[[0, 1], [10, 11], [20, 21]]] * 2


def test_a_group_that_is_there_is_used_and_left_there() -> None:
    def work(rank: int) -> float:
        torch.distributed.init_process_group("gloo")
        with join_world(CPU) as world:
            assert world.exchange(rank) == [0, 1]
        one = torch.tensor(float(rank))
        torch.distributed.all_reduce(one)
        return float(one)

    assert results(work) == [1.0, 1.0]


@pytest.mark.parametrize("waiting", ["tell", "mean", "least", "vote"])
def test_who_waits_for_one_that_failed_is_told_so(waiting: str) -> None:
    """The one that failed tells why; the others carry the mark that keeps them silent."""

    def work(rank: int) -> Any:
        try:
            with join_world(CPU) as world:
                if rank == 1:
                    raise ValueError("mine")
                if waiting == "vote":
                    vote = StopVote(world)
                    vote(0)
                    return vote.count()
                value = {"tell": 1, "mean": torch.zeros(2), "least": 1}[waiting]
                return getattr(world, "exchange" if waiting == "tell" else waiting)(value)
        except (ProcessesError, ValueError) as error:
            return type(error).__name__, error.told_elsewhere  # type: ignore[union-attr]

    assert results(work) == [("ProcessesError", True), ("ValueError", False)]


def test_what_all_find_together_is_told_by_the_first_alone() -> None:
    def work(rank: int) -> bool:
        try:
            with join_world(CPU):
                raise NotFiniteError("all of them see it")
        except NotFiniteError as error:
            return bool(error.told_elsewhere)  # type: ignore[attr-defined]

    assert results(work, 3) == [False, True, True]


def test_of_those_that_one_killed_leaves_behind_exactly_one_tells_of_it() -> None:
    def work(rank: int) -> Any:
        try:
            with join_world(CPU) as world:
                if rank == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return world.mean(torch.zeros(1))
        except ProcessesError as error:
            return error.told_elsewhere, error.message.partition("(")[0]  # type: ignore[attr-defined]

    *left, killed = together(work, 3)
    said = "Another process of the same torchrun has died or cannot be reached "
    assert sorted(left) == [(False, said), (True, said)]
    assert killed == "exit code -9"


# ------------------------------------------------------------------ one process

ALONE_VARIABLES = [{}, {"WORLD_SIZE": "1", "RANK": "0"}, {"WORLD_SIZE": ""}]


@pytest.mark.parametrize("variables", ALONE_VARIABLES)
def test_alone_nothing_is_initialised(variables: dict[str, str]) -> None:
    with join_world(CPU, place(variables)) as world:
        assert world is ALONE
        assert not torch.distributed.is_initialized()
    tensor = torch.ones(2, requires_grad=True)
    assert world.mean(tensor).data_ptr() == tensor.data_ptr()
    assert world.tell("x") == "x"
    assert world.exchange(3) == [3]
    assert world.least(4) == 4


def test_a_share_is_an_equal_part_in_the_order_of_the_ranks() -> None:
    assert [World(rank, 3).share(6) for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    with pytest.raises(ValueError, match="7 samples cannot be shared equally by 3 processes"):
        World(0, 3).share(7)


# ------------------------------------------------------------------ places and devices

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1",
}  # fmt: skip


def test_torchruns_variables_are_read() -> None:
    assert place(TORCHRUN) == Place(5, 8, 1, 4)
    named = TORCHRUN | {"TORCHELASTIC_RUN_ID": "run", "TORCHELASTIC_RESTART_COUNT": "2"}
    assert place(named) == Place(5, 8, 1, 4, 2, "run")
    assert place({"GANZOO_RESTARTS": "1", "TORCHELASTIC_RUN_ID": "run"}) == Place(restarts=1, launch="run")
    by_process = place(TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}).launch
    assert by_process is not None
    assert by_process.startswith("process-")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE (='two') is no number of processes"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE (='0') is no number"),
        ({"RANK": ""}, "WORLD_SIZE is 8, but RANK is not set"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, "but MASTER_ADDR and MASTER_PORT are not set"),
        ({"RANK": "8"}, "contradict each other"),
        ({"LOCAL_RANK": "4"}, "contradict each other"),
        ({"TORCHELASTIC_RESTART_COUNT": "x"}, "TORCHELASTIC_RESTART_COUNT"),
    ],
)
def test_variables_that_make_no_sense_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        place(TORCHRUN | changes)
    assert message in str(refused.value)


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in ("auto", "cuda"):
        assert device_here(name, place(TORCHRUN)) == torch.device("cuda:1")
    assert device_here("cpu", place(TORCHRUN)) == CPU
    with pytest.raises(UsageError, match="cuda:1 cannot be the device of 8 processes"):
        device_here("cuda:1", place(TORCHRUN))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"4 processes were started here, and 1 GPU is here\. Start 1"):
        device_here("auto", place(TORCHRUN))


def test_without_a_gpu_they_share_the_processor() -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    assert device_here("auto", place(TORCHRUN)) == CPU
    with pytest.raises(UsageError, match="CUDA is not available here"):
        device_here("cuda", place(TORCHRUN))
