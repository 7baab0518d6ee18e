"""A user's own aggregation: a class that makes one weight vector of a round's updates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fieldtune.client.contract.messages import Weights
from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.load_object import load_object
from fieldtune.server.federation.server_optimizer import Update, Updates, Vector
from fieldtune.server.study.space import Value


class OwnAggregation:
    """An object of a user's class, called once a round.

    The class is created for each trial with the values of those parameters of ``[space.server]``
    that fieldtune does not know itself. Its method ``aggregate(weights, updates)`` gets the global
    weights, float32 ``[n]``, and a list of :class:`Update`; it returns the weights that take the
    updates' place, ``[n]``. The attributes of the object are its state: it may keep numbers, texts,
    lists, dicts and arrays in them from round to round.

    Args:
        name: ``package.module:Class``.
        settings: keyword arguments of the class.

    Raises:
        UsageError: the class cannot be imported, or raises.
    """

    def __init__(self, name: str, settings: Mapping[str, Value]) -> None:
        self._what = f"server.aggregation = {name!r}"
        made = load_object(name, setting="server.aggregation", error=UsageError)
        if not isinstance(made, type) or not callable(getattr(made, "aggregate", None)):
            raise UsageError(
                f"{self._what} is no class with a method aggregate(weights, updates): give it one"
            )
        try:
            self._object: Any = made(**settings)
        except (Exception, SystemExit) as raised:  # a user's class may raise anything
            raise UsageError(f"{self._what} raised {type(raised).__name__}: {raised}") from raised

    def __call__(self, weights: Weights, updates: Updates) -> Vector:
        """What the class makes of a round's updates.

        Raises:
            UsageError: it raises, or returns something else than a weight vector.
        """
        given = [Update(each.weights.copy(), each.samples, each.loss) for each in updates]
        try:
            returned = np.asarray(self._object.aggregate(weights.copy(), given), np.float64)
        except (Exception, SystemExit) as raised:  # a user's class may raise anything
            raise UsageError(
                f"{self._what}: aggregate raised {type(raised).__name__}: {raised}"
            ) from raised
        if returned.shape != weights.shape:
            raise UsageError(
                f"{self._what}: aggregate returned an array of shape {returned.shape}: return the "
                f"new weights, of shape {weights.shape}"
            )
        return returned

    def state(self) -> dict[str, Any]:
        """The object's attributes.

        Raises:
            UsageError: an attribute cannot be stored.
        """
        attributes = vars(self._object)
        for name, value in attributes.items():
            _check_storable(value, f"{self._what}: its attribute {name!r}")
        return dict(attributes)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        vars(self._object).update(state)


def _check_storable(value: object, what: str) -> None:
    """Refuse what a checkpoint does not give back as it was."""

    def array(each: object) -> None:
        if not isinstance(each, np.ndarray) or each.dtype.hasobject:
            raise TypeError(type(each).__name__)

    try:
        json.dumps(value, default=array)
    except (TypeError, ValueError) as cannot:
        raise UsageError(
            f"{what} cannot be stored in a checkpoint ({cannot}): keep numbers, texts, lists, "
            "dicts with texts as keys, and NumPy arrays"
        ) from None


def tried(name: str, settings: Mapping[str, Value]) -> None:
    """Call a class twice on updates drawn at random, as before a study trains anything.

    Raises:
        UsageError: it does not work.
    """
    own, rng = OwnAggregation(name, settings), np.random.default_rng(0)
    for _ in range(2):
        weights, first, second = rng.normal(size=(3, 10)).astype(np.float32)
        if not np.isfinite(own(weights, [Update(first, 2, 1.0), Update(second, 1, 0.5)])).all():
            raise UsageError(
                f"server.aggregation = {name!r}: aggregate returned weights that are not finite, "
                "given finite ones: let it return finite weights"
            )
        own.state()
