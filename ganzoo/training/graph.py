"""Steps in a CUDA graph: all operations of a round are captured once and then replayed, so that the host has to start
one thing a step instead of some hundreds.

A replayed operation reads and writes the addresses that it was captured with, and what the host gave it as a number is
that number for ever. So what differs from step to step travels as one vector to a fixed place on the device: the
samples' numbers and images, and every scheduled number. What the host decides otherwise, such as whether a lazy penalty
is taken, is the step's variant (`Step.variant`), and each variant has a graph of its own.

The first steps of each variant are done operation by operation, on the same stream and from the same place: there the
optimisers make their state, and libraries choose their algorithms. They are steps like all others. A capture changes
nothing on the device.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ganzoo.errors import UsageError
from ganzoo.training.feeder import Feeder, Given, Parcel
from ganzoo.training.step import Step

WARM_UP = 3
"""Steps of a variant that are done operation by operation before it is captured."""
MOST_GRAPHS = 8
"""Kept at once; of more variants the one that was not used for longest is forgotten, and captured again if need be."""
_SLOTS = 4  # steps that the host may be ahead of the device


class Capturer(Protocol):
    """Captures work, and gives back what replays it."""

    def working(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which steps are done, captured and replayed; what comes after it waits for them."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return a function that does the work again. Nothing is done to tensors now.

        Raises:
            Exception: the work cannot be captured, for whatever reason.
        """

    def recover(self) -> None:
        """Bring everything into order after a capture that failed."""


class CudaCapturer:
    """Captures in CUDA graphs that share their memory: they are replayed one after the other, and no tensor that one of
    them makes outlives it.

    Args:
        device: a CUDA device with its index.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Within it, work goes to the stream of the graphs."""
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outside.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return the replay of a CUDA graph of the work; see `Capturer`."""
        graph = torch.cuda.CUDAGraph()
        # Only this thread is held to what a capture allows: another may be putting images into page-locked memory.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            work()
        replay: Callable[[], None] = graph.replay
        return replay

    def recover(self) -> None:
        """Take torch's generator of the device out of the capture that it was left in."""
        generator = torch.cuda.default_generators[self._device.index]
        with contextlib.suppress(AttributeError, RuntimeError):
            generator.graphsafe_set_state(generator.clone_state())


class Inbox:
    """A fixed place on the device for a vector that the host sends at every step, being some steps ahead.

    Args:
        length: of the vector, int64.
        device: where it is wanted.
    """

    def __init__(self, length: int, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self.vector = torch.zeros(length, dtype=torch.int64, device=device)
        self._slots = [torch.zeros(length, dtype=torch.int64, pin_memory=on_gpu) for _ in range(_SLOTS)]
        make: Any = torch.cuda.Event
        self._sent = [make() if on_gpu else None for _ in range(_SLOTS)]
        self._next = 0

    def send(self, fill: Callable[[npt.NDArray[np.int64]], None]) -> None:
        """Let the host write a vector, and copy it to its place in the order of the current stream.

        Args:
            fill: writes it, all of it.
        """
        slot, sent = self._slots[self._next], self._sent[self._next]
        self._next = (self._next + 1) % _SLOTS
        if sent is not None:
            sent.synchronize()  # the copy that read this slot, some steps ago; no wait where there was none
        fill(slot.numpy())
        self.vector.copy_(slot, non_blocking=True)
        if sent is not None:
            sent.record()


class GraphedStep:
    """Does the steps of a training by graphs.

    Args:
        step: whose optimisers are capturable (`Step(engine=Engine("graph", ...))`).
        feeder: draws on the device.
        capturer: by default of CUDA graphs.
        demanded: whether it is an error when a step cannot be captured; where not, all steps are then done operation
            by operation.
        told: called once with the reason, when that happens.
    """

    def __init__(
        self,
        step: Step,
        feeder: Feeder,
        capturer: Capturer | None = None,
        *,
        demanded: bool = False,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self._step, self._feeder = step, feeder
        self._capturer: Capturer = capturer or CudaCapturer(step.device)
        self._demanded, self._told = demanded, told
        self._graphs: OrderedDict[Hashable, Callable[[], None]] = OrderedDict()
        self._done: dict[Hashable, int] = {}  # steps of a variant since it was last forgotten
        self._given_up = False
        self._parcel: Parcel | None = None
        self._inbox: Inbox | None = None
        self._images: dict[int, torch.Tensor] = {}  # by the part, where images themselves are sent
        self.captured = 0

    def __call__(self, number: int, parts: Sequence[Given]) -> None:
        """Do one round.

        Args:
            number: of the step, from 0.
            parts: what the host says of each (`Feeder.given`).

        Raises:
            UsageError: it cannot be captured, and that was demanded.
        """
        step = self._step
        with self._capturer.working():
            self._send(number, parts)
            step.seed(number)
            variant = step.variant(number)
            replay = self._graphs.get(variant)
            if replay is None and not self._given_up and self._done.get(variant, 0) >= WARM_UP:
                replay = self._captured(number, variant)
            if replay is None:
                self._done[variant] = self._done.get(variant, 0) + 1
                self._work(number)
            else:
                self._graphs.move_to_end(variant)
                replay()

    def _send(self, number: int, parts: Sequence[Given]) -> None:
        """Send to its place on the device all that is this step's own."""
        if self._parcel is None or self._inbox is None:
            self._parcel = Parcel(parts)
            self._inbox = Inbox(self._parcel.length + len(self._step.scheduled_tensors), self._step.device)
            self._images = {
                index: torch.empty_like(part.images, device=self._step.device)
                for index, part in enumerate(parts)
                if isinstance(part.images, torch.Tensor)
            }
        parcel, scheduled = self._parcel, self._step.scheduled(number)

        def fill(vector: npt.NDArray[np.int64]) -> None:
            parcel.pack(parts, vector)
            vector[parcel.length :].view(np.float64)[:] = scheduled

        self._inbox.send(fill)
        for index, place in self._images.items():
            images = parts[index].images
            assert isinstance(images, torch.Tensor)
            place.copy_(images, non_blocking=True)

    def _work(self, number: int) -> None:
        """Do a round of what was sent. This is what is captured: of its arguments only the variant may matter."""
        assert self._parcel is not None
        assert self._inbox is not None
        vector, length = self._inbox.vector, self._parcel.length
        values = vector[length:].view(torch.float64).unbind()
        for tensor, value in zip(self._step.scheduled_tensors, values, strict=True):
            tensor.copy_(value)
        given = [
            Given(one.reals, one.latents, self._images.get(index, one.images), one.label)
            for index, one in enumerate(self._parcel.unpack(vector))
        ]
        self._step.update(number, [self._feeder.batch(one) for one in given])

    def _captured(self, number: int, variant: Hashable) -> Callable[[], None] | None:
        """Capture a variant and return its replay; None where that cannot be, and all goes on without.

        Raises:
            UsageError: it cannot be, and was demanded.
        """
        while len(self._graphs) >= MOST_GRAPHS:
            forgotten, _ = self._graphs.popitem(last=False)
            self._done.pop(forgotten, None)
        state = self._state()
        try:
            replay = self._capturer.capture(lambda: self._work(number))
            if self._state() != state:
                raise RuntimeError("tensors of the training's state were made anew")
        except Exception as error:
            self._forget_gradients()
            self._capturer.recover()
            reason = (str(error).strip().splitlines() or [""])[0].rstrip(".") or type(error).__name__
            if self._demanded:
                raise UsageError(
                    f"The step cannot be captured in a CUDA graph: {reason[:300]}.",
                    'Use train.engine = "auto" or "eager" in a new run.',
                ) from error
            self._given_up = True
            self._graphs.clear()
            if self._told is not None:
                self._told(reason[:300])
            return None
        self._graphs[variant] = replay
        self.captured += 1
        return replay

    def _forget_gradients(self) -> None:
        for optimizer in self._step.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def _state(self) -> list[int]:
        """Return where the tensors are that outlive a step; a graph that made some itself would make them at each
        replay."""
        step = self._step
        modules = [step.generator, step.discriminator, step.regularizers]
        modules += [step.ema.network] if step.ema is not None else []
        tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        for optimizer in step.optimizers.values():
            tensors += [one for entries in optimizer.state.values() for one in entries.values()]
        return [tensor.data_ptr() for tensor in tensors]


def taking_steps(
    step: Step, feeder: Feeder, told: Callable[[str], None]
) -> tuple[Callable[[int, list[Any]], None], Callable[[int, int], Generator[list[Any], None, None]]]:
    """Return what does a step of what it is fed, and what feeds it, as the step's engine asks for.

    Args:
        step: of the training.
        feeder: of its device.
        told: called with the reason, when a step turns out not to be captured.
    """
    if step.engine.name == "eager":
        return step, feeder.rounds
    demanded = step.recipe.train.engine == "graph"
    return GraphedStep(step, feeder, demanded=demanded, told=told), feeder.given


__all__ = ["MOST_GRAPHS", "WARM_UP", "Capturer", "CudaCapturer", "GraphedStep", "Inbox", "taking_steps"]
