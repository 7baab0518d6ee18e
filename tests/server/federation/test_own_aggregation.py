"""A user's own aggregation: the documented example works, and what does not work is said."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fieldtune.profiles.common.errors import UsageError
from fieldtune.server.federation.aggregation import server_optimizer
from fieldtune.server.federation.own_aggregation import tried
from fieldtune.server.federation.server_optimizer import ServerOptimizer, Update
from fieldtune.server.results.checkpoints import pack, unpack
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.space import Configuration
from support.commandline import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path, whose modules are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def documented() -> str:
    """The example in the docs, which must stay as short as it is promised to be."""
    text = (ROOT / "docs/your-own.md").read_text()
    found = re.search(r"```python\n(# aggregating\.py.*?)```", text, re.DOTALL)
    assert found
    assert len(found[1].splitlines()) < 20
    return found[1]


def own(name: str, **settings: float) -> ServerOptimizer:
    return server_optimizer(ServerSection(aggregation=name), Configuration({}, {}, settings))


def test_the_documented_class_works_and_continues_after_an_interruption(folder: Path) -> None:
    (folder / "aggregating.py").write_text(documented())
    name, rng = "aggregating:Cautious", np.random.default_rng(0)
    tried(name, {"patience": 0.5})
    rounds = [
        [Update(rng.normal(size=4).astype(np.float32), 10, None) for _ in range(3)]
        for _ in range(4)
    ]
    first, weights = own(name, patience=0.5), np.zeros(4, np.float32)
    for updates in rounds[:2]:
        weights = first.step(weights, updates)
    second, again = own(name, patience=0.5), weights
    second.restore(unpack(pack(first.state())))
    for updates in rounds[2:]:
        weights, again = first.step(weights, updates), second.step(again, updates)
    assert weights.tobytes() == again.tobytes()
    assert own(name, patience=0.0).step(np.zeros(4, np.float32), rounds[0]) == pytest.approx(
        np.mean([each.weights for each in rounds[0]], axis=0), abs=1e-6
    )


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("class Other: pass", "module 'broken' has no 'Rule'"),
        ("def Rule(): pass", "is no class with a method aggregate"),
        ("class Rule:\n  def __init__(self, knob): pass\n  def aggregate(self, w, u): return w",
         "raised TypeError: .*'knob'"),
        ("class Rule:\n  def aggregate(self, w, u): return 1 / 0",
         "aggregate raised ZeroDivisionError"),
        ("class Rule:\n  def aggregate(self, w, u): return u[0].weights[:2]",
         r"shape \(2,\): return the new weights, of shape \(10,\)"),
        ("class Rule:\n  def aggregate(self, w, u):\n    self.seen = {1, 2}\n    return w",
         "its attribute 'seen' cannot be stored in a checkpoint"),
        ("class Rule:\n  def aggregate(self, w, u): return w * float('nan')",
         "aggregate returned weights that are not finite"),
    ],
)  # fmt: skip
def test_a_class_that_does_not_work_is_refused_with_a_sentence(
    folder: Path, source: str, sentence: str
) -> None:
    (folder / "broken.py").write_text(source)
    with pytest.raises(UsageError, match=sentence) as refused:
        tried("broken:Rule", {})
    assert str(refused.value).startswith("server.aggregation = 'broken:Rule'")


def test_a_class_that_divides_by_how_far_updates_differ_is_not_refused(folder: Path) -> None:
    (folder / "scaled.py").write_text(
        "import numpy as np\n"
        "class Rule:\n"
        "  def aggregate(self, w, u):\n"
        "    moved = [each.weights - w for each in u]\n"
        "    return w + sum(each / np.linalg.norm(each) for each in moved)\n"
    )
    tried("scaled:Rule", {})


def test_a_class_cannot_change_what_it_is_given(folder: Path) -> None:
    (folder / "greedy.py").write_text(
        "class Rule:\n"
        "  def aggregate(self, w, u):\n"
        "    u[0].weights[:] = 9\n    w[:] = 9\n    return w\n"
    )
    weights, update = np.zeros(2, np.float32), Update(np.ones(2, np.float32), 1)
    own("greedy:Rule").step(weights, [update])
    assert weights.tolist() == [0, 0]
    assert update.weights.tolist() == [1, 1]
