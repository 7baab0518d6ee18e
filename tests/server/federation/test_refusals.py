"""A device that is refused again and again sits out until it is let in."""

from __future__ import annotations

from fieldtune.server.federation.refusals import InMemoryRefusals, Refusals, Refused


def refuse(refusals: Refusals, message: str = "train", client: int = 7) -> None:
    refusals.refuse(client, 3, 1, message, "steps", "it reports steps = 9")


def test_a_device_sits_out_after_three_refusals_in_a_row_and_is_named_once() -> None:
    notes: list[str] = []
    store = InMemoryRefusals()
    refusals = Refusals({7: "attic"}, notes.append, store)
    refuse(refusals)
    refuse(refusals)
    refusals.accept(7, "train")
    refuse(refusals)
    refusals.accept(7, "evaluate")  # of another kind of message
    refuse(refusals)
    assert not refusals.sits_out(7)
    refuse(refusals)
    assert refusals.sits_out(7)
    assert not refusals.sits_out(8)
    assert [note.split(":")[0] for note in notes] == [
        "attic, trial 3 round 1",
        "attic was refused 3 times in a row",
    ]
    assert refusals.in_trial(3) == {"attic": {"steps": 5}}
    assert refusals.in_trial(4) == {}
    refusals.restore(4, {"attic": {"steps": 2}})  # as counted before a trial was interrupted
    refuse(refusals)
    assert refusals.in_trial(4) == {"attic": {"steps": 2}}
    assert store.refused()["attic"].count == 6


def test_it_sits_out_in_the_next_study_too_and_is_let_in_again_while_one_runs() -> None:
    store = InMemoryRefusals()
    first = Refusals({7: "attic"}, print, store)
    for _ in range(3):
        refuse(first)
    later = Refusals({7: "attic"}, print, store)
    assert later.sits_out(7)
    store.keep_refused("attic", Refused(3))
    assert not later.sits_out(7)
    refuse(later)
    assert not later.sits_out(7)


def test_simulated_clients_never_sit_out() -> None:
    notes: list[str] = []
    refusals = Refusals({}, notes.append)
    for _ in range(9):
        refuse(refusals)
    assert not refusals.sits_out(7)
    assert refusals.in_trial(3) == {"client 7": {"steps": 9}}
    assert [note.split(":")[0] for note in notes] == ["client 7, trial 3 round 1"]
