"""Orders of the coordinator, as a device answers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fieldtune.client.contract.deployment import (
    DEPLOY,
    ROLL_BACK,
    STATUS,
    DeployReport,
    RollbackOrder,
    StatusReport,
)
from fieldtune.client.data.files import DeviceData
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.deployed.candidate import Candidates
from fieldtune.client.deployed.slots import Slots
from fieldtune.client.node.fleet_api import identify_process
from fieldtune.client.node.operations import add_operations
from fieldtune.client.node.signatures import Signer
from fieldtune.client.node.state import Status
from fieldtune.server.deployment.certificates import make_authority
from support.deployed import GOOD, WORSE, digits_data, old_model, order

AUTHORITY, OTHER = make_authority("here"), make_authority("elsewhere")


class Board:
    """A device with digits in a folder."""

    def __init__(self, folder: Path) -> None:
        identify_process(1, 1)
        data = digits_data(samples=100)
        (folder / "data").mkdir()
        np.savez(
            folder / "data/a.npz",
            x=data.train_x, y=data.train_y, x_test=data.test_x, y_test=data.test_y,
        )  # fmt: skip
        self.data = DeviceData(str(folder / "data"))
        self.folder, self.app = folder, ClientApp()
        self.status = Status("kitchen", "here:1", "raspberry-pi-5", 1)
        slots = Slots(folder / "state")
        candidates = Candidates("kitchen", slots, self.data, self.data.privacy, lambda run: run())
        add_operations(self.app, candidates, self.data, self.status, AUTHORITY.certificate)

    def ask(self, kind: str, content: RecordDict | None = None, ttl: float = 60.0) -> Any:
        message = Message(content or RecordDict(), 5, kind, ttl=ttl)
        reply = self.app(message, Context(1, 5, {}, RecordDict(), {}))
        kinds = {STATUS: StatusReport}
        told = dict(reply.content.config_records["message"])
        return kinds.get(kind, DeployReport).parse(told)

    def tell(self) -> StatusReport:
        found = self.ask(STATUS)
        assert isinstance(found, StatusReport)
        return found


def signed(
    text: str, purpose: str = DEPLOY, model: bytes | None = None, key: str = AUTHORITY.private_key
) -> RecordDict:
    content = RecordDict({"message": ConfigRecord({"order": text})})
    content["signature"] = ConfigRecord({"order": Signer(key).of_text(purpose, text)})
    if model is not None:
        content["model"] = ConfigRecord({"model": model})
    return content


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_a_signed_order_is_followed_and_the_status_says_so(board: Board) -> None:
    assert board.tell().runs is None
    report = board.ask(DEPLOY, signed(order(3).text(), model=old_model(GOOD)))
    assert (report.outcome, report.number) == ("switched", 3)
    told = board.tell()
    assert (told.runs, told.order, told.model) == (report.runs, 3, "old, trial 0, fp32")
    assert (told.judged_on, told.samples, told.error) == ("test", 100, report.error)
    assert told.disk_free_mib is not None
    assert (told.version, told.profile) != ("", "")


def test_without_the_coordinators_signature_of_this_order_nothing_happens(board: Board) -> None:
    text, model = order(3).text(), old_model(GOOD)
    unsigned = RecordDict({"message": ConfigRecord({"order": text})})
    unsigned["model"] = ConfigRecord({"model": model})
    forged = signed(order(4).text(), model=model)
    forged["message"] = ConfigRecord({"order": text})
    for content in (
        unsigned,
        forged,
        signed(text, ROLL_BACK, model),
        signed(text, model=model, key=OTHER.private_key),
    ):
        report = board.ask(DEPLOY, content)
        assert (report.outcome, report.why) == (
            "kept", "the coordinator has not signed the order",
        )  # fmt: skip
    assert board.tell().runs is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "does not understand the order: number is missing"),
        ("no json", "does not understand the order"),
        (order(3).text().replace('"schema_version":1', '"schema_version":9'), "schema_version"),
    ],
)
def test_an_order_of_another_kind_is_refused_in_a_sentence(
    board: Board, text: str, why: str
) -> None:
    assert why in board.ask(DEPLOY, signed(text, model=old_model(GOOD))).why


def test_fields_of_later_versions_are_ignored(board: Board) -> None:
    text = order(3).text().replace('"number":3', '"number":3,"new":[1]')
    assert board.ask(DEPLOY, signed(text, model=old_model(GOOD))).outcome == "switched"
    assert DeployReport.parse({"number": 1, "outcome": "kept", "later": 1}).number == 1


def test_an_order_without_its_model_or_time_is_refused(board: Board) -> None:
    assert "no model" in board.ask(DEPLOY, signed(order(3).text())).why
    late = board.ask(DEPLOY, signed(order(3).text(), model=old_model(GOOD)), ttl=1e-9)
    assert (late.outcome, late.number) == ("kept", 3)
    assert late.why.startswith("trying it took longer than ")


def test_a_rollback_is_signed_too(board: Board) -> None:
    board.ask(DEPLOY, signed(order(1, WORSE).text(), model=old_model(WORSE)))
    board.ask(DEPLOY, signed(order(2).text(), model=old_model(GOOD)))
    back = RollbackOrder(number=3, device="kitchen", leave=order(2).card.artefact).text()
    wrong = board.ask(ROLL_BACK, signed(back, DEPLOY))
    assert (wrong.outcome, board.tell().order) == ("kept", 2)
    assert board.ask(ROLL_BACK, signed(back, ROLL_BACK)).outcome == "switched"
    assert board.tell().model == "old, trial 2, fp32"


def test_samples_that_the_owner_labels_later_are_what_the_model_is_judged_on(
    board: Board,
) -> None:
    board.ask(DEPLOY, signed(order(1).text(), model=old_model(GOOD)))
    before = board.tell()
    fresh = board.folder / "data/fresh"
    fresh.mkdir()
    assert board.tell().judged_on == "test"
    data = digits_data(samples=60)
    np.savez(fresh / "1.npz", x=data.test_x, y=(data.test_y + 1) % 10)
    told = board.tell()
    assert (told.judged_on, told.samples) == ("fresh", 60)
    assert told.error is not None
    assert before.error is not None
    assert told.error > before.error
    np.savez(fresh / "2.npz", x=np.zeros((2, 3)), y=np.zeros(2, int))
    broken = board.tell()
    assert (broken.error, broken.judged_on) == (None, None)
    assert "samples of different shapes" in broken.not_judged


def test_the_error_of_the_deployed_model_is_told_only_if_the_owner_allows_it(board: Board) -> None:
    (board.folder / "data/data.toml").write_text('[privacy]\nmetrics = ["auc"]')
    assert board.ask(DEPLOY, signed(order(1).text(), model=old_model(GOOD))).outcome == "switched"
    told = board.tell()
    assert (told.error, told.not_judged) == (
        None, "the owner does not allow the metric 'accuracy'",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("max_request_s = 1e-9", "trying it took longer than 1e-09 s"),
        ("min_samples = 500", "the owner does not allow fewer samples than privacy.min_samples"),
    ],
)
def test_the_owners_limits_hold_where_the_deployed_model_is_judged(
    board: Board, limit: str, why: str
) -> None:
    assert board.ask(DEPLOY, signed(order(1).text(), model=old_model(GOOD))).outcome == "switched"
    (board.folder / "data/data.toml").write_text(f"[privacy]\n{limit}")
    board.data._privacy = None  # as after a restart
    told = board.tell()
    assert (told.runs, told.error) == (order(1).card.artefact, None)
    assert told.not_judged.startswith(why)


def test_a_model_is_judged_once_broken_data_are_repaired(board: Board) -> None:
    board.ask(DEPLOY, signed(order(1).text(), model=old_model(GOOD)))
    good = (board.folder / "data/a.npz").read_bytes()
    (board.folder / "data/a.npz").write_bytes(b"broken")
    board.data._data = None  # as after a restart
    assert "is not a .npz file" in board.tell().not_judged
    (board.folder / "data/a.npz").write_bytes(good)
    assert (board.tell().not_judged, board.tell().samples) == ("", 100)


def test_fresh_samples_that_do_not_fit_are_read_again_when_they_or_their_description_change(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.ask(DEPLOY, signed(order(1).text(), model=old_model(GOOD)))
    (board.folder / "data/fresh").mkdir()
    data, read, fresh = digits_data(samples=60), [], board.data.fresh
    monkeypatch.setattr(board.data, "fresh", lambda: (read.append(1), fresh())[1])  # type: ignore[func-returns-value]
    np.savez(board.folder / "data/fresh/a.npz", x=data.test_x, y=data.test_y)
    description = board.folder / "data/data.toml"
    description.write_text('labels = ["zero", "one"]')
    for _ in range(2):
        assert board.tell().not_judged
    assert len(read) == 1
    description.write_text("")
    assert (board.tell().not_judged, board.tell().samples) == ("", 60)


def test_a_model_is_not_judged_on_samples_whose_labels_mean_something_else(board: Board) -> None:
    names = [f"digit {number}" for number in range(10)]
    first = order(1, labels=names)
    board.ask(DEPLOY, signed(first.text(), model=old_model(GOOD)))
    assert board.tell().error is not None
    (board.folder / "data/fresh").mkdir()
    data = digits_data(samples=60)
    np.savez(board.folder / "data/fresh/a.npz", x=data.test_x, y=data.test_y)
    (board.folder / "data/data.toml").write_text(f"labels = {names[::-1]}")
    told = board.tell()
    assert (told.error, told.not_judged.split(",")[0]) == (None, "its classes have other names")


def test_a_device_whose_data_are_broken_says_why_it_keeps_its_model(board: Board) -> None:
    (board.folder / "data/a.npz").write_bytes(b"broken")
    report = board.ask(DEPLOY, signed(order(1).text(), model=old_model(GOOD)))
    assert report.outcome == "kept"
    assert "is not a .npz file" in report.why
    assert board.data.privacy() == Privacy()
