"""Federated averaging: one training from initial weights to the final evaluation.

:func:`federated_averaging` is a generator. It yields requests by client and receives the reports
with ``send``; it does not know how messages are transported, or how long they take. So the tuning
loop can run several trainings at the same time.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from fieldtune.client.contract.messages import Weights
from fieldtune.server.federation.aggregation import server_optimizer
from fieldtune.server.federation.asynchronous import asynchronous
from fieldtune.server.federation.evaluation import evaluate_requests, evaluation
from fieldtune.server.federation.exchange import Answers, Exchange, Keep, State
from fieldtune.server.federation.local_training import train_locally
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.private_mean import private_mean, sampled_independently
from fieldtune.server.federation.selectors import selector_of, someone
from fieldtune.server.federation.server_optimizer import Update
from fieldtune.server.federation.tally import NothingLearnedError, Tally, learned
from fieldtune.server.outcomes.trial import Learned
from fieldtune.server.study.private_averaging import private_averaging
from fieldtune.server.study.settings import asked_per_round


def federated_averaging(
    plan: Plan, resumed: State | None = None, keep: Keep = lambda state: None
) -> Generator[Exchange, Answers, tuple[Weights, Learned]]:
    """Rounds of local training and averaging, then one evaluation by all participants.

    At a rung all participants evaluate too; if early stopping then ends the training, that is its
    final evaluation. With ``server.mode`` other than ``sync``, updates are not waited for in rounds
    (:mod:`~fieldtune.server.federation.asynchronous`).

    A client whose training diverged, failed or was late is left out of the average of its round. If
    no client's training is usable and one diverged, training ends and the last finite weights are
    evaluated: a learning rate that is too high gives a bad result, not a failed trial. A round
    whose results were all lost changes nothing.

    Args:
        plan: of the training.
        resumed: the state to continue from.
        keep: stores the state after each round, and after the evaluation at a rung.

    Raises:
        NothingLearnedError: no client could train or evaluate.
    """
    if plan.server.mode != "sync":
        return (yield from asynchronous(plan, resumed, keep))
    optimizer = server_optimizer(plan.server, plan.configuration)
    weights, tally = plan.initial_weights, Tally(target=plan.target)
    selector = selector_of(plan)
    done, curve = 0, dict[int, dict[str, float]]()
    if resumed:
        optimizer.restore(resumed["optimizer"])
        selector.restore(resumed.get("selector", {}))
        weights, tally = resumed["weights"], Tally.of(plan, resumed["tally"])
        done = resumed["rounds"]
        curve = {int(rounds): measures for rounds, measures in resumed["curve"].items()}

    def store() -> None:
        keep(
            {
                "rounds": done,
                "weights": weights,
                "optimizer": optimizer.state(),
                "selector": selector.state(),
                "tally": tally.state(),
                "curve": {str(rounds): measures for rounds, measures in curve.items()},
            }
        )

    private = private_averaging(plan.configuration)
    while done < plan.rounds and plan.has_time:
        if done in (*plan.rungs, *plan.looks) and done not in curve:
            answers = yield evaluate_requests(plan, done, weights)
            measures, samples = evaluation(answers, plan.classes, plan.metric, tally.failures)
            curve[done] = tally.timed(measures)
            if done in plan.rungs and not plan.goes_on(done, curve[done]):
                return weights, learned(tally, measures, samples, done, curve, stopped=True)
            store()
        if private:
            asked = sampled_independently(plan, done)
        else:
            asked = yield from someone(plan, selector, done, asked_per_round(plan.configuration))
        trained = yield from train_locally(
            plan, done, weights, dict.fromkeys(asked, plan.configuration), tally
        )
        for client, report in trained.usable.items():
            selector.learn(done, client, report)
        updates = trained.updates
        if private and (updates or not trained.wrong - {"diverged"}):
            each = [update.weights for update in updates]
            updates = [Update(private_mean(plan, done, private, weights, each), 1)]
            tally.updates += 1
        if updates:
            proposed = optimizer.step(weights, updates)
            if not np.isfinite(proposed).all():
                tally.failures["diverged"] += 1
                break
            weights = proposed
        elif tally.failures["diverged"]:
            break
        elif trained.wrong:
            raise NothingLearnedError(tally.failures, trained.answers.values())
        done += 1
        store()

    if not tally.updates and not tally.failures["diverged"]:
        raise NothingLearnedError(tally.failures, (), in_time=plan.has_time)
    answers = yield evaluate_requests(plan, plan.rounds, weights)
    measures, samples = evaluation(answers, plan.classes, plan.metric, tally.failures)
    return weights, learned(tally, measures, samples, done, curve)
