"""What computes: a provider that was asked for really does, or the error says why not; and CUDA's way on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_files
import onnxruntime
import pytest
from onnx_files import CLASSES, LATENT_DIM, twin

from ganzoo.errors import MissingDependencyError, UsageError, WeightsError
from ganzoo.export import OnnxSampler
from ganzoo.export.runtime import providers
from ganzoo.export.runtime.engines import BoundEngine, PlainEngine, filled_size
from ganzoo.export.runtime.providers import PROVIDERS, default_threads, open_session
from ganzoo.sampling import latents

CUDA = PROVIDERS["cuda"]
RealSession = onnxruntime.InferenceSession


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return onnx_files.write(tmp_path / "model.onnx")


class FakeMachine:
    """A machine with a GPU: sessions say that they compute on CUDA, and compute on the processor.

    Attributes:
        active: whether a session on CUDA really is one.
        assigned: the provider that all nodes of such a session are on.
        refuse: is told what a session is asked for, and raises what that machine would.
        asked: the provider and its options of each session that was made.
    """

    def __init__(self) -> None:
        self.active, self.assigned = True, CUDA
        self.refuse: Callable[[str, dict[str, str]], None] = lambda provider, options: None
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.draws = True

    def session(self, path: str, options: Any, providers: Any, enable_fallback: bool) -> Any:
        ((provider, asked),) = providers
        assert enable_fallback is False
        self.asked.append((provider, asked))
        self.refuse(provider, asked)
        made = RealSession(path, options, providers=["CPUExecutionProvider"])
        return made if provider != CUDA else FakeSession(self, made)

    @property
    def sessions(self) -> list[str]:
        return [f"{provider}{' graph' * int(options.get('enable_cuda_graph', 0))}" for provider, options in self.asked]


class FakeSession:
    """A session on the processor that says it is on CUDA."""

    def __init__(self, machine: FakeMachine, session: Any) -> None:
        self._machine, self._session = machine, session

    def get_providers(self) -> list[str]:
        return [CUDA, "CPUExecutionProvider"] if self._machine.active else ["CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return [SimpleNamespace(ep_name=self._machine.assigned)]

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        if not self._machine.draws:
            raise RuntimeError("CUDA error 209: no kernel image is available\nfor execution on the device")
        self._session.run_with_iobinding(binding, options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    made = FakeMachine()
    monkeypatch.setattr(onnxruntime, "InferenceSession", made.session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn.so"), raising=False)
    monkeypatch.setattr(providers, "_reason_not_loaded", lambda library: None)
    # The buffers of a GPU are the processor's here.
    value = onnxruntime.OrtValue
    fake = SimpleNamespace(
        RunOptions=onnxruntime.RunOptions,
        OrtValue=SimpleNamespace(
            ortvalue_from_numpy=lambda array, device, number: value.ortvalue_from_numpy(array, "cpu", 0),
            ortvalue_from_shape_and_type=lambda shape, kind, device, number: value.ortvalue_from_shape_and_type(
                shape, kind, "cpu", 0
            ),
        ),
    )
    monkeypatch.setattr("ganzoo.export.runtime.engines.import_runtime", lambda: fake)
    return made


# ------------------------------------------------------------------ which provider


def test_a_name_that_is_none_is_answered_with_the_nearest(path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no provider 'cudda'\. Did you mean 'cuda'\?"):
        OnnxSampler(path, provider="cudda")
    for wrong in ("cuda:", "cuda:x", "cuda:-1", "cpu:1", ""):
        with pytest.raises(UsageError, match=f"There is no provider {wrong!r}"):
            OnnxSampler(path, provider=wrong)
    for threads in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match="`threads`"):
            OnnxSampler(path, threads=threads)  # type: ignore[arg-type]


def test_a_provider_that_was_not_built_in_is_an_error_with_what_to_install(path: Path) -> None:
    missing = [name for name in PROVIDERS if PROVIDERS[name] not in onnxruntime.get_available_providers()]
    assert missing
    for name in missing:
        with pytest.raises(
            UsageError, match=rf"Provider {name} is not in this ONNX Runtime, which has .*cpu"
        ) as caught:
            OnnxSampler(path, provider=name)
        assert str(caught.value).endswith("se --provider cpu.")


def test_cuda_without_a_gpu_is_an_error_and_auto_draws_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the real ONNX Runtime, which would go on alone; whichever of its parts is missing here is named."""
    monkeypatch.setattr(providers, "_DRIVER", "libno_such_driver.so")
    with pytest.raises(UsageError, match=r"^Provider cuda (does not work here: there is no NVIDIA driver|is not in)"):
        OnnxSampler(path, provider="cuda")
    assert OnnxSampler(path).provider == "cpu"
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu")
def test_a_provider_that_onnx_runtime_lets_fall_is_an_error_that_says_why(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A driver seems to be here, so ONNX Runtime tries, prints red lines, and computes on the processor."""
    real = providers._reason_not_loaded
    if real(providers._DRIVER) is None:
        pytest.skip("there is an NVIDIA driver")
    monkeypatch.setattr(providers, "_reason_not_loaded", lambda name: None if name == providers._DRIVER else real(name))
    for name in ("cuda", "tensorrt"):
        with pytest.raises(UsageError, match=f"Provider {name} does not work here: ") as caught:
            OnnxSampler(path, provider=name)
        assert "\n" not in str(caught.value)
    assert OnnxSampler(path).provider == "cpu"
    assert capfd.readouterr() == ("", "")


def test_auto_takes_cuda_where_it_works(path: Path, machine: FakeMachine, capfd: pytest.CaptureFixture[str]) -> None:
    drawn = OnnxSampler(path)
    assert (drawn.provider, machine.sessions) == ("cuda", [f"{CUDA} graph"])
    z = latents(range(5), LATENT_DIM, "normal")
    assert np.abs(drawn.sample(range(5)) - twin(z)).max() <= 2e-6
    assert capfd.readouterr() == ("", "")


def test_cuda_computes_in_float32_and_searches_no_algorithms_at_length(path: Path, machine: FakeMachine) -> None:
    OnnxSampler(path, provider="cuda:3")
    OnnxSampler(path, provider="cuda", allow_tf32=True)
    first, second = (options for _, options in machine.asked)
    assert (first["device_id"], first["use_tf32"], first["cudnn_conv_algo_search"]) == ("3", "0", "HEURISTIC")
    assert (second["device_id"], second["use_tf32"]) == ("0", "1")


def test_cuda_that_is_not_among_a_sessions_providers_is_an_error(path: Path, machine: FakeMachine) -> None:
    machine.active = False
    with pytest.raises(UsageError, match=r"Provider cuda does not work here: ONNX Runtime could not start it\."):
        OnnxSampler(path, provider="cuda")
    assert OnnxSampler(path).provider == "cpu"


def test_cuda_that_was_given_no_part_of_the_model_is_an_error(path: Path, machine: FakeMachine) -> None:
    machine.assigned = "CPUExecutionProvider"
    with pytest.raises(UsageError, match="Provider cuda does not work here: it can compute nothing of this model"):
        OnnxSampler(path, provider="cuda")


def test_a_model_that_no_graph_can_hold_runs_without_one(path: Path, machine: FakeMachine) -> None:
    def refuse(provider: str, options: dict[str, str]) -> None:
        if options.get("enable_cuda_graph") == "1":
            raise RuntimeError("This session cannot use the graph capture feature")

    machine.refuse = refuse
    assert OnnxSampler(path, provider="cuda").provider == "cuda"
    assert machine.sessions == [f"{CUDA} graph", CUDA]


def test_a_gpu_that_cannot_draw_is_an_error_and_auto_takes_the_processor(path: Path, machine: FakeMachine) -> None:
    machine.draws = False
    with pytest.raises(UsageError, match=r"^Provider cuda does not work here\. ONNX Runtime cannot draw") as caught:
        OnnxSampler(path, provider="cuda")
    assert "no kernel image is available for execution" in str(caught.value)
    assert machine.sessions == [f"{CUDA} graph", CUDA]
    drawn = OnnxSampler(path)
    assert (drawn.provider, machine.sessions[2:]) == ("cpu", [f"{CUDA} graph", CUDA, "CPUExecutionProvider"])
    assert drawn.sample([1]).shape[0] == 1


def test_of_a_provider_and_a_file_that_both_fail_the_file_is_named(path: Path, machine: FakeMachine) -> None:
    def refuse(provider: str, options: dict[str, str]) -> None:
        if provider == CUDA:
            raise RuntimeError("CUDA failure 101: invalid device ordinal")

    machine.refuse = refuse
    with pytest.raises(UsageError, match=r"cuda does not work here: CUDA failure 101: invalid device ordinal\."):
        OnnxSampler(path, provider="cuda:7")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WeightsError, match="is no ONNX file, or not the whole of it"):
        OnnxSampler(path, provider="cuda:7")


def test_a_broken_onnx_runtime_is_told_in_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libonnxruntime.so: cannot open\nshared object file")

    monkeypatch.setattr(providers.importlib, "import_module", broken)
    with pytest.raises(MissingDependencyError, match=r"cannot be imported: libonnxruntime\.so: cannot open shared"):
        OnnxSampler(path)


# ------------------------------------------------------------------ threads


def test_threads_are_those_asked_for_or_as_openmp_is_told_or_one_a_core(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OnnxSampler(path, provider="cpu", threads=3).threads == 3
    session = open_session(path, "cpu", threads=3).session
    assert session.get_session_options().intra_op_num_threads == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert OnnxSampler(path, provider="cpu").threads == default_threads() == 2
    for none in ("", "0", "many", "4,2"):
        monkeypatch.setenv("OMP_NUM_THREADS", none)
        assert 1 <= default_threads() <= (os.cpu_count() or 1)


# ------------------------------------------------------------------ buffers on the device


def test_a_batch_is_filled_up_to_a_few_sizes() -> None:
    sizes = {count: filled_size(count) for count in (1, 2, 3, 4, 5, 7, 8, 33, 64, 65, 100, 128, 129, 1000)}
    assert sizes == {
        **{1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 7: 8, 8: 8},
        **{33: 64, 64: 64, 65: 128, 100: 128, 128: 128, 129: 192, 1000: 1024},
    }


FORMS: list[dict[str, Any]] = [{}, {"classes": CLASSES}, {"classes": CLASSES, "pixels": "uint8", "layout": "nhwc"}]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_bound_buffers_give_what_a_plain_run_gives(tmp_path: Path, form: dict[str, Any]) -> None:
    """Of every size, in any order, and with buffers that are used again."""
    path = onnx_files.write(tmp_path / "model.onnx", **form)
    session = open_session(path, "cpu", threads=1).session
    plain, bound = PlainEngine(session), BoundEngine(session, "cpu", 0, graph=True)
    kept, given = [], []
    for turn, count in enumerate((1, 5, 8, 5, 64, 70, 1, 3)):
        inputs: dict[str, Any] = {"z": latents(range(turn, turn + count), LATENT_DIM, "normal")}
        if "classes" in form:
            inputs["label"] = np.arange(turn, turn + count) % CLASSES
        given.append((inputs, {name: array.copy() for name, array in inputs.items()}))
        kept.append((bound(inputs), plain(inputs)))
    for images, expected in kept:  # looked at last: no later draw may have written into them
        assert (images.shape, images.dtype) == (expected.shape, expected.dtype)
        assert np.abs(images.astype(float) - expected.astype(float)).max() <= 1e-6
    assert all(np.array_equal(mine[name], copy[name]) for mine, copy in given for name in mine)


def test_each_size_has_a_graph_of_its_own_that_is_captured_once(path: Path) -> None:
    runs: list[tuple[int, str]] = []
    session = open_session(path, "cpu", threads=1).session

    class Watched:
        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            runs.append((id(binding), options.get_run_config_entry("gpu_graph_id")))
            session.run_with_iobinding(binding, options)

        def __getattr__(self, name: str) -> Any:
            return getattr(session, name)

    engine = BoundEngine(Watched(), "cpu", 0, graph=True)
    for count in (1, 64, 50, 1, 4):
        assert len(engine({"z": latents(range(count), LATENT_DIM, "normal")})) == count
    (one, first), (many, second), again, back, (few, third) = runs
    assert len({one, many, few}) == 3
    assert (first, second, third) == ("1", "2", "3")
    assert (again, back) == ((many, "2"), (one, "1"))


# ------------------------------------------------------------------ how threads wait


@pytest.mark.parametrize(
    ("version", "active"), [("1.22.0", False), ("1.25.1", False), ("1.26.0", True), ("1.31.1", True), ("2.0", True)]
)
def test_threads_wait_actively_only_where_that_has_an_end(version: str, active: bool) -> None:
    found = providers.waiting(version)
    assert found["session.intra_op.allow_spinning"] == str(int(active))
    assert ("session.intra_op.spin_duration_us" in found) == active
    if active:
        assert 0 < int(found["session.intra_op.spin_duration_us"]) < 1000


def test_a_session_has_these_settings(tmp_path: Path) -> None:
    session = providers.open_session(onnx_files.write(tmp_path / "model.onnx"), "cpu").session
    for key, value in providers.waiting(providers.import_runtime().__version__).items():
        assert session.get_session_options().get_session_config_entry(key) == value
