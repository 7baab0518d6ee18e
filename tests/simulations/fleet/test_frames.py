"""Frames carry every message as it is, and large values only as often as they must."""

from __future__ import annotations

import json
import math
import os
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fieldtune.client.contract.messages import (
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
)
from fieldtune.client.contract.wire import WireMessage
from fieldtune.client.training.answer import Client
from fieldtune.client.training.runtime import Sessions
from fieldtune.profiles.common.errors import DataError, StorageError
from fieldtune.simulations.fleet.frames import Before, Numbered, pack, unpack
from fieldtune.simulations.fleet.plan import FleetPlan
from fieldtune.simulations.fleet.worker import answered, serve

headers = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name != "blobs"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=9,
    ),
    max_size=4,
)
blobs = st.binary(max_size=99) | st.sampled_from(["f4", "i1", "i4", "f8", "u2"]).flatmap(
    lambda dtype: arrays(dtype, array_shapes(max_dims=2, min_side=0, max_side=9))
)


@given(headers, st.lists(blobs, max_size=4))
def test_a_frame_is_read_as_it_was_written(header: dict[str, object], values: list[object]) -> None:
    told, found = unpack(pack(header, values))  # type: ignore[arg-type]
    assert told == header
    assert len(found) == len(values)
    for sent, came in zip(values, found, strict=True):
        assert type(came) is type(sent)
        if isinstance(sent, np.ndarray):
            assert isinstance(came, np.ndarray)
            assert (came.dtype, came.shape) == (sent.dtype, sent.shape)
            assert came.tobytes() == sent.tobytes()
            assert came.flags.aligned
        else:
            assert came == sent


def request(**changes: object) -> TrainRequest:
    asked = TrainRequest(
        trial=1, round=2, artefact="a" * 64, weights=np.arange(4, dtype=np.float32), seed=3,
        batch_size=8, local_epochs=1, hyperparameter_names=("learning_rate",),
        hyperparameter_values=(0.1,),
    )  # fmt: skip
    return asked.model_copy(update=changes)


optional = {
    "model": st.none() | st.sampled_from([b"m", b"n"]),
    "seed": st.sampled_from([3, 10**12, 10**12 + 1]),
    "topk_share": st.none() | st.sampled_from([0.5, 1.0]),
    "correction": st.none() | st.just(np.ones(4, np.float32)),
    "residual": st.none() | arrays(np.float32, 4),
}
evaluation = EvaluateRequest(
    trial=1, round=2, artefact="a" * 64, weights=np.zeros(4, np.float32), metric="auc"
)
asked = st.fixed_dictionaries(optional).map(lambda changes: request(**changes))
counted = st.builds(
    EvaluateReport, trial=st.just(1), round=st.just(2), hits=st.sampled_from([(), (1, 2)]),
    confusion=st.sampled_from([None, (1, 0, 0, 2)]),
    loss_sum=st.sampled_from([0.0, 3.0, math.inf, math.nan]),
)  # fmt: skip
trained = st.builds(
    TrainReport, trial=st.just(1), round=st.just(2), weights=st.none() | arrays(np.float32, 4),
    failure=st.sampled_from([None, "late"]), simulated=st.booleans(),
)  # fmt: skip


@given(st.lists(asked | st.just(evaluation), max_size=6) | st.lists(counted | trained, max_size=6))
def test_messages_are_whole_again_of_which_only_the_difference_was_sent(
    messages: list[WireMessage],
) -> None:
    sender, receiver = Before(), Before()
    kind: type[WireMessage] | None = None
    for message in messages:
        first, small, large = sender.apart(message)
        assert first == (type(message) is not kind)
        assert all(isinstance(each, bytes | np.ndarray) for each in large.values())
        kind = type(message)
        told = unpack(pack({"small": small}))[0]["small"]
        again = receiver.whole(kind, first, {**told, **large})
        assert again.__dict__.keys() == message.__dict__.keys()
        for name, value in message.__dict__.items():
            assert type(again.__dict__[name]) is type(value)
            np.testing.assert_array_equal(again.__dict__[name], value)


def test_of_a_message_like_the_one_before_nothing_is_sent() -> None:
    before, first = Before(), request(model=b"m")
    before.apart(first)
    assert before.apart(first) == (False, {}, {})
    assert before.apart(first.model_copy(update={"seed": 9})) == (False, {"seed": 9}, {})


def test_what_is_sent_is_dropped_after_the_last_frame_that_uses_it() -> None:
    numbered, shared = Numbered(), np.zeros(3, np.float32)
    first, second = ([numbered.of(shared), numbered.of(own)] for own in (b"1", b"2"))
    numbered.use(first)
    numbered.use(second)
    assert first[0] == second[0]
    assert len({*first, *second}) == 3
    assert numbered[first[0]] is shared
    assert numbered.release(first) == [first[1]]
    assert set(numbered.release(second)) == {*second}
    assert len(numbered) == 0
    assert numbered.of(shared) not in {*first, *second}, "a worker may still hold those"


@pytest.mark.parametrize(
    ("raised", "failure", "detail"),
    [
        (DataError("the folder is empty"), "bad_data", "the folder is empty"),
        (ZeroDivisionError("by\nzero"), "error", "ZeroDivisionError: by"),
        (DataError("a\udcff.npz is damaged"), "bad_data", "a .npz is damaged"),
        (StorageError("a\udcff cannot be read"), "error", "a  cannot be read"),
    ],
)
def test_whatever_a_client_raises_is_a_report(raised: Exception, failure: str, detail: str) -> None:
    def data() -> None:
        raise raised

    report = answered(request(), Client(data), Sessions())  # type: ignore[arg-type]
    assert isinstance(report, TrainReport)
    assert (report.trial, report.round, report.failure) == (1, 2, failure)
    assert report.detail.startswith(detail)
    assert report.weights is None
    assert pack({"detail": report.detail})


def test_a_file_whose_name_is_not_utf_8_is_named_as_far_as_it_is(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xff.npz")).write_bytes(b"damaged")
    plan = FleetPlan(str(tmp_path), "owner", 1.0, 0.25, 2, {"raspberry-pi-5": 1.0}, 0)
    ours, theirs = Pipe()
    setup = {"plan": plan.to_json(), "import_path": [], "introduces": True}
    ours.send_bytes(json.dumps(setup).encode())
    serve(theirs)
    assert "a .npz" in unpack(ours.recv_bytes())[0]["data_error"]
