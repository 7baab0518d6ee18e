"""What the coordinator keeps of each client from round to round, and adds to its requests.

- SCAFFOLD's control variates, of which a request carries the correction.
- In simulations, what a client's encoded updates left out (error feedback). A device keeps that
  itself; a simulated client is served by any process, so its residual travels with request and
  report, uncounted, and is part of the checkpoint: the same bits for any number of workers, and
  after an interruption.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from fieldtune.client.contract.messages import TrainReport, TrainRequest, Weights
from fieldtune.server.federation.exchange import Report, State
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.robust import Norms, clipped
from fieldtune.server.federation.scaffold import ControlVariates, LocalSteps
from fieldtune.server.study.settings import Algorithm, algorithms, client_settings
from fieldtune.server.study.space import Configuration

_LARGEST_FLOAT16 = np.float32(65504)


class ClientMemory:
    """What is kept of the clients of one training."""

    def __init__(self) -> None:
        self._controls: ControlVariates | None = None
        self._control_norms: Norms = {}
        self._residuals: dict[int, Weights] = {}
        self._rounded: tuple[Weights, Weights] | None = None
        """The latest weights that were sent as float16, exact and rounded."""

    def state(self) -> State:
        """To be stored; empty where nothing is kept."""
        state: dict[str, Any] = {}
        if self._controls:
            state |= {"controls": self._controls.state(), "control_norms": self._control_norms}
        if self._residuals:
            state["residuals"] = {str(c): each for c, each in sorted(self._residuals.items())}
        return state

    def restore(self, plan: Plan, state: State) -> None:
        """Continue from a stored state."""
        if "controls" in state:
            self._controls_of(plan).restore(state["controls"])
            norms = state["control_norms"].items()
            self._control_norms = {group: array("d", each) for group, each in norms}
        self._residuals = {int(c): each for c, each in state.get("residuals", {}).items()}

    def prepared(
        self, plan: Plan, algorithm: Algorithm, client: int, request: TrainRequest
    ) -> TrainRequest:
        """The request with what the algorithm asks for and what is kept of the client."""
        if algorithm.is_plain:
            return request
        changes: dict[str, Any] = {}
        if algorithm.download != "float32":
            weights = self._as_sent(request.weights)
            changes |= {"weights": weights, "download": algorithm.download}
        if algorithm.update != "float32":
            changes |= {"update": algorithm.update, "residual": self._residuals.get(client)}
            if algorithm.update == "topk":
                changes["topk_share"] = algorithm.topk_share
        if algorithm.corrects_drift:
            controls = self._controls_of(plan)
            changes["correction"] = controls.correction(client, request.weights.size)
        if algorithm.measures_loss:
            changes["measure_loss"] = True
        return request.model_copy(update=changes)

    def accepted(self, algorithm: Algorithm, client: int, base: Weights, report: Report) -> Report:
        """The report as the algorithm uses it; what is kept of the client is taken from it.

        Where a client was sent rounded weights, its change is added to the exact ones, so that
        roundings do not accumulate over the rounds.

        Args:
            algorithm: of the client's configuration.
            client: that reports.
            base: the weights before they were rounded for the client.
            report: its answer, decoded.
        """
        if not isinstance(report, TrainReport) or algorithm.is_plain:
            return report
        if report.residual is not None:
            self._residuals[client] = report.residual.copy()  # it may be part of a frame
        changes: dict[str, Any] = {"residual": None, "encoded": None}
        trained = report.weights
        if algorithm.download != "float32" and trained is not None and trained.size == base.size:
            changes["weights"] = base + (trained - self._as_sent(base))
        return report.model_copy(update=changes)

    def learn(
        self,
        plan: Plan,
        start: Weights,
        trained: Mapping[int, TrainReport],
        configurations: Mapping[int, Configuration],
    ) -> None:
        """Update the control variates after a round.

        Args:
            plan: of the training.
            start: the weights before the round.
            trained: client -> its usable report.
            configurations: client -> that which it trained with.
        """
        asked = algorithms(configurations, plan.server)
        steps = {
            client: _local_steps(each, configurations[client], plan.micro_batch)
            for client, each in trained.items()
            if asked[client].corrects_drift
        }
        if not steps:
            return
        controls = self._controls_of(plan)
        controls.learn(start, steps)
        if plan.server.clip:
            # A client that claims fewer steps than it has taken has a larger control variate.
            own = controls.own(steps)
            groups = dict.fromkeys(own, "controls")
            found = clipped(np.zeros_like(start), own, groups, self._control_norms)
            controls.replace({client: smaller for client, (smaller, _) in found.items()})

    def _as_sent(self, weights: Weights) -> Weights:
        """The weights as float16 has them; the same array for all clients of a round."""
        if self._rounded is None or self._rounded[0] is not weights:
            bounded = np.clip(weights, -_LARGEST_FLOAT16, _LARGEST_FLOAT16)
            self._rounded = weights, bounded.astype(np.float16).astype(np.float32)
        return self._rounded[1]

    def _controls_of(self, plan: Plan) -> ControlVariates:
        if self._controls is None:
            size = plan.initial_weights.size
            trainable = size if plan.trainable is None else plan.trainable
            self._controls = ControlVariates(len(plan.participants), trainable)
        return self._controls


def _local_steps(report: TrainReport, configuration: Configuration, micro_batch: int) -> LocalSteps:
    """What a client did. Its calls tell the steps: its samples may count as fewer than it has."""
    settings = client_settings(configuration)
    epochs = int(settings["local_epochs"])
    calls_per_step = math.ceil(int(settings["batch_size"]) / micro_batch)
    assert report.weights is not None
    steps = epochs * max(1, math.ceil(report.steps / epochs / calls_per_step))
    return LocalSteps(report.weights, steps, float(settings["learning_rate"]))
