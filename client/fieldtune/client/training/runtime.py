"""The TFLite runtime; the only module that uses LiteRT.

``tflite-runtime`` and ``ai-edge-litert`` share one API; whichever is installed is used. A
:class:`Session` is a loaded artefact: one interpreter with its signatures, which are described in
``fieldtune.server.compiler``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import Weights
from fieldtune.client.training.signature import Signature

_RUNTIMES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))
_ONE = np.ones(1, np.float32)
_ZERO = np.zeros(1, np.float32)
_FIXED_INPUTS = {"x", "y", "sample_weight", "apply"}
_COUNTS = ("hits", "predicted", "actual")


class ArtefactMissingError(Exception):
    """An artefact that this device has not received yet."""


class BadArtefactError(Exception):
    """The bytes are not a valid artefact or do not match its hash."""


@cache
def runtime_name() -> str:
    """Name and version of the installed runtime, for example ``"ai-edge-litert 2.3.0"``."""
    _, distribution = _installed()
    return f"{distribution} {importlib.metadata.version(distribution)}"


@cache
def _installed() -> tuple[Any, str]:
    for package, distribution in _RUNTIMES:
        try:
            return importlib.import_module(f"{package}.interpreter").Interpreter, distribution
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("no TFLite runtime: pip install ai-edge-litert (or tflite-runtime)")


class Evaluation(NamedTuple):
    """The result of ``evaluate`` for one micro-batch."""

    loss: float
    """Weighted sum of the samples' losses."""
    logits: NDArray[np.float32] | None
    """``[micro_batch, *output_shape]``; None where they were not asked for."""
    counts: NDArray[np.int64]
    """``[3, classes]``: hits, predicted, actual; ``[3, 0]`` if the model is not a classifier."""


class Session:
    """One artefact in the runtime, single-threaded so that results are reproducible bit for bit.

    Args:
        model: the artefact, a ``.tflite`` with the signatures train, evaluate, load and weights.

    Raises:
        BadArtefactError: the runtime refuses the bytes or a signature is missing.
    """

    def __init__(self, model: bytes) -> None:
        interpreter, _ = _installed()
        self.model = model
        try:
            self._interpreter = interpreter(model_content=model, num_threads=1)
            self._train = Signature(self._interpreter, "train")
            self._evaluate = Signature(self._interpreter, "evaluate")
            self._load = Signature(self._interpreter, "load")
            self._weights = Signature(self._interpreter, "weights")
        except (ValueError, RuntimeError) as refused:
            raise BadArtefactError(str(refused)) from refused
        inputs = self._train.inputs
        self.micro_batch = int(inputs["x"]["shape"][0])
        self.input_shape = tuple(int(n) for n in inputs["x"]["shape"][1:])
        self.classes = int(self._evaluate.outputs["logits"]["shape"][-1])
        self.hyperparameters = frozenset(inputs) - _FIXED_INPUTS
        self.reconstructs = bool(inputs["y"]["dtype"] == np.float32)
        """Whether the model reconstructs its input, rather than predicting a label."""
        self._counts = [name for name in _COUNTS if name in self._evaluate.outputs]
        self._layout: list[tuple[str, slice, tuple[int, ...]]] = []
        """Of each tensor of weights: name, part of the vector, shape."""
        self.weight_count = 0
        for name, details in sorted(self._load.inputs.items()):
            shape = tuple(int(n) for n in details["shape"])
            end = self.weight_count + math.prod(shape)
            self._layout.append((name, slice(self.weight_count, end), shape))
            self.weight_count = end
        self.tensor_count = len(self._layout)

    def try_once(self) -> None:
        """Run each signature once, on zeros."""
        x = np.zeros((self.micro_batch, *self.input_shape), np.float32)
        y = x if self.reconstructs else np.zeros(self.micro_batch, np.int32)
        ones = np.ones(self.micro_batch, np.float32)
        self.load(np.zeros(self.weight_count, np.float32))
        self.set_hyperparameters(dict.fromkeys(self.hyperparameters, 0.0))
        self.train_step(x, y, ones, apply=True)
        self.loss()
        self.evaluate(x, y, ones)
        self.weights()

    def load(self, weights: Weights) -> None:
        """Load weights; the optimizer state is reset to zero."""
        if weights.shape != (self.weight_count,):
            raise BadArtefactError(
                f"{weights.size} weights were sent for an artefact with {self.weight_count}"
            )
        for name, part, shape in self._layout:
            self._load.set(name, weights[part].reshape(shape))
        self._load.run()

    def weights(self) -> Weights:
        """All weights, as one vector."""
        self._weights.run()
        return np.concatenate([self._weights.get(name).ravel() for name, _, _ in self._layout])

    def set_hyperparameters(self, values: Mapping[str, float]) -> None:
        """Set all of :attr:`hyperparameters`, for the training steps that follow.

        Raises:
            ValueError: one is missing, or the model has no such hyperparameter.
        """
        if values.keys() != self.hyperparameters:
            raise ValueError(
                f"hyperparameters {sorted(values)} were sent for an artefact with "
                f"{sorted(self.hyperparameters)}"
            )
        for name, value in values.items():
            # Of shape [1]: with inputs of rank 0, aarch64 wheels crash.
            self._train.set(name, np.array([value], np.float32))

    def subtract(self, vector: Weights) -> None:
        """Subtract a vector from the weights; the optimizer state is reset to zero."""
        self.load(self.weights() - vector)

    def train_step(
        self,
        x: NDArray[np.float32],
        y: NDArray[Any],
        sample_weight: NDArray[np.float32] | None = None,
        *,
        apply: bool | None = None,
    ) -> None:
        """Accumulate the gradient of one micro-batch and, with ``apply``, take an optimizer step.

        Args:
            x: ``[micro_batch, *input_shape]``.
            y: int32 ``[micro_batch]``, or float32 like ``x`` where the model reconstructs.
            sample_weight: ``[micro_batch]``, 0 for padding; None: as in the step before.
            apply: whether this is the last micro-batch of the batch; None: as in the step before.
        """
        step = self._train
        step.set("x", x)
        step.set("y", y)
        if sample_weight is not None:
            step.set("sample_weight", sample_weight)
        if apply is not None:
            step.set("apply", _ONE if apply else _ZERO)
        step.run()

    def loss(self) -> float:
        """The weighted sum of the samples' losses in the last training step."""
        return float(self._train.get("loss")[0])

    def evaluate(
        self,
        x: NDArray[np.float32],
        y: NDArray[Any],
        sample_weight: NDArray[np.float32],
        *,
        with_logits: bool = True,
    ) -> Evaluation:
        """Evaluate one micro-batch; shapes and dtypes as of :meth:`train_step`."""
        run = self._evaluate
        run.set("x", x)
        run.set("y", y)
        run.set("sample_weight", sample_weight)
        run.run()
        counts = np.array([run.get(name) for name in self._counts] or np.zeros((3, 0)))
        return Evaluation(
            float(run.get("loss")[0]),
            run.get("logits") if with_logits else None,
            np.rint(counts).astype(np.int64),
        )


class Inference:
    """A deployable model variant in the runtime; takes one sample at a time.

    Raises:
        BadArtefactError: the runtime refuses the bytes.
    """

    def __init__(self, model: bytes) -> None:
        interpreter, _ = _installed()
        self.model = model
        try:
            self._interpreter = interpreter(model_content=model, num_threads=1)
            self._interpreter.allocate_tensors()
            (x,), (logits,) = (
                self._interpreter.get_input_details(),
                self._interpreter.get_output_details(),
            )
        except (ValueError, RuntimeError) as refused:
            raise BadArtefactError(str(refused)) from refused
        self._x, self._logits = int(x["index"]), int(logits["index"])
        self.input_shape = tuple(int(n) for n in x["shape"][1:])
        self.classes = int(logits["shape"][-1])
        self.micro_batch = 1

    def try_once(self) -> None:
        """Run it once, on zeros."""
        self.infer(np.zeros(self.input_shape, np.float32))

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output for one sample ``[*input_shape]``: logits ``[classes]`` for a classifier."""
        self._interpreter.set_tensor(self._x, x[None])
        self._interpreter.invoke()
        logits: NDArray[np.float32] = self._interpreter.get_tensor(self._logits)[0]
        return logits


Opened = TypeVar("Opened", Session, Inference)


class ArtefactStore(Protocol):
    """Persistent storage of artefacts; its methods never raise."""

    def read(self, artefact: str) -> bytes | None:
        """The artefact with this SHA-256, or None."""

    def write(self, artefact: str, model: bytes) -> None:
        """Store it if there is room."""


class Sessions:
    """LRU cache of the models that a device has loaded.

    Args:
        capacity: maximum number of models; one or two on a device with little memory.
        store: persistent storage for evicted models and models of earlier processes.
        try_first: runs a new model once where a crash does no harm
            (:func:`~fieldtune.client.training.trial_run.try_first`).
    """

    def __init__(
        self,
        capacity: int = 2,
        store: ArtefactStore | None = None,
        try_first: Callable[[Callable[[], object]], object] = lambda _: None,
    ) -> None:
        self._capacity, self._store, self._try_first = capacity, store, try_first
        self._sessions: OrderedDict[str, Any] = OrderedDict()

    def get(self, artefact: str, model: bytes | None, kind: type[Opened]) -> Opened:
        """The model with this SHA-256, loaded as ``kind`` from ``model`` if it is new.

        Raises:
            ArtefactMissingError: it is neither loaded nor stored, and ``model`` is None.
            BadArtefactError: ``model`` has another hash, or crashes the runtime.
        """
        held = self._sessions.get(artefact)
        if isinstance(held, kind):
            self._sessions.move_to_end(artefact)
            return held
        if model is None:
            model = self._store.read(artefact) if self._store else None
            if model is None:
                raise ArtefactMissingError(artefact)
        elif (found := hashlib.sha256(model).hexdigest()) != artefact:
            raise BadArtefactError(f"the artefact has hash {found}, expected {artefact}")
        else:
            new = model
            self._try_first(lambda: kind(new).try_once())
            if self._store:
                self._store.write(artefact, model)
        while len(self._sessions) >= self._capacity:
            self._sessions.popitem(last=False)
        self._sessions[artefact] = opened = kind(model)
        return opened
