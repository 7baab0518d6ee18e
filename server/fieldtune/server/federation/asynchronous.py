"""Averaging without rounds: clients train all the time, on whatever the model is when they begin.

``buffered``: FedBuff (Nguyen et al. 2022, arXiv 2106.06639, algorithm 1). ``concurrency`` clients
train at a time; once ``buffer_size`` updates have arrived, the model moves by their mean, each
counting less by its staleness: the number of updates of the model since its client began.

``async``: FedAsync (Xie et al. 2019, arXiv 1903.03934, algorithm 1). Each arriving model is mixed
into the global one at once, with the weight ``mixing * s(staleness)``.

In both, ``s(t) = (1 + t) ** -staleness_exponent`` (FedBuff, section 5; the polynomial of FedAsync,
section 5.2). A round is ``clients_per_round`` reports, usable or not: so a training asks as many
clients as in the mode ``sync``, and costs as much.
"""

from __future__ import annotations

from collections.abc import Generator

from fieldtune.client.contract.messages import Weights
from fieldtune.server.federation.course import Course
from fieldtune.server.federation.evaluation import evaluate_requests, evaluation
from fieldtune.server.federation.exchange import Answers, Collect, Exchange, Keep, State
from fieldtune.server.federation.local_training import note_time
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.selectors import someone
from fieldtune.server.federation.tally import NothingLearnedError, learned
from fieldtune.server.outcomes.trial import Learned


def asynchronous(
    plan: Plan, resumed: State | None, keep: Keep
) -> Generator[Exchange, Answers, tuple[Weights, Learned]]:
    """A training without rounds; else as :mod:`~fieldtune.server.federation.fedavg` has it.

    Raises:
        NothingLearnedError: no client could train or evaluate.
    """
    course = Course(plan, resumed)
    try:
        return (yield from _trained(course, keep))
    except NothingLearnedError:
        yield from _drain(course)  # work that goes on is paid for
        raise


def _trained(course: Course, keep: Keep) -> Generator[Exchange, Answers, tuple[Weights, Learned]]:
    """All of a training."""
    plan, tally = course.plan, course.tally
    total = plan.rounds * course.per_round
    while course.answered < total and plan.has_time:
        done = course.done
        due = [each for each in (*plan.rungs, *plan.looks) if course.looked < each <= done]
        if course.buffer and not course.version:  # initial weights would be judged
            due = []
        if due:
            answers = yield evaluate_requests(plan, done, course.weights)
            measures, samples = evaluation(answers, plan.classes, plan.metric, tally.failures)
            # Several where more reports than a round's came at the same time.
            course.looked, now = done, tally.timed(measures)
            course.curve |= dict.fromkeys(due, now)
            rungs = sorted({*due} & {*plan.rungs})
            if rungs and not plan.goes_on(rungs[-1], now):
                yield from _drain(course)
                return course.weights, learned(
                    tally, measures, samples, done, course.curve, stopped=True
                )
            keep(course.state())
        until_s = yield from _refill(course, total)
        answers = yield Collect(
            course.requests(), until_s=until_s, leaves_open=True, patience_s=course.patience_s
        )
        if tally.time_s is None:
            note_time(plan, tally)
        if not course.take(answers):
            break
        if course.done > done:
            if not course.end_round(answers):
                break
            keep(course.state())
    while course.buffer and not tally.failures["diverged"]:
        course.update()
    yield from _drain(course)
    if not tally.updates and not tally.failures["diverged"]:
        raise NothingLearnedError(tally.failures, (), in_time=plan.has_time)
    answers = yield evaluate_requests(plan, plan.rounds, course.weights)
    measures, samples = evaluation(answers, plan.classes, plan.metric, tally.failures)
    return course.weights, learned(tally, measures, samples, course.done, course.curve)


def _refill(course: Course, total: int) -> Generator[Exchange, Answers, float]:
    """Ask as many clients as may train at a time; the time at which to look for more."""
    plan, situation = course.plan, course.plan.situation
    want = min(course.concurrency - len(course.open), total - course.asked)
    if want < 1:
        return plan.most_s
    number, place = divmod(course.asked, course.per_round)
    if course.open:
        chosen = course.selector.choose(number, place, want)
    else:
        chosen = yield from someone(plan, course.selector, number, want)
    course.ask(chosen)
    if len(chosen) == want:
        return plan.most_s
    away = [c for c in situation.free(plan.participants) if c not in course.open]
    return min(plan.most_s, situation.someone_there_s(away))


def _drain(course: Course) -> Generator[Exchange, Answers, None]:
    """Do not wait for open requests any more."""
    if course.open:
        kind = "surplus" if course.plan.has_time else "late"
        course.tally.failures[kind] += len(course.open)
        yield Collect(course.requests(), usable=0)
        course.open.clear()
