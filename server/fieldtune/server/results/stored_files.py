"""Files to deploy, as ``pareto.json`` and a trial's card state them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class ClassCounts(_Model):
    """For each class, over the test samples of all clients."""

    hits: list[int]
    """Samples correctly predicted as it."""
    predicted: list[int]
    """Samples predicted as it."""
    actual: list[int]
    """Samples that belong to it."""
    confusion: list[list[int]] = []
    """Samples by class (rows) and predicted class (columns), of the clients that report it: fewer
    samples than above where some do not. Empty where none does, with more than 50 classes, and in
    files of versions that did not count it."""


class CardData(_Model):
    """What a study's models were trained on, as a trial's card says it."""

    source: str
    """``task.data`` of a simulated study; of a real fleet, in words."""
    devices: int = 0
    """Clients that had data."""
    train_samples: int = 0
    test_samples: int = 0
    input_shape: tuple[int, ...] = ()
    """Of one sample."""
    classes: int = 0
    """0 for a model that reconstructs its input."""
    labels: tuple[str, ...] = ()
    """Names of the classes in the order of the model's outputs; empty where none are known."""
    offset: float = 0.0
    scale: float = 1.0
    """The model takes ``(value - offset) / scale`` of a raw value."""


class DeviceError(_Model):
    """The error of one real device."""

    error: float
    samples: int
    """That it was counted over."""


class VariantFile(_Model):
    """A deployable conversion of a point's model, measured again after it was converted."""

    bytes: int
    sha256: str
    measures: dict[str, float]
    """Over the clients' test samples, by the converted file itself."""
    test_samples: int
    inference_ms: dict[str, float] = {}
    """Device type -> median over its clients of what each measured; those that were throttled or
    swapping are left out. Simulated where the study is."""
    inference_mj: dict[str, float] = {}
    """Device type -> millijoules of an inference likewise; absent where no device tells its
    power."""
    client_errors: dict[str, list[float]] = {}
    """Device type -> the error of each of its clients, the smallest first."""
    device_errors: dict[str, DeviceError] = {}
    """Of each device of a real fleet, by its name; empty for simulated clients."""
    classes: ClassCounts | None = None
    """None where there are none, and in files of versions that did not count them."""
