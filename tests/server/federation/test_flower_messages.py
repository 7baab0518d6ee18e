"""What a device replies is read without trusting it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from fieldtune.client.contract.encoding import encoded_bytes
from fieldtune.client.contract.inline import MOST_BYTES
from fieldtune.client.contract.messages import (
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
)
from fieldtune.client.contract.version import INLINE
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.node.client_app import make_client_app
from fieldtune.client.node.fleet_api import identify_process, message_from_bytes, message_to_bytes
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.federation.exchange import Report, Request
from fieldtune.server.federation.fleet import Addressed
from fieldtune.server.federation.flower_messages import (
    describe_message,
    described,
    reported,
    request_message,
)
from fieldtune.server.federation.report_checks import decoded
from fieldtune.simulations.datasets import load_dataset

SHA = "a" * 64
WEIGHTS = np.arange(4, dtype=np.float32)


def records(message: Any, weights: np.ndarray | None = None) -> RecordDict:
    scalars = message if isinstance(message, dict) else message.scalars()
    content = RecordDict({"message": ConfigRecord(scalars)})
    if weights is not None:
        content["weights"] = ArrayRecord({"all": Array(weights)})
    return content


REQUEST = TrainRequest(
    trial=1, round=2, artefact=SHA, weights=WEIGHTS, seed=0, batch_size=8, local_epochs=1,
    hyperparameter_names=("learning_rate",), hyperparameter_values=(0.1,),
)  # fmt: skip
GOOD = TrainReport(trial=1, round=2, samples=9, steps=2, loss=0.5, wall_s=0.1)


def answer_to(request: Request, answer: RecordDict | Error) -> Report:
    """The report that a device's answer is read as."""
    identify_process(1, 1)
    asked = request_message(Addressed(0, request, b"model"), 100, 60.0, with_model=True)
    return reported(Message(answer, reply_to=asked), request)


def answer_to_training(answer: RecordDict | Error) -> TrainReport:
    report = answer_to(REQUEST, answer)
    assert isinstance(report, TrainReport)
    return report


def test_an_honest_report_arrives() -> None:
    report = answer_to_training(records(GOOD, WEIGHTS + 1))
    assert report.failure is None
    assert report.samples == 9
    assert report.weights is not None
    assert report.weights.tolist() == [1, 2, 3, 4]


def test_a_field_of_a_later_version_is_ignored() -> None:
    later = records({**GOOD.scalars(), "surprise": 1}, WEIGHTS)
    assert answer_to_training(later).scalars() == GOOD.scalars()


@pytest.mark.parametrize(
    "answer",
    [
        RecordDict(),
        records({"trial": 1}),
        records({**GOOD.scalars(), "samples": -5}, WEIGHTS),
        records({**GOOD.scalars(), "wall_s": float("nan")}, WEIGHTS),
        records({**GOOD.scalars(), "trial": 9}, WEIGHTS),
        records({**GOOD.scalars(), "round": 9}, WEIGHTS),
        records(GOOD, WEIGHTS.astype(np.float64)),
        records(GOOD, WEIGHTS.reshape(2, 2)),
        records({**GOOD.scalars(), "residual": [0.0] * 4}, WEIGHTS),
        records({**GOOD.scalars(), "start_loss": float("inf")}, WEIGHTS),
    ],
    ids=["empty", "partial", "negative", "nan", "trial", "round", "f64", "2d",
         "residual", "loss"],
)  # fmt: skip
def test_anything_else_is_implausible_and_never_an_exception(answer: RecordDict) -> None:
    report = answer_to_training(answer)
    assert report.failure == "implausible"
    assert report.weights is None
    assert report.detail


def test_a_devices_text_cannot_forge_a_line() -> None:
    forged = "raised\x1b[2K\r\ntrial 7: error 0.0 %\u2028\u202e"
    report = answer_to_training(Error(code=2, reason=forged))
    assert report.failure == "error"
    said = answer_to_training(records({**GOOD.scalars(), "failure": "error", "detail": forged}))
    for text in (report.detail, said.detail):
        assert "trial 7" in text
        assert text.isprintable()


def saved(header: str, data: bytes = WEIGHTS.tobytes()) -> bytes:
    """An array as NumPy saves it, with a header of one's own."""
    return b"\x93NUMPY\x01\x00v\x00" + header.ljust(117).encode() + b"\n" + data


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, WEIGHTS)
    return file.getvalue()


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"


def array(data: bytes, stype: str = "numpy.ndarray", dtype: str = "float32") -> Array:
    return Array(dtype, (4,), stype, data)


def test_an_array_saved_by_hand_is_as_good_as_any() -> None:
    content = records(GOOD)
    content["weights"] = ArrayRecord({"all": array(saved(HEADER))})
    assert answer_to_training(content).failure is None


@pytest.mark.parametrize(
    "array",
    [
        array(saved(HEADER), stype="torch.tensor"),
        array(saved(HEADER), dtype="float64"),
        array(b""),
        array(saved(HEADER, data=b"")),
        array(saved(HEADER, data=WEIGHTS.tobytes() * 1000)),
        array(saved(HEADER.replace("4,", f"{10**14},"))),
        array(saved("(" * 117)),
        array(npz()),
        array(b"PK\x03\x04" + bytes(140)),
        array(saved(HEADER.replace("<f4", "|O"), data=b"cos\nsystem\n(S'true'\ntR.")),
    ],
    ids=["torch", "f64", "no bytes", "no data", "long", "huge", "garbled", "npz", "zip", "pickle"],
)
def test_weights_that_are_not_those_of_the_model_are_a_failure(array: Array) -> None:
    content = records(GOOD)
    content["weights"] = ArrayRecord({"all": array})
    report = answer_to_training(content)
    assert report.failure == "implausible"
    assert report.weights is None
    assert "not a report: " in report.detail


def test_an_artefact_goes_with_a_request_only_where_the_device_lacks_it() -> None:
    identify_process(1, 1)
    for with_model in (True, False):
        asked = request_message(Addressed(0, REQUEST, b"model"), 100, 60.0, with_model)
        assert ("model" in asked.content.config_records["message"]) == with_model


def test_an_evaluation_report_answers_an_evaluation() -> None:
    request = EvaluateRequest(trial=1, round=2, artefact=SHA, weights=WEIGHTS, metric="accuracy")
    report = EvaluateReport(
        trial=1, round=2, samples=3, loss_sum=1.0, hits=(1, 0), predicted=(2, 1), actual=(1, 2)
    )
    assert answer_to(request, records(report)) == report


def test_a_description_that_is_none_is_a_sentence() -> None:
    identify_process(1, 1)
    asked = describe_message(100, 60.0)
    for answer in (Error(code=2, reason="no"), RecordDict(), records({"client": -1})):
        assert isinstance(described(Message(answer, reply_to=asked)), str)


HUGE = "9" * 400
"""A text that is read as a number that no float can hold."""


@pytest.mark.parametrize(
    "lie",
    [{"train_samples": HUGE}, {"input_shape": [HUGE]}, {"input_shape": [9] * 17}, {"cores": HUGE}],
)
def test_a_description_with_impossible_numbers_is_a_sentence(lie: dict[str, Any]) -> None:
    identify_process(1, 1)
    told = {"client": 0, "profile": "raspberry-pi-5", "runtime": "LiteRT", **lie}
    why = described(Message(records(told), reply_to=describe_message(100, 60.0)))
    assert isinstance(why, str)
    assert why.startswith("not a description: ")


@pytest.mark.parametrize("field", ["samples", "steps", "round"])
def test_a_report_with_an_impossible_number_is_implausible(field: str) -> None:
    report = answer_to_training(records({**GOOD.scalars(), field: HUGE}, WEIGHTS))
    assert report.failure == "implausible"


def test_the_bytes_on_the_wire_are_those_that_are_forecast(mlp_artefact: Artefact) -> None:
    """Half precision and a correction down, an encoded update up, read by the real client."""
    digits, size = load_dataset("digits"), mlp_artefact.initial_weights.size
    data = ClientData(digits.x[:16], digits.y[:16], digits.x[:4], digits.y[:4], classes=10)
    app = make_client_app(lambda _: data)
    plain = REQUEST.model_copy(
        update={
            "artefact": mlp_artefact.manifest.artefact_sha256,
            "weights": mlp_artefact.initial_weights.astype(np.float16).astype(np.float32),
            "hyperparameter_names": ("learning_rate", "momentum"),
            "hyperparameter_values": (0.1, 0.0),
        }
    )
    smaller = plain.model_copy(update={"download": "float16", "update": "int8"})
    corrected = smaller.model_copy(update={"correction": np.ones(size, np.float32)})
    identify_process(1, 1)
    context, down, up, learned = Context(1, 1, {}, RecordDict(), {}), [], [], []
    for request in (plain, smaller, corrected):
        addressed, inline = Addressed(0, request, mlp_artefact.model), []
        for contract in (INLINE, INLINE - 1):
            asked = request_message(addressed, 100, 60.0, with_model=True, contract=contract)
            reply = app(message_from_bytes(message_to_bytes(asked)), context)
            report, wrong = decoded(reported(reply, request), request)
            assert isinstance(report, TrainReport)
            assert not wrong
            assert report.weights is not None
            inline.append(report.weights)
            objects = {len(get_all_nested_objects(each)) for each in (asked, reply)}
            assert (objects == {3}) == (contract == INLINE)
        assert inline[0].tobytes() == inline[1].tobytes()
        learned.append(report.weights - request.weights)
        down.append(len(message_to_bytes(asked)))
        up.append(len(message_to_bytes(reply)))
    step = np.abs(learned[0]).max() / 127
    np.testing.assert_allclose(learned[1], learned[0], atol=1.01 * step)
    # Two steps of size 0.1 along a correction of ones.
    np.testing.assert_allclose(learned[2], learned[0] - 0.2, atol=0.03)
    around = 400  # names of fields, headers of arrays
    assert down[0] - down[1] == pytest.approx(2 * size, abs=around)
    assert down[2] - down[1] == pytest.approx(4 * size, abs=around)
    assert up[0] - up[1] == pytest.approx(4 * size - encoded_bytes("int8", size), abs=around)


def inline(data: object) -> RecordDict:
    return records({**GOOD.scalars(), "weights": data})


@pytest.mark.parametrize("answer", [records(GOOD, WEIGHTS), inline(WEIGHTS.tobytes())])
def test_weights_in_the_place_of_an_encoded_update_are_refused(answer: RecordDict) -> None:
    asked = REQUEST.model_copy(update={"update": "int8"})
    report = answer_to(asked, answer)
    assert report.failure == "implausible"
    assert "weights that were not asked for" in report.detail


@pytest.mark.parametrize("data", [b"", bytes(15), bytes(4000), "text", [1.0, 2.0, 3.0, 4.0]])
def test_bytes_that_are_not_the_weights_of_the_model_are_a_failure(data: object) -> None:
    report = answer_to_training(inline(data))
    assert report.failure == "implausible"
    assert report.weights is None


def test_large_weights_have_a_record_of_their_own() -> None:
    identify_process(1, 1)
    large = REQUEST.model_copy(update={"weights": np.zeros(MOST_BYTES // 4 + 1, np.float32)})
    asked = request_message(Addressed(0, large, b""), 100, 60.0, False, contract=INLINE)
    assert "weights" in asked.content.array_records
