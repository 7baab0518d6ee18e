"""``package.module:name``: the object, or a sentence that says what is wrong with whose module."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

from fieldtune.profiles.common.errors import DataError
from fieldtune.profiles.common.load_object import load_object, searching

_NUMBER = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module that no other test has imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / f"own_module_{next(_NUMBER)}.py"


def load(name: str, *, quotes: bool = True) -> object:
    return load_object(name, setting="task.data", error=DataError, quotes=quotes)


def test_an_object_is_found_also_inside_a_class(module: Path) -> None:
    module.write_text("class Data:\n    def load(): return 7\n")
    assert load(f"{module.stem}:Data.load")() == 7
    assert load("os.path:join") is __import__("os").path.join


@pytest.mark.parametrize(
    ("text", "name", "sentence"),
    [
        ("def laod(): pass", "load", "module 'MODULE' has no 'load' (did you mean 'laod'?); it has "
                                     "laod"),
        ("x = 1\ndef load(:\n", "load", "syntax error in FILE, line 2: invalid syntax"),
        ("import no_such_package", "load", "module 'MODULE' imports 'no_such_package', which is "
                                           "not installed"),
        ("1 / 0", "load", "importing it raised ZeroDivisionError: division by zero"),
        ("raise AttributeError('a')", "load", "importing it raised AttributeError: a"),
        ("raise SystemExit('end')", "load", "importing it raised SystemExit: end"),
        ("", "", "give it as 'package.module:name'"),
        ("", "two words", "give it as 'package.module:name'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_module_is_one_sentence(
    module: Path, text: str, name: str, sentence: str
) -> None:
    module.write_text(text)
    said = sentence.replace("MODULE", module.stem).replace("FILE", str(module))
    with pytest.raises(DataError) as refused:
        load(f"{module.stem}:{name}")
    assert str(refused.value) == f"task.data = '{module.stem}:{name}' cannot be imported: {said}"


@pytest.mark.parametrize(
    ("name", "missing"), [("nowhere:load", "nowhere"), ("nowhere.at.all:load", "nowhere"),
                          ("os.nowhere:load", "os.nowhere")],
)  # fmt: skip
def test_a_module_that_is_not_there_is_named_with_the_remedy(name: str, missing: str) -> None:
    with pytest.raises(DataError, match=f"there is no module '{missing}': put it beside"):
        load(name)


@pytest.mark.parametrize("text", ["raise KeyError('sample 4711')", "x = 'sample 4711\n"])
def test_a_sentence_quotes_nothing_where_it_may_hold_a_sample(module: Path, text: str) -> None:
    module.write_text(text)
    with pytest.raises(DataError) as refused:
        load(f"{module.stem}:load", quotes=False)
    assert "4711" not in str(refused.value)
    assert module.stem in str(refused.value)


def test_folders_are_searched_first_and_no_longer_than_needed(module: Path) -> None:
    folder, before = module.parent / "beside", list(sys.path)
    folder.mkdir()
    module.write_text("where = 'behind'")
    (folder / module.name).write_text("import sys\nsys.path.append('kept')\nwhere = 'beside'")
    with searching([str(folder), "no/such/folder"]):
        assert load(f"{module.stem}:where") == "beside"
    assert sys.path == [*before, "kept"]
