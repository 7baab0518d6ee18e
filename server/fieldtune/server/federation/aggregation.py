"""The server optimizer that a configuration and ``[server]`` describe."""

from __future__ import annotations

from collections.abc import Mapping

from fieldtune.server.federation.fair import q_fedavg
from fieldtune.server.federation.own_aggregation import OwnAggregation
from fieldtune.server.federation.robust import coordinate_median, krum, trimmed_mean
from fieldtune.server.federation.server_optimizer import (
    AdaptiveStep,
    Aggregate,
    ServerOptimizer,
    SgdStep,
    Step,
    weighted_mean,
)
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.settings import client_settings, own_settings, server_settings
from fieldtune.server.study.space import Configuration, Value


def server_optimizer(options: ServerSection, configuration: Configuration) -> ServerOptimizer:
    """The server optimizer of a trial.

    Raises:
        UsageError: the user's own aggregation does not work.
    """
    return ServerOptimizer(
        _step(server_settings(configuration)), aggregate_of(options, configuration)
    )


def _step(settings: Mapping[str, Value]) -> Step:
    learning_rate = float(settings["server_learning_rate"])
    match rule := settings["server_optimizer"]:
        case "adagrad" | "yogi" | "adam":
            own = (float(settings[f"server_{name}"]) for name in ("beta_1", "beta_2", "tau"))
            return AdaptiveStep(rule, learning_rate, *own)
    return SgdStep(learning_rate, float(settings["server_momentum"]))


def aggregate_of(options: ServerSection, configuration: Configuration) -> Aggregate:
    """The function that makes one weight vector of a round's updates."""
    share, settings = options.malicious_share, server_settings(configuration)
    match rule := str(settings.get("aggregation", options.aggregation)):
        case "mean":
            return lambda weights, updates: weighted_mean(updates)
        case "trimmed_mean":
            return lambda weights, updates: trimmed_mean(updates, share)
        case "median":
            return lambda weights, updates: coordinate_median(updates)
        case "krum":
            return lambda weights, updates: krum(updates, share, select=1)
        case "multi_krum":
            return lambda weights, updates: krum(updates, share)
        case "qfedavg":
            q = float(settings["fairness"])
            rate = max(float(client_settings(configuration)["learning_rate"]), 1e-12)
            return lambda weights, updates: q_fedavg(weights, updates, q, rate)
    return OwnAggregation(rule, own_settings(configuration))
