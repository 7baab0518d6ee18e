"""FedEx in the tuning loop, on a fleet whose devices are slower than their profiles say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fieldtune.profiles.costmodel.cost import MESSAGE_BYTES
from fieldtune.server.outcomes.trial import Completed, Outcome
from support.slow_studies import Run, killed_again_and_again, slow_studies, width

pytestmark = pytest.mark.integration

FEDEX: dict[str, Any] = {"rounds": 3, "tuner_name": "fedex"}


@pytest.fixture(scope="module")
def run(recorded_artefacts: Path) -> Iterator[Run]:
    with slow_studies(recorded_artefacts) as run:
        yield run


@pytest.fixture(scope="module")
def explored(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Outcome], str]:
    return run(tmp_path_factory.mktemp("fedex") / "slow", **FEDEX)


def test_a_trial_of_fedex_is_that_of_the_configuration_which_it_came_to(
    explored: tuple[list[Outcome], str],
) -> None:
    trained = [outcome for outcome in explored[0] if isinstance(outcome, Completed)]
    assert trained[0].proposal.number == 0  # the defaults, which are trained alone
    assert trained[0].learned.choice is None
    moved = 0
    for outcome in trained[1:]:
        choice = outcome.learned.choice
        assert choice is not None
        assert len(choice.configurations) == 4
        assert outcome.proposal.configuration.client == choice.configurations[choice.mode]
        assert sum(choice.probabilities) == pytest.approx(1)
        assert choice.probabilities[choice.mode] > 1 / 4
        moved += choice.mode > 0
    assert moved
    assert "of 4 configurations" in explored[1]


def test_a_trial_of_fedex_is_charged_for_what_its_clients_evaluate_too(
    run: Run, explored: tuple[list[Outcome], str], tmp_path: Path
) -> None:
    def messages(outcome: Outcome) -> float:
        assert isinstance(outcome, Completed)
        return sum(each.sent_bytes for each in outcome.expense.values())

    plain = run(tmp_path / "plain", rounds=3, tuner_name="random")[0]
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(explored[0], plain, strict=False)
        if isinstance(ours, Completed)
        and isinstance(theirs, Completed)
        and width(ours) == width(theirs)
        and ours.learned.choice
    ]
    assert pairs
    for ours, theirs in pairs:
        # Three clients in each of three rounds answer once more, without weights.
        assert messages(ours) - messages(theirs) == pytest.approx(9 * MESSAGE_BYTES.value)
        assert ours.learned.device_s > theirs.learned.device_s


def test_a_study_by_fedex_is_the_same_whoever_answers_first_and_after_kills(
    run: Run, explored: tuple[list[Outcome], str], tmp_path: Path
) -> None:
    assert killed_again_and_again(run, tmp_path / "s", newest_first=True, **FEDEX) == explored[1]
