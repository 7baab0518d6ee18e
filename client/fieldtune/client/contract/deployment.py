"""Messages about deployed models: the coordinator's orders, and what a device says of itself.

An order is a JSON text that the coordinator signs; the model travels beside it and is bound to it
by its SHA-256. It names the device, so that it is worth nothing to another one, and has a number,
so that whoever has got hold of SuperLink cannot bring back an older model.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fieldtune.client.contract.messages import MOST_LABELS, RECONSTRUCTION
from fieldtune.client.contract.wire import Count, Text, WireMessage
from fieldtune.profiles.common.validation import first_error

DEPLOY, ROLL_BACK, STATUS = "query.deploy", "query.rollback", "query.status"
"""Types of the messages."""
SINCE = "0.2"
"""The first version of fieldtune whose clients know these messages."""
MOST_ORDER_BYTES = 2**20
"""The longest text of an order."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Short = Annotated[Text, Field(max_length=200)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Told = Annotated[float, Field(ge=0, le=1e12)]
"""An amount that a device tells; no device has more of anything here."""


class OrderError(Exception):
    """The text is not an order that this version understands; the message says what is wrong."""


class _Signed(BaseModel):
    """What is signed. Fields of later versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse a text.

        Raises:
            OrderError: it is too long, or not valid.
        """
        if len(text) > MOST_ORDER_BYTES:
            raise OrderError(f"it is longer than {MOST_ORDER_BYTES} characters")
        try:
            return cls.model_validate_json(text)
        except ValidationError as wrong:
            raise OrderError(first_error(wrong, cls, quotes=False)) from None

    def text(self) -> str:
        """As it is signed and sent."""
        return self.model_dump_json(exclude_none=True)


class Card(_Signed):
    """What a deployed model is, and how to use it.

    Args:
        study: name of the study, ``trial`` its trial, ``variant`` the conversion.
        artefact: SHA-256 of the model, in hexadecimal; it has ``size`` bytes.
        data: what it was trained on, in words.
        loss: that it was trained for, which tells a classifier from a model that reconstructs.
        metric: of the study.
        input_shape: of one sample.
        classes: number of classes; 0 for a model that reconstructs its input.
        labels: names of the classes in the order of the model's outputs; empty if not known.
        offset: and ``scale``: the model takes ``(value - offset) / scale`` of a raw value.
        error: share of the fleet's test samples that this file got wrong when it was measured,
            with its 95 % interval, over ``test_samples``; None where that was not counted.
        inference_limit_ms: the study's limit for the device's type; None without one.
    """

    study: Short
    trial: int = Field(ge=0)
    variant: Short
    artefact: Sha256
    size: int = Field(ge=1)
    data: Short = ""
    loss: Short
    metric: Short
    input_shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(max_length=8)
    classes: int = Field(default=0, ge=0)
    labels: tuple[Annotated[Text, Field(max_length=100)], ...] = Field(
        default=(), max_length=MOST_LABELS
    )
    offset: float = Field(default=0.0, allow_inf_nan=False)
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    error: Share | None = None
    error_low: Share | None = None
    error_high: Share | None = None
    test_samples: int = Field(default=0, ge=0)
    inference_limit_ms: _Amount | None = None

    @property
    def reconstructs(self) -> bool:
        """Whether the model reconstructs its input, rather than telling a class."""
        return self.loss in RECONSTRUCTION

    @property
    def name(self) -> str:
        """The model in a few words."""
        return f"{self.study}, trial {self.trial}, {self.variant}"


class DeployOrder(_Signed):
    """Run this model from now on.

    Args:
        number: of the order; larger than that of any earlier order of this coordinator.
        device: name of the device that it is for.
        card: describes the model.
        force: switch even if the model is worse here than the card says.
    """

    schema_version: Literal[1] = 1
    number: int = Field(ge=1, lt=2**63)
    device: str = Field(max_length=63)
    card: Card
    force: bool = False


class RollbackOrder(_Signed):
    """Go back to the model before this one.

    Args:
        number: as of :class:`DeployOrder`.
        device: name of the device that it is for.
        leave: SHA-256 of the model that is to be left; a device that runs another one stays as it
            is, so that an order that is sent twice goes back once.
    """

    schema_version: Literal[1] = 1
    number: int = Field(ge=1, lt=2**63)
    device: str = Field(max_length=63)
    leave: Sha256


class DeployReport(WireMessage):
    """The reply to an order.

    Args:
        number: of the order.
        outcome: ``switched``; ``unchanged``: it ran that model before; ``kept``: it goes on with
            what it had, and ``why`` says the reason.
        runs: SHA-256 of what it runs now; None: no model.
        samples: of its own test data, on which both models were tried.
        error: of the new model there, ``error_before`` of the one that it ran; None where there
            is none, or for a model that reconstructs.
        inference_ms: median call of the new model, ``inference_before_ms`` of the other.
    """

    number: Count
    outcome: Literal["switched", "unchanged", "kept"]
    why: Text = Field(default="", max_length=500)
    runs: Sha256 | None = None
    samples: Count = 0
    error: Share | None = None
    error_before: Share | None = None
    inference_ms: _Told | None = None
    inference_before_ms: _Told | None = None


def _at_most_a_few(texts: tuple[str, ...]) -> tuple[str, ...]:
    return texts[:8]


class StatusReport(WireMessage):
    """What a device says of itself on request. None is what it cannot tell.

    Args:
        version: of fieldtune, ``runtime`` of TFLite, ``flower`` of Flower.
        profile: its device type.
        runs: SHA-256 of the deployed model, ``model`` its name in words; None without one.
        order: number of the order that brought it.
        previous: SHA-256 of the model before it.
        temperature_c: of the board.
        throttling: what slows the board down now, ``throttled_since_start`` what has since boot.
        memory_free_mib: of the system, ``disk_free_mib`` where models are kept.
        up_s: seconds since the client was started.
        answered: messages since then, of which it ``refused`` some.
        last_failure: the latest of these, in words.
        judged_on: where ``error`` comes from: ``fresh`` samples that the owner has labelled since,
            or the ``test`` part of its data.
        samples: of these.
        error: share of them that the deployed model gets wrong.
        not_judged: why there is no error, in words.
    """

    version: Short
    runtime: Short = ""
    flower: Short = ""
    profile: Annotated[Text, Field(max_length=100)] = ""
    runs: Sha256 | None = None
    model: Short = ""
    order: Count | None = None
    previous: Sha256 | None = None
    temperature_c: float | None = Field(default=None, ge=-273, le=1000)
    throttling: Annotated[tuple[Short, ...], AfterValidator(_at_most_a_few)] | None = None
    throttled_since_start: Annotated[tuple[Short, ...], AfterValidator(_at_most_a_few)] | None = (
        None
    )
    memory_free_mib: _Told | None = None
    disk_free_mib: _Told | None = None
    up_s: _Told | None = None
    answered: Count = 0
    refused: Count = 0
    last_failure: Text = Field(default="", max_length=500)
    judged_on: Literal["fresh", "test"] | None = None
    samples: Count = 0
    error: Share | None = None
    not_judged: Text = Field(default="", max_length=500)
