"""The TFLite runtime; the only module that uses LiteRT.

``tflite-runtime`` and ``ai-edge-litert`` share one API; whichever is installed is used. A
:class:`Session` is a loaded artefact: one interpreter with its signatures, which are described in
``fieldtune.server.compiler``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import Weights

_RUNTIMES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))
_ONE = np.ones(1, np.float32)
_ZERO = np.zeros(1, np.float32)
_FIXED_INPUTS = {"x", "y", "sample_weight", "apply"}


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
    logits: NDArray[np.float32]
    """``[micro_batch, *output_shape]``."""
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
            self._train = self._interpreter.get_signature_runner("train")
            self._evaluate = self._interpreter.get_signature_runner("evaluate")
            self._load = self._interpreter.get_signature_runner("load")
            self._weights = self._interpreter.get_signature_runner("weights")
        except (ValueError, RuntimeError) as refused:
            raise BadArtefactError(str(refused)) from refused
        inputs = self._train.get_input_details()
        self.micro_batch = int(inputs["x"]["shape"][0])
        self.input_shape = tuple(int(n) for n in inputs["x"]["shape"][1:])
        self.classes = int(self._evaluate.get_output_details()["logits"]["shape"][-1])
        self.hyperparameters = frozenset(inputs) - _FIXED_INPUTS
        self.reconstructs = bool(inputs["y"]["dtype"] == np.float32)
        """Whether the model reconstructs its input, rather than predicting a label."""
        self._layout = [
            (name, tuple(int(n) for n in details["shape"]))
            for name, details in sorted(self._load.get_input_details().items())
        ]
        self.weight_count = sum(int(np.prod(shape)) for _, shape in self._layout)

    def try_once(self) -> None:
        """Run each signature once, on zeros."""
        x = np.zeros((self.micro_batch, *self.input_shape), np.float32)
        y = x if self.reconstructs else np.zeros(self.micro_batch, np.int32)
        ones = np.ones(self.micro_batch, np.float32)
        self.load(np.zeros(self.weight_count, np.float32))
        self.train_step(x, y, ones, dict.fromkeys(self.hyperparameters, _ZERO), apply=True)
        self.evaluate(x, y, ones)
        self.weights()

    def load(self, weights: Weights) -> None:
        """Load weights; the optimizer state is reset to zero."""
        if weights.shape != (self.weight_count,):
            raise BadArtefactError(
                f"{weights.size} weights were sent for an artefact with {self.weight_count}"
            )
        tensors, at = {}, 0
        for name, shape in self._layout:
            size = int(np.prod(shape))
            tensors[name] = weights[at : at + size].reshape(shape)
            at += size
        self._load(**tensors)

    def weights(self) -> Weights:
        """All weights, as one vector."""
        tensors = self._weights()
        return np.concatenate([tensors[name].ravel() for name, _ in self._layout])

    def train_step(
        self,
        x: NDArray[np.float32],
        y: NDArray[Any],
        sample_weight: NDArray[np.float32],
        hyperparameters: Mapping[str, NDArray[np.float32]],
        *,
        apply: bool,
    ) -> float:
        """Accumulate the gradient of one micro-batch and, with ``apply``, take an optimizer step.

        Args:
            x: ``[micro_batch, *input_shape]``.
            y: int32 ``[micro_batch]``, or float32 like ``x`` where the model reconstructs.
            sample_weight: ``[micro_batch]``, 0 for padding.
            hyperparameters: each of shape ``[1]`` (no rank-0 input: aarch64 wheels crash).
            apply: whether this is the last micro-batch of the batch.

        Returns:
            The weighted sum of the samples' losses.
        """
        out = self._train(
            x=x,
            y=y,
            sample_weight=sample_weight,
            apply=_ONE if apply else _ZERO,
            **hyperparameters,
        )
        return float(out["loss"][0])

    def evaluate(
        self, x: NDArray[np.float32], y: NDArray[Any], sample_weight: NDArray[np.float32]
    ) -> Evaluation:
        """Evaluate one micro-batch; shapes and dtypes as of :meth:`train_step`."""
        out = self._evaluate(x=x, y=y, sample_weight=sample_weight)
        named = [out[name] for name in ("hits", "predicted", "actual") if name in out]
        counts = np.array(named) if named else np.zeros((3, 0))
        return Evaluation(float(out["loss"][0]), out["logits"], np.rint(counts).astype(np.int64))


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
