"""Studies on a fleet whose devices are slower than their profiles say, killed or not."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fieldtune.profiles.common.errors import CompileError
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.costs.calibration import corrections
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.rescore import rescore
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import to_json
from fieldtune.server.results.summarize import summarise
from fieldtune.server.results.trials_csv import trials_csv
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.session.loop import TuningLoop
from fieldtune.server.session.session import known_costs, open_tuner
from fieldtune.server.session.setup import make_artefacts
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration
from support.slower_devices import MEMBERS, SLOWER, ZERO, PulledPlugError, SlowFleet

SMALL, LARGE = 8, 1024
PARALLEL = 3
STUDY = """
[study]
name = "slow"
BUDGET
rounds = ROUNDS
STUDY_KEYS
objectives = ["error", "inference_ms"]
parallel = 3
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 4
devices = { "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-5" = 0.5 }
[limits."raspberry-pi-zero-2w"]
inference_ms = LIMIT
[space.model]
width = { choices = [8, 1024], default = 1024 }
[space.client]
learning_rate = { low = 0.01, high = 1.0, log = true }
[space.server]
clients_per_round = { choices = [3] }
[tuner]
name = "TUNER"
TUNER_KEYS
"""


def study_text(
    limit: float,
    tuner_name: str,
    *,
    budget: str = "trials = 10",
    rounds: int = 2,
    study_keys: str = "",
    tuner_keys: str = "",
) -> str:
    text = STUDY.replace("LIMIT", f"{limit}").replace("ROUNDS", str(rounds))
    text = text.replace("BUDGET", budget)
    text = text.replace("STUDY_KEYS", study_keys).replace("TUNER_KEYS", tuner_keys)
    return text.replace("TUNER", tuner_name)


class Refusing:
    """Artefacts, but for models that are refused."""

    def __init__(self, artefacts: Artefacts, width: int | None) -> None:
        self._artefacts, self._width = artefacts, width

    def of(self, configuration: Configuration) -> Future[Artefact]:
        if configuration.model["width"] != self._width:
            return self._artefacts.of(configuration)
        refused: Future[Artefact] = Future()
        refused.set_exception(CompileError("too wide"))
        return refused


class Silent:
    def round_started(self, trial: int, number: int) -> None: ...
    def trial_ended(self, outcome: Outcome, trials: Sequence[Outcome] = ()) -> None: ...


def nothing_is_refused(sentence: str) -> None:
    """These devices are slow, and honest."""
    raise AssertionError(sentence)


Run = Callable[..., tuple[list[Outcome], str]]


@contextmanager
def slow_studies(recorded_artefacts: Path) -> Iterator[Run]:
    """Runs, or goes on with, the study in a folder: its outcomes, and as the files say them."""
    with CompileService(ArtefactCache(recorded_artefacts)) as service:
        study = parse_study(study_text(1.0, "tpe"), "s")
        artefacts = make_artefacts(study, MEMBERS, service)

        def inference_ms(width: int) -> float:
            configuration = Configuration(model={"width": width}, client={}, server={})
            manifest = artefacts.of(configuration).result().manifest
            return call_ms(load_profile(ZERO), Work.from_json(manifest.work["infer"])).value

        # The large one fits as predicted; as measured only the small one does.
        limit = SLOWER[ZERO] ** 0.5 * inference_ms(LARGE)
        assert SLOWER[ZERO] * inference_ms(SMALL) < limit

        def run(
            path: Path,
            *,
            answers: float = float("inf"),
            newest_first: bool = False,
            tuner_name: str = "tpe",
            refused: int | None = None,
            trials: int | None = None,
            wider: float = 1.0,
            **keys: Any,
        ) -> tuple[list[Outcome], str]:
            text = study_text(limit * wider, tuner_name, **keys)
            with RunFolder(path, text, trials=trials) as folder:
                tuner = open_tuner(folder)
                profiles = {name: load_profile(name) for name in SLOWER}
                costs = CostModel(folder.study, MEMBERS, profiles)
                artefacts: Any = Refusing(make_artefacts(folder.study, MEMBERS, service), refused)
                TuningLoop(
                    folder,
                    tuner,
                    SlowFleet(answers, newest_first=newest_first),
                    MEMBERS,
                    costs,
                    artefacts,
                    known_costs(folder.study, costs, artefacts, tuner.history()),
                    Silent(),
                    CpuTime(),
                    Bounds(MEMBERS, nothing_is_refused),
                    deque(),
                ).run()
                told = tuner.history()
                calibration = corrections(told)
                told = rescore(told, costs, calibration)
                predicted = tuner.predict(told)
                summary = summarise(folder.study, told, calibration, predicted)
                files = to_json(summary) + trials_csv(folder.study, told)
                return told, files + "".join(map(_digest, sorted(path.glob("models/*/*"))))

        yield run


def _digest(file: Path) -> str:
    return f"{file.parent.name}/{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n"


def width(outcome: Outcome) -> object:
    return outcome.proposal.configuration.model["width"]


def killed_again_and_again(run: Run, path: Path, *, longer: int = 15, **keys: Any) -> str:
    """What the files say in the end; each session is so many answers longer than the last."""
    kills = 0
    while True:
        try:
            _, files = run(path, answers=23 + longer * kills, **keys)
        except PulledPlugError:
            kills += 1
        else:
            break
    assert kills > 1
    return files
