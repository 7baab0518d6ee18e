"""A device's budget of differential privacy: what it adds up, and where it ends."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fieldtune.client.data.privacy import Privacy
from fieldtune.client.training.allowed import NotAllowedError
from fieldtune.client.training.privacy_budget import PrivacyBudget, epsilon
from fieldtune.profiles.common.errors import StorageError, UsageError

NOISY = Privacy(clip_norm=1.0, noise=20.0, max_epsilon=1.0)


def test_a_device_trains_no_more_once_its_budget_is_spent(tmp_path: Path) -> None:
    file = tmp_path / "state/privacy.json"
    for _ in range(4):
        PrivacyBudget(file).spend(NOISY)  # as after a restart
    for refuse in (PrivacyBudget(file).check, PrivacyBudget(file).spend):
        with pytest.raises(NotAllowedError, match=r"an epsilon of 1\.1.*max_epsilon = 1"):
            refuse(NOISY)
    assert epsilon(2 * 4 / 20**2, 1e-5) <= 1 < epsilon(2 * 5 / 20**2, 1e-5)
    PrivacyBudget(file).spend(NOISY.model_copy(update={"max_epsilon": 2.0}))


def test_the_bound_holds_for_the_gaussian_mechanism() -> None:
    """Against the exact curve of one mechanism (Balle and Wang 2018, arXiv 1805.06530, theorem 8):
    the smallest delta for the epsilon that is claimed is at most the delta that is claimed."""

    def phi(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    for noise, delta in ((2.0, 1e-5), (20.0, 1e-5), (5.0, 1e-8)):
        claimed, ratio = epsilon(2 / noise**2, delta), 2 / noise  # sensitivity / deviation
        exact = phi(ratio / 2 - claimed / ratio) - math.exp(claimed) * phi(
            -ratio / 2 - claimed / ratio
        )
        assert exact <= delta


def test_without_noise_nothing_is_counted(tmp_path: Path) -> None:
    PrivacyBudget(tmp_path / "privacy.json").spend(Privacy(clip_norm=1.0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{}", '{"rho": "nan"}', '{"rho": -1}', "[1]", "\0"])
def test_a_damaged_budget_is_not_begun_anew(text: str, tmp_path: Path) -> None:
    file = tmp_path / "privacy.json"
    file.write_text(text)
    with pytest.raises(StorageError, match=r"privacy\.json is damaged"):
        PrivacyBudget(file).check(NOISY)


def test_entries_of_the_command_line_are_set_over_the_table() -> None:
    table = Privacy(clip_norm=2.0, max_epochs=3)
    given = ["noise=1.5", "max_epochs=9", "metrics=accuracy, auc", "confusion=false"]
    assert Privacy.given(given, table) == Privacy(
        clip_norm=2.0, noise=1.5, max_epochs=9, metrics=("accuracy", "auc"), confusion=False
    )
    assert Privacy.given(['metrics=["auc"]'], table).metrics == ("auc",)
    assert Privacy.given([], table) == table


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("noise", "write KEY=VALUE"),
        ("noise=1.0", "noise without clip_norm"),
        ("max_epsilon=1.0", "max_epsilon without noise"),
        ("noize=1.0", "did you mean 'noise'"),
        ("max_epochs=many", "max_epochs"),
        ("clip_norm=-1", "clip_norm"),
    ],
)
def test_an_entry_that_cannot_hold_is_refused_in_a_sentence(entry: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as refused:
        Privacy.given([entry], Privacy())
    assert str(refused.value).startswith("--privacy")
