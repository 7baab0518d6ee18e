"""The deployed model as an application uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fieldtune.client.contract.deployment import Card
from fieldtune.client.data.client_data import Scaling
from fieldtune.client.deployed.package import DamagedError, unpacked
from fieldtune.client.deployed.slots import CURRENT, state_folders
from fieldtune.client.training.runtime import BadArtefactError, Inference
from fieldtune.profiles.common.errors import DataError, FleetError, did_you_mean
from fieldtune.profiles.common.files import Stamp, stamp


@dataclass(frozen=True)
class Prediction:
    """What the model says of one sample.

    Args:
        label: name of the most likely class, or its number as text; empty for a model that
            reconstructs its input.
        index: number of that class; -1 for a model that reconstructs.
        probability: of that class, by the softmax of the model's outputs; of a model that
            reconstructs, not a number.
        output: float32: the model's output, logits ``[classes]`` or the reconstruction.
        distance: of a model that reconstructs, the mean squared difference of input and output;
            else not a number.
    """

    label: str
    index: int
    probability: float
    output: NDArray[np.float32]
    distance: float = float("nan")


class DeployedModel:
    """The model that a device runs now; a new one is used from the next sample on.

    Args:
        file: ``current.tflite`` of a device, or any file of that kind.

    Raises:
        FleetError: no model has been deployed there, or it cannot be used.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: Stamp | None = None
        self._load()

    @property
    def card(self) -> Card:
        """Study, trial, labels, input shape, scaling and error of the model."""
        return self._card

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in the order of the outputs; numbers where no names are known."""
        if self._card.reconstructs:
            return ()
        names = self._card.labels
        return (*names, *map(str, range(len(names), self._inference.classes)))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self._inference.input_shape

    def predict(self, sample: ArrayLike) -> Prediction:
        """What the model says of a sample.

        Args:
            sample: raw values, as they come from the sensor or the camera (pixels in 0..255), of
                ``input_shape`` or flat; they are scaled as for training.

        Raises:
            DataError: it has another shape, or holds something that is no number.
        """
        self._load()
        raw = _numbers(sample, self.input_shape)
        x = self._scaling.apply(raw)
        output = self._inference.infer(x)
        if self._card.reconstructs:
            distance = float(np.mean((output.astype(np.float64) - x) ** 2))
            return Prediction("", -1, float("nan"), output, distance)
        index = int(output.argmax())
        likely = np.exp(output.astype(np.float64) - float(output.max()))
        return Prediction(self.labels[index], index, float(likely[index] / likely.sum()), output)

    def _load(self) -> None:
        """Load the file if it is not the one that is loaded; a damaged one is not used."""
        now = stamp(self._file)
        if now == self._stamp and now is not None:
            return
        try:
            package = unpacked(self._file.read_bytes())
            inference = Inference(package.model)
        except (OSError, DamagedError, BadArtefactError) as failed:
            if self._stamp is not None:
                return  # go on with the loaded one; the client replaces a damaged file
            if isinstance(failed, FileNotFoundError):
                raise FleetError(f"no model is deployed in {self._file.parent}") from None
            raise FleetError(f"{self._file} cannot be used: {failed}") from None
        self._inference = inference
        self._card = package.card
        self._scaling = Scaling(package.card.offset, package.card.scale)
        self._stamp = now


def load(device: str | None = None) -> DeployedModel:
    """The model that is deployed on a device of this machine.

    Args:
        device: its name; None where this machine has only one.

    Raises:
        FleetError: there is none, or several and no name is given.
    """
    found = {
        file.parent.name: file
        for folder in reversed(state_folders())
        for file in sorted(folder.glob(f"*/{CURRENT}"))
    }
    if device is not None and device in found:
        return DeployedModel(found[device])
    known = ", ".join(sorted(found))
    if device is not None:
        raise FleetError(
            f"no model is deployed on {device!r}{did_you_mean(device, found)}"
            + (f"; there are models of {known}" if found else " of this machine")
        )
    if not found:
        raise FleetError(
            "no model is deployed on this machine, or you may not read it (try sudo): 'fieldtune "
            "deploy' on the coordinator sends one"
        )
    if len(found) > 1:
        raise FleetError(f"several devices of this machine have models: name one of {known}")
    return DeployedModel(next(iter(found.values())))


def _numbers(sample: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A sample as float32 of the model's input shape."""
    try:
        values = np.asarray(sample, np.float32)
    except (TypeError, ValueError):
        raise DataError("a sample holds something that is not a number") from None
    if values.size != int(np.prod(shape)) or (values.ndim > 1 and _sizes(values) != _sizes(shape)):
        raise DataError(
            f"a sample has shape {list(values.shape)}, the model takes {list(shape)}, or as many "
            "values in one row"
        )
    if not np.isfinite(values).all():
        raise DataError("a sample holds values that are not finite")
    return values.reshape(shape)


def _sizes(of: NDArray[np.float32] | tuple[int, ...]) -> list[int]:
    """The sizes of a shape above 1: an image may come with or without its single channel."""
    shape = of.shape if isinstance(of, np.ndarray) else of
    return [size for size in shape if size != 1]
