"""Pydantic validation errors of a user's file as one sentence: the key, the value, the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fieldtune.profiles.common.errors import did_you_mean
from fieldtune.profiles.common.text import printable

_Location = tuple[int | str, ...]

_NUMBER = "must be a number, without quotes and unit"
_TABLE = "must be a table, such as { name = value }"
_OWN_WORDS = {
    "float_parsing": _NUMBER,
    "int_parsing": _NUMBER,
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
}
"""Type of an error -> what is said of it in place of pydantic's words for programmers."""


def dotted(location: _Location) -> str:
    """A key as shown in messages, for example ``fleet.clients``."""
    return ".".join(map(str, location))


def first_error(
    wrong: ValidationError,
    model: type[BaseModel],
    *,
    key: Callable[[_Location], str] = dotted,
    special: Callable[[ErrorDetails], str | None] = lambda _: None,
    also_known: Iterable[str] = (),
    quotes: bool = True,
) -> str:
    """The first validation error as a sentence without a full stop.

    Unknown keys are reported first, because a misspelt key also counts as a missing one. The
    message of a custom validator follows the key, so it begins with a verb or the value: "must be
    sorted", "'x' is not host:port".

    Args:
        wrong: the exception that pydantic raised for the model.
        model: the model of the whole file.
        key: formats a key for the message.
        special: the message for an error, or None for the default one.
        also_known: valid top-level keys that are not fields of the model.
        quotes: whether the message may include the value; False if it may be a secret.
    """
    errors = wrong.errors(include_url=False)
    error = min(errors, key=lambda each: each["type"] != "extra_forbidden")
    own = special(error)
    return printable(_sentence(error, model, key, also_known, quotes) if own is None else own)


def _sentence(
    error: ErrorDetails,
    model: type[BaseModel],
    key: Callable[[_Location], str],
    also_known: Iterable[str],
    quotes: bool,
) -> str:
    name, location = key(error["loc"]), error["loc"]
    match error["type"]:
        case "extra_forbidden":
            top = list(also_known) if len(location) == 1 else []
            known = [*top, *_model_at(model, location[:-1]).model_fields]
            hint = did_you_mean(str(location[-1]), known)
            return f"{name} is not a known key" + (hint or f"; valid keys here: {', '.join(known)}")
        case "missing":
            return f"{name} is missing"
        case "value_error":
            return f"{name} {error['ctx']['error']}".lstrip()
        case "too_short":
            least = error["ctx"]["min_length"]
            return f"{name} must have at least {least} {'entry' if least == 1 else 'entries'}"
    said = _OWN_WORDS.get(error["type"], error["msg"]).replace("Input should ", "must ", 1)
    value = f" = {_shown(error['input'])}" if quotes else ""
    return f"{name}{value}: {said[0].lower()}{said[1:]}"


def _model_at(model: type[BaseModel], location: _Location) -> type[BaseModel]:
    """The model at a location; for a mapping, the model of its values."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(_models_in(field.annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
