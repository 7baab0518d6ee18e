"""What all tests share: their kinds, one artefact cache, and the command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fieldtune.server.compiler import service
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.processes.child import Child
from support.artefacts import MLP, read, recorded_cache
from support.commandline import ROOT, Command, in_own_process, in_this_process
from support.compiling import NoChild, SharedChild, end_shared_process
from support.storage import migrations_read_once, no_wait_for_the_disk, wait_for_the_disk

# What asserts for several test files, and is none itself.
pytest.register_assert_rewrite("support.fleet_contract", "support.recorded")

# CI checks the change at hand, with the same examples each time; a developer's run looks further.
# Neither fails because the machine is busy.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("developer", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")

# Tests print to no terminal, whatever these say of the one that they are started from.
for variable in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "COLUMNS", "LINES"):
    os.environ.pop(variable, None)

# Started with nohup or in the background, tests ignore signals that their programs must not.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

KINDS = ("unit", "integration", "system")


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test without a mark is a unit test."""
    if not any(item.get_closest_marker(kind) for kind in KINDS):
        item.add_marker("unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """System tests, which take longest, come first and unit tests last."""
    items.sort(key=lambda item: -max(n for n, k in enumerate(KINDS) if item.get_closest_marker(k)))


@pytest.fixture(autouse=True)
def no_tensorflow(request: pytest.FixtureRequest) -> Iterator[None]:
    """A unit test imports no TensorFlow."""
    before = "tensorflow" in sys.modules  # an integration test may have come before it
    yield
    if request.node.get_closest_marker("unit"):
        assert before or "tensorflow" not in sys.modules, "a unit test has imported TensorFlow"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A unit test starts no compile process; others share one unless they ask for their own."""
    chosen: type = SharedChild
    if item.get_closest_marker("unit"):
        chosen = NoChild
    elif own_compile_process.__name__ in getattr(item, "fixturenames", ()):
        chosen = Child
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "Child", chosen)
        return (yield)  # type: ignore[return-value]


@pytest.fixture
def own_compile_process() -> None:
    """The compile services of a test have real processes."""


def pytest_sessionfinish() -> None:
    """The compile process that tests have shared ends with them."""
    end_shared_process()


@pytest.fixture(scope="session", autouse=True)
def artefact_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this run's own, so that tests compile what they use and only once.

    Where pytest-xdist runs several processes, their folders lie beside each other, and this one.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    os.environ["FIELDTUNE_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def quick_storage() -> Iterator[None]:
    """Studies in this process open and commit quickly."""
    with migrations_read_once(), no_wait_for_the_disk():
        yield


@pytest.fixture
def durable_storage() -> Iterator[None]:
    """A study's commits wait for the disk, as a user's do."""
    with wait_for_the_disk():
        yield


@pytest.fixture(scope="session")
def recorded_artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an artefact cache that holds what is recorded."""
    return recorded_cache(tmp_path_factory.mktemp("recorded")).folder


@pytest.fixture(scope="session")
def mlp_artefact() -> Artefact:
    """The built-in MLP for 8x8 digits: 16 hidden units, trained by SGD with momentum."""
    return read(MLP)


@pytest.fixture(scope="session")
def fieldtune() -> Command:
    """Run ``fieldtune`` with these arguments, in this process; never raises."""
    return in_this_process


@pytest.fixture(scope="session")
def fieldtune_process() -> Command:
    """Run ``fieldtune`` with these arguments in a process of its own; never raises."""
    return in_own_process


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits study in small: 8 trials of 5 rounds, and half the architectures."""
    text = (ROOT / "simulations/studies/digits.toml").read_text()
    for old, new in (
        ("trials = 50", "trials = 8"), ("rounds = 20", "rounds = 5"),
        ("choices = [8, 16, 32, 64]", "choices = [8, 32]"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    file = tmp_path_factory.mktemp("study") / "digits.toml"
    file.write_text(text)
    return file
