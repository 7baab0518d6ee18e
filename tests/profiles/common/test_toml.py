"""What is written as TOML is read back as it was."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.profiles.common.toml import from_toml, to_toml

# The end of a line is the same everywhere: \r\n would become \n.
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))
_VALUES = st.one_of(_TEXTS, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False),
                    st.booleans(), st.lists(st.integers()))  # fmt: skip


@given(st.dictionaries(_TEXTS, _VALUES | st.dictionaries(_TEXTS, _VALUES)))
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(values, comment="of 'x'")) == values


def test_a_text_of_several_lines_stays_readable() -> None:
    assert to_toml({"key": "a\nb\n"}, comment="for x") == '# for x\nkey = """\na\nb\n"""\n'


@pytest.mark.parametrize("text", ["a" + ".a" * 3000 + " = 1", "[a" + " . 'b'" * 3000 + "]"])
def test_keys_of_very_many_parts_are_refused(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError, match="too deeply"):
        from_toml(text)


def test_many_numbers_are_no_deep_key() -> None:
    assert from_toml(f"a = {[0.5] * 3000}") == {"a": [0.5] * 3000}
