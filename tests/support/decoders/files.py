"""Files that a user writes: samples, studies, profiles, traces, names of devices."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from fieldtune.client.data.files import load_device_data
from fieldtune.client.deployed.samples import samples_of
from fieldtune.profiles.costmodel.predict_file import predict_files
from fieldtune.profiles.costmodel.tflite_reader import read_work
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.measure.latency_table import read_table
from fieldtune.profiles.tables import print_predictions
from fieldtune.server.deployment.device_files import names_in
from fieldtune.server.federation.traces import read_traces
from fieldtune.server.study.load import load_study
from fieldtune.simulations.datasets import load_dataset
from support.artefacts import MLP, read
from support.commandline import ROOT
from support.decoders.decoder import Decoder, from_file

_CSV = b"a,b,label\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n"
_FEDSCALE = b"""{"7": {"active": [10.0, 500.0], "inactive": [90.0, 20.0], "finish_time": 900.0},
 "8": {"active": [1], "inactive": [2], "finish_time": 3}}"""
_LATENCIES = b"model,ms,threads,runtime,source\nmlp,1.5,4,xnnpack,a page\nmlp.tflite,2,1,plain,\n"


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.arange(24, dtype=np.float32).reshape(8, 3), y=np.arange(8) % 2)
    return out.getvalue()


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.arange(24, dtype=np.float32).reshape(8, 3))
    return out.getvalue()


def image(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(out, kind)
    return out.getvalue()


def _device_data(folder: Path) -> dict[str, Decoder]:
    kinds = {
        "npz": ("a.npz", npz(), None),
        "csv": ("a.csv", _CSV, None),
        "data.toml": ("data.toml", b'classes = 2\nlabel_column = "label"\n', {"a.csv": _CSV}),
        **{
            kind: (f"0/a.{kind}", image(kind), {f"0/b.{kind}": image(kind)})
            for kind in ("png", "bmp", "ppm", "jpeg")
        },
    }
    return {
        f"data: {kind}": Decoder(
            seed,
            from_file(
                folder / kind, name,
                lambda file, at=folder / kind: load_device_data(str(at)), beside,  # type: ignore[misc]
            ),
        )
        for kind, (name, seed, beside) in kinds.items()
    }  # fmt: skip


def _samples(folder: Path) -> dict[str, Decoder]:
    """Of ``fieldtune client predict``."""
    kinds = {"sample.csv": b"a,b,c\n1,2,3\n4,5,6\n", "sample.npy": npy(), "sample.npz": npz()}
    return {
        name: Decoder(seed, from_file(folder, name, lambda file: list(samples_of(file, (3,)))))
        for name, seed in kinds.items()
    }


def _predicted(file: Path) -> None:
    """As ``fieldtune predict`` does."""
    profiles = {"raspberry-pi-4b": load_profile("raspberry-pi-4b")}
    found = list(predict_files([str(file)], profiles, threads=1, runtime="xnnpack"))
    json.dumps([each.to_json() for each in found], allow_nan=False)
    print_predictions(found, Console(file=io.StringIO()))


def files(folder: Path) -> dict[str, Decoder]:
    """All of them by name."""
    catalogue = Path(load_profile.__code__.co_filename).parent / "catalogue"
    simulated, models = folder / "simulated", folder / "models"
    model = read(MLP).model
    models.mkdir()
    (models / "mlp.tflite").write_bytes(model)
    traces = {
        "availability.csv": b"client,start_s,end_s\na,0,50\na,60,70\nb,10,90\n",
        "availability.json": _FEDSCALE,
    }
    return {
        **_device_data(folder),
        **_samples(folder),
        "simulated data": Decoder(
            npz(), from_file(simulated, "a.npz", lambda file: load_dataset(str(simulated)))
        ),
        "study": Decoder(
            (ROOT / "simulations/studies/digits.toml").read_bytes(),
            from_file(folder, "study.toml", load_study),
        ),
        "profile": Decoder(
            (catalogue / "raspberry-pi-5.toml").read_bytes(),
            from_file(folder, "profile.toml", load_profile),
        ),
        **{
            name: Decoder(seed, from_file(folder, name, read_traces.__wrapped__))
            for name, seed in traces.items()
        },
        "names to enroll": Decoder(
            b"# kitchen\npi-0\npi_1\n\nPi2\n", from_file(folder, "names.txt", names_in)
        ),
        "latencies": Decoder(
            _LATENCIES, from_file(folder, "ms.csv", lambda file: read_table(file, models))
        ),
        "tflite": Decoder(model, read_work),
        "tflite to predict": Decoder(model, from_file(folder, "a.tflite", _predicted)),
    }
