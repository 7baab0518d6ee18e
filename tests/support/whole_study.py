"""A small study without TensorFlow, as a program that may be killed at any moment.

``python tests/support/whole_study.py FOLDER TRIALS LOG [STORAGE]`` runs the study in FOLDER/run, or
resumes it. It appends a line to LOG for each round that is sent to the devices ("TRIAL ROUND KIND")
and for each outcome that is told ("told TRIAL"). At its end, FOLDER/end has a line for each file
that must not depend on interruptions. Everything is fieldtune's own code but the devices, which
answer with random numbers, and the conversion of trained models.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fieldtune.client.contract.messages import VariantRequest, Weights
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import ModelSpec, Variant
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.federation.fleet import Addressed
from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.session.session import open_tuner, run_session
from support.artefacts import recorded_cache
from support.slow_studies import Silent
from support.slower_devices import SlowFleet
from support.storage import migrations_read_once

STUDY = """
[study]
name = "whole"
trials = {trials}
rounds = 5
objectives = ["error", "inference_ms"]
parallel = 2
[task]
data = "digits"
model = "mlp"
variants = ["fp32"]
[fleet]
clients = 4
devices = {{ "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-5" = 0.5 }}
[space.model]
width = {{ choices = [8, 32], default = 32 }}
[space.client]
learning_rate = {{ low = 0.01, high = 1.0, log = true }}
[space.server]
clients_per_round = {{ choices = [3] }}
server_momentum = {{ low = 0.1, high = 0.9 }}
[tuner]
name = "tpe"
rungs = [2]
"""


def stored_in(storage: str | None = None) -> str:
    """The study file, with its record in another storage."""
    key = f'storage = "{storage}"\n' if storage else ""
    return STUDY.replace('name = "whole"\n', f'name = "whole"\n{key}')


class Log:
    """Lines that survive a kill."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())


class LoggedFleet(SlowFleet):
    """Logs trial, round and kind of each exchange."""

    def __init__(self, log: Log) -> None:
        super().__init__(float("inf"), newest_first=False)
        self._log = log

    def send(self, requests: Sequence[Addressed]) -> None:
        request = requests[0].request
        if not isinstance(request, VariantRequest):
            self._log.write(f"{request.trial} {request.round} {type(request).__name__}")
        super().send(requests)


class LoggedOutcomes(Silent):
    """Logs each outcome that was told."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def trial_ended(self, outcome: Outcome, trials: Sequence[Outcome] = ()) -> None:
        self._log.write(f"told {outcome.proposal.number}")


class PretendedConversion(CompileService):
    """Converts weights into bytes that depend on nothing else."""

    def variants(
        self,
        spec: ModelSpec,
        flat_weights: Weights,
        names: Sequence[Variant] = ("fp32",),
        calibration: Weights | None = None,
    ) -> Future[dict[Variant, bytes]]:
        made: Future[dict[Variant, bytes]] = Future()
        made.set_result(dict.fromkeys(names, hashlib.sha256(flat_weights.tobytes()).digest()))
        return made


def run(
    folder: Path,
    trials: int,
    log_file: Path,
    text: str = STUDY,
    fleet: type[LoggedFleet] = LoggedFleet,
) -> list[str]:
    """Run or resume the study; the sentences that are printed."""
    cache = folder / "cache"
    if not cache.exists():
        recorded_cache(folder / "cache.new")
        (folder / "cache.new").rename(cache)
    notes: list[str] = []
    with (
        migrations_read_once(),
        PretendedConversion(ArtefactCache(cache)) as service,
        RunFolder(folder / "run", text.format(trials=trials)) as opened,
    ):
        tuner = open_tuner(opened)
        opened.open_checkpoints({each.proposal.number for each in tuner.history()})
        log = Log(log_file)
        run_session(
            opened, tuner, fleet(log), service, LoggedOutcomes(log), CpuTime(), notes.append
        )
    files = ("trials.csv", "pareto.json", "costs.json", "models/*/*", "checkpoints")
    found = sorted(file for pattern in files for file in (folder / "run").glob(pattern))
    lines = (f"{file.relative_to(folder)} {_digest(file)}\n" for file in found)
    (folder / "end").write_text("".join(lines))
    return notes


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), stored_in(*sys.argv[4:]))
