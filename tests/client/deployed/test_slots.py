"""``current.tflite`` is the old model or the new one, whatever happens while it is switched."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from fieldtune.client.deployed.package import DamagedError, Package, packed, unpacked
from fieldtune.client.deployed.slots import CURRENT, PREVIOUS, Slots
from fieldtune.client.training.runtime import _installed
from support.deployed import GOOD, WORSE, old_model, order
from support.killed import survives_kill

OLD = Package(order(1, WORSE), old_model(WORSE))
NEW = Package(order(2, labels=("zero", "one")), old_model(GOOD))


def test_a_package_is_a_model_to_the_runtime_and_an_archive_to_unzip() -> None:
    content = packed(NEW)
    assert unpacked(content) == NEW
    assert packed(unpacked(content)) == content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("labels.txt") == b"zero\none\n"
    interpreter = _installed()[0](model_content=content)
    interpreter.allocate_tensors()
    assert list(interpreter.get_input_details()[0]["shape"]) == [1, 8, 8, 1]


@pytest.mark.parametrize("at", [0, 1000, -200, -1])
def test_a_damaged_package_is_noticed(at: int) -> None:
    content = bytearray(packed(NEW))
    content[at] ^= 0x55
    with suppress(DamagedError):
        assert unpacked(bytes(content)) == NEW, "a bit that means nothing, such as of a date"
    with pytest.raises(DamagedError):
        unpacked(bytes(content[: at or 1]))


@pytest.mark.parametrize("survived", range(16))
def test_killed_at_any_step_of_a_switch_the_device_has_a_whole_model(
    tmp_path: Path, survived: int
) -> None:
    slots = Slots(tmp_path)
    slots.switch(OLD)
    done = survives_kill(survived, lambda: slots.switch(NEW))
    after = Slots(tmp_path)
    found = after.current()
    assert found in (OLD, NEW)
    assert not done or found == NEW
    after.recover()
    assert after.current() == found
    assert {each.name for each in tmp_path.iterdir()} <= {CURRENT, PREVIOUS}
    after.switch(NEW)
    assert after.current() == NEW


def test_a_current_model_that_a_bad_card_has_damaged_is_replaced_by_the_previous(
    tmp_path: Path,
) -> None:
    slots = Slots(tmp_path)
    slots.switch(OLD)
    slots.switch(NEW)
    content = slots.file.read_bytes()
    slots.file.write_bytes(content[:100] + b"????" + content[104:])
    assert slots.current() is None
    slots.recover()
    assert slots.current() == OLD


def test_the_newest_order_counts_even_if_its_note_is_lost(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    assert slots.newest_order() == 0
    slots.switch(NEW)
    assert slots.newest_order() == 2
    slots.accept(9)
    assert Slots(tmp_path).newest_order() == 9
    (tmp_path / "order").write_text("what?")
    assert slots.newest_order() == 2
