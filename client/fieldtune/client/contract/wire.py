"""What all messages are made of: plain values, bounded, and texts that are safe to show."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fieldtune.profiles.common.text import printable

Text = Annotated[str, AfterValidator(printable)]
"""A text to show: one line without control characters."""

Number = Annotated[int, Field(gt=-(2**63), lt=2**63)]
"""A number that another machine tells, which is not too large for a float."""
Count = Annotated[int, Field(ge=0, lt=2**63)]


class WireMessage(BaseModel):
    """A message of plain values; subclasses add its fields. Those of later versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)

    def scalars(self) -> dict[str, Any]:
        """All fields except vectors, as scalars, lists and bytes; without fields that are None."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.__dict__.items()
            if value is not None and not isinstance(value, np.ndarray)
        }

    def __copy__(self) -> Self:
        """A copy, as pydantic's own makes it in four times the time."""
        return self._of({**self.__dict__}, {*self.__pydantic_fields_set__})

    @classmethod
    def trusted(cls, fields: dict[str, Any]) -> Self:
        """A message with all these fields, which a process of our own has validated."""
        return cls._of(fields, _names(cls))

    @classmethod
    @cache
    def defaults(cls) -> Mapping[str, Any]:
        """The fields that need not be given."""
        fields = cls.model_fields.items()
        return {name: field.default for name, field in fields if not field.is_required()}

    @classmethod
    def _of(cls, fields: dict[str, Any], given: set[str]) -> Self:
        message, put = cls.__new__(cls), object.__setattr__
        put(message, "__dict__", fields)
        put(message, "__pydantic_fields_set__", given)
        put(message, "__pydantic_extra__", None)
        put(message, "__pydantic_private__", None)
        return message

    @classmethod
    def parse(
        cls, scalars: Mapping[str, Any], weights: NDArray[np.float32] | None = None, **vectors: Any
    ) -> Self:
        """Build a message from scalars and vectors.

        Raises:
            ValidationError: of pydantic; they are invalid.
        """
        given = {**vectors, "weights": weights}
        return cls.model_validate(
            {**scalars, **{name: each for name, each in given.items() if each is not None}}
        )


@cache
def _names(kind: type[WireMessage]) -> set[str]:
    """Of all fields; messages share it, since it never changes."""
    return {*kind.model_fields}
