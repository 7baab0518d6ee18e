"""Files of a run folder."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from fieldtune.server.costs.kept_coefficients import KeptCoefficients
from fieldtune.server.report.table import print_summary
from fieldtune.server.results.checkpoints import Checkpoint, DiskTime, pack
from fieldtune.server.results.fingerprint import Fingerprint, read_fingerprint
from fieldtune.server.results.model_files import read_card
from fieldtune.server.results.run_folder import RunFolder, read_summary
from fieldtune.server.results.warm_start import read_earlier
from support.commandline import ROOT
from support.decoders.decoder import Decoder, from_file

_DIGEST_BYTES = hashlib.sha256().digest_size


def _loaded(file: Path) -> Callable[[bytes], object]:
    """A checkpoint as it is, and with a digest that fits, which hides all other damage."""

    def decode(data: bytes) -> None:
        content = data[_DIGEST_BYTES:]
        for each in (data, hashlib.sha256(content).digest() + content):
            file.write_bytes(each)
            Checkpoint(file, DiskTime()).load()

    return decode


def _shown_results(run: Path) -> None:
    print_summary(read_summary(run), Console(file=io.StringIO()))


def results(folder: Path) -> dict[str, Decoder]:
    """All of them by name."""
    with tarfile.open(ROOT / "tests/data/run-0.1.0.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    run, opened = folder / "run", RunFolder(folder / "run")
    found = {
        name: Decoder((run / file).read_bytes(), from_file(run, file, read))
        for name, file, read in (
            ("pareto of 0.1.0", "pareto.json", lambda _: _shown_results(run)),
            ("card", "models/trial-0000/card.json", lambda _: read_card(run, 0)),
            ("weights", "models/trial-0000/weights.npy", lambda _: opened.load_weights(0)),
        )
    }
    summary = read_summary(run)
    more = summary.model_copy(update={"attempts": [*summary.attempts] * 4})
    state = {"round": 2, "weights": np.zeros(4), "left": [1, None]}
    fingerprint = Fingerprint(versions={"flwr": "1"}, sources={"model": {"m": "a"}})
    costs = KeptCoefficients(None, {}).keep("a", "b", {})
    return found | {
        "pareto": Decoder(
            summary.model_dump_json().encode(),
            from_file(run, "pareto.json", lambda _: _shown_results(run)),
        ),
        "earlier study": Decoder(
            more.model_dump_json().encode(),
            from_file(run, "pareto.json", lambda _: read_earlier(run)),
        ),
        "checkpoint": Decoder(pack({"saved": 3, "state": state}), _loaded(folder / "trial-0001")),
        "fingerprint": Decoder(
            fingerprint.model_dump_json().encode(),
            from_file(run, "fingerprint.json", lambda _: read_fingerprint(opened)),
        ),
        "costs": Decoder(
            costs.encode(),
            from_file(run, "costs.json", lambda file: KeptCoefficients(opened.read(file.name), {})),
        ),
        "run's study": Decoder(
            (run / "study.toml").read_bytes(),
            from_file(folder / "again", "study.toml", lambda file: _opened(file.parent)),
        ),
    }


def _opened(run: Path) -> None:
    with RunFolder(run):
        pass
