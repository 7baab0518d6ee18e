"""The combined calls, between a device's connection and a run of a study, on SuperLink's own state.

Part of the contract with Flower's private parts: it is tested with each version that is supported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from fieldtune.client.contract.combined_calls import MOST_BYTES, TAKE, WAIT, Parts, that_fit
from fieldtune.client.node.fleet_api import Waited
from fieldtune.client.node.link_errors import NotOfferedError, UnreachableError
from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.deployment import combined_calls
from support.calls_scene import Scene, seed


def test_a_training_is_two_calls_of_each_device_and_two_of_the_run_for_all(scene: Scene) -> None:
    sent = scene.ask(devices=3)
    for number in range(3):
        assert seed(scene.answer(number)) == number
    replies = scene.run.pull(sent)
    assert sorted(str(seed(reply)) for reply in replies) == ["0", "1", "2"]
    assert {reply.metadata.reply_to_message_id for reply in replies} == set(sent)
    assert [len(scene.calls[end]) for end in (*scene.links, scene.run)] == [2, 2, 2, 2]
    assert scene.left_objects() == 0


def test_the_calls_of_a_run_are_heartbeats_too(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = list[int]()
    monkeypatch.setattr(scene.superlink.state, "acknowledge_task_heartbeat", beats.append)
    scene.run.pull(scene.ask())
    assert len(beats) == 2


def test_large_objects_travel_in_flowers_calls(scene: Scene) -> None:
    weights = MOST_BYTES // 2  # float32: twice as many bytes as fit
    sent = scene.ask(weights=weights)
    scene.answer()
    (reply,) = scene.run.pull(sent)
    assert reply.content.array_records["weights"]["all"].numpy().shape == (weights,)
    assert any(path.endswith("pull-object") for path in scene.calls[scene.links[0]])
    assert any(path.endswith("push-object") for path in scene.calls[scene.links[0]])
    assert any(path.endswith("pull-object") for path in scene.calls[scene.run])
    assert scene.left_objects() == 0


def test_a_message_is_confirmed_also_where_the_first_attempt_to_is_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.ask(weights=MOST_BYTES // 2)
    link, node = scene.links[0], scene.nodes[0]
    pending = link.pull(node)
    assert pending is not None

    def lost(request: object) -> None:
        raise httpx.ReadTimeout("")

    with monkeypatch.context() as patched:
        patched.setattr(link._client, "ConfirmMessageReceived", lost)
        with pytest.raises(UnreachableError):
            link.fetch(node, pending)
    assert seed(link.fetch(node, pending)) == 0
    assert scene.left_objects() == 0


def test_an_answer_that_was_lost_on_the_way_is_given_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = scene.ask()
    link, node = scene.links[0], scene.nodes[0]
    before = link._takes
    assert link.pull(node) is not None
    link._takes = before  # as if the answer had not come
    assert seed(scene.answer()) == 0
    assert link.pull(node) is None
    assert len(scene.run.pull(sent)) == 1


def test_calls_of_a_run_whose_answers_were_lost_are_answered_the_same_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = scene.run._client._unary_unary

    def twice(**options: Any) -> Any:
        call(**options)  # its answer is lost
        return call(**options)

    monkeypatch.setattr(scene.run._client, "_unary_unary", twice)
    sent = scene.ask(devices=2)
    for number in range(2):
        scene.answer(number)
        assert scene.links[number].pull(scene.nodes[number]) is None
    assert {each.metadata.reply_to_message_id for each in scene.run.pull(sent)} == set(sent)


def test_requests_that_are_never_answered_take_no_memory(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.ask(devices=3)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600)
    monkeypatch.setattr("fieldtune.server.devices.superlink_run.time", later)
    sent = scene.ask(devices=3)
    assert scene.run._most_bytes.keys() == set(sent)


def test_a_look_for_some_replies_changes_nothing_for_others(scene: Scene) -> None:
    """As when a device joins while the others train."""
    training, joining = scene.ask(devices=2), scene.ask(devices=3)[2:]
    scene.answer(0)
    assert scene.run.pull(joining) == []
    (reply,) = scene.run.pull(training)
    assert reply.metadata.reply_to_message_id == training[0]
    assert not reply.has_error()
    scene.answer(2)
    assert scene.run.pull(training[1:]) == []
    (reply,) = scene.run.pull(joining)
    assert not reply.has_error()


def test_a_new_process_of_a_device_is_not_given_the_message_of_the_one_before(
    scene: Scene,
) -> None:
    scene.ask()
    link, node = scene.links[0], scene.nodes[0]
    assert link.pull(node) is not None
    link._process, link._takes = "another", 0
    assert link.pull(node) is None


def test_a_device_that_waits_is_told_of_a_message_and_beats_meanwhile(scene: Scene) -> None:
    link, node = scene.links[0], scene.nodes[0]
    assert link.pull(node) is None
    assert link.wait(node, 0.0) is Waited.NOTHING
    outcome = list[Waited]()
    (known,) = scene.superlink.state.get_node_info(node_ids=[node])
    beat_until = known.online_until
    waiting = threading.Thread(target=lambda: outcome.append(link.wait(node, 50.0)))
    waiting.start()
    scene.ask()
    waiting.join(40.0)
    assert outcome == [Waited.MESSAGE]
    (known,) = scene.superlink.state.get_node_info(node_ids=[node])
    assert known.online_until > beat_until


def test_a_message_that_came_before_the_device_waits_is_not_missed(scene: Scene) -> None:
    link, node = scene.links[0], scene.nodes[0]
    assert link.pull(node) is None
    scene.ask()
    scene.ask()
    for _ in range(2):
        assert link.wait(node, 50.0) is Waited.MESSAGE  # at once
        assert link.pull(node) is not None
    assert link.wait(node, 0.0) is Waited.NOTHING


def test_after_a_restart_a_device_looks_for_messages_that_came_before(scene: Scene) -> None:
    link, node = scene.links[0], scene.nodes[0]
    scene.ask()
    scene.ask()
    scene.superlink.calls._mailboxes.clear()
    for expected in (True, True, False):
        assert link.wait(node, 50.0) is Waited.MESSAGE  # there may be another
        assert (link.pull(node) is not None) is expected
    assert link.wait(node, 0.0) is Waited.NOTHING


def test_taking_a_message_is_a_heartbeat_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.ask()
    beats = list[int]()
    monkeypatch.setattr(
        scene.superlink.state, "acknowledge_node_heartbeat", lambda node, _: beats.append(node)
    )
    assert scene.links[0].pull(scene.nodes[0]) is not None
    assert beats == [scene.nodes[0]]


def test_replies_beyond_the_bytes_of_one_answer_are_fetched_one_by_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combined_calls, "_COLLECTED_BYTES", 6000)  # one reply has 4,000 and a few
    sent = scene.ask(devices=3)
    for number in range(3):
        scene.answer(number)
    assert len(scene.run.pull(sent)) == 3
    assert any(path.endswith("pull-object") for path in scene.calls[scene.run])
    assert scene.left_objects() == 0


def test_a_reply_that_comes_in_while_others_are_collected_is_not_forgotten(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.run.pull(["0" * 64])  # the next look for all is seconds away
    sent = scene.ask(devices=2)
    scene.answer(0)
    scene.superlink.calls._other_replies = True
    delivered = scene.superlink.calls._delivered

    def slowly(request: Request, wanted: Sequence[str]) -> list[bytes]:
        answer = delivered(request, wanted)
        scene.superlink.calls._has_reply(sent[1])
        return answer

    monkeypatch.setattr(scene.superlink.calls, "_delivered", slowly)
    assert len(scene.run.pull(sent)) == 1
    assert sent[1] in scene.superlink.calls._replied


def test_replies_in_flowers_calls_are_collected_at_once(scene: Scene) -> None:
    assert scene.run.pull(["0" * 64])[0].has_error()  # the next look for all is seconds away
    sent = scene.ask()
    scene.links[0]._offered = False  # an older client
    scene.answer()
    assert len(scene.run.pull(sent)) == 1
    assert TAKE not in scene.calls[scene.links[0]]


def test_where_combined_calls_are_not_offered_the_device_waits_by_itself(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene.superlink.calls, "_calls", {})
    with pytest.raises(NotOfferedError):
        scene.links[0].wait(scene.nodes[0], 50.0)
    scene.links[0].pull(scene.nodes[0])
    assert scene.calls[scene.links[0]] == [WAIT, "/v1/fleet/pull-messages"]
    with pytest.raises(FleetError, match="started by an earlier version of fieldtune"):
        scene.ask()


@pytest.mark.parametrize("parts", [(), (b"",), (b"ab", b"", b"c" * 300)])
def test_parts_survive_the_journey(parts: Sequence[bytes]) -> None:
    read = Parts()
    read.ParseFromString(Parts(*parts).SerializeToString())
    assert read.parts == list(parts)


def test_as_many_objects_travel_together_as_fit() -> None:
    objects = [("a", b"x" * 6), ("b", b"x" * 5), ("c", b"x" * 4)]
    assert [key for key, _ in that_fit(objects, 10)] == ["a", "c"]
