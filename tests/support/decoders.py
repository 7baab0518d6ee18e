"""Every decoder of bytes from outside, with inputs that it accepts, and mutations of those.

A decoder may raise what it documents, a :class:`FieldtuneError`, and nothing else: anything else
would be shown to the user as a bug in fieldtune, or end a process.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from PIL import Image

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    TrainReport,
    TrainRequest,
)
from fieldtune.client.data.files import load_device_data
from fieldtune.client.node.client_app import make_client_app
from fieldtune.client.node.fleet_api import identify_process, message_from_bytes, message_to_bytes
from fieldtune.profiles.common.errors import DataError, FieldtuneError
from fieldtune.profiles.costmodel.tflite_reader import read_work
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.cache import artefact_from_frame, artefact_to_frame
from fieldtune.server.federation.fleet import Addressed
from fieldtune.server.federation.grid_fleet import described, reported, request_message
from fieldtune.server.processes.child import unpack_frame
from fieldtune.server.results.run_folder import read_summary
from fieldtune.server.results.variants import read_card
from fieldtune.server.study.load import load_study
from fieldtune.simulations.datasets import load_dataset
from support.artefacts import MLP, read
from support.commandline import ROOT
from support.identities import key_pair, server

REQUEST = TrainRequest(
    trial=1, round=2, artefact="0" * 64, weights=np.zeros(8, np.float32), seed=3, batch_size=4,
    local_epochs=1, hyperparameter_names=("learning_rate",), hyperparameter_values=(0.1,),
)  # fmt: skip


@dataclass(frozen=True)
class Decoder:
    """One of them.

    Attributes:
        seed: bytes that it accepts.
        decode: raises a FieldtuneError at most.
    """

    seed: bytes
    decode: Callable[[bytes], object]

    def survives(self, data: bytes) -> None:
        """Decode, and pass over what it documents."""
        try:
            self.decode(data)
        except FieldtuneError as refused:
            if "\n" in str(refused):
                raise AssertionError(f"not one line: {refused}") from refused


def from_file(
    folder: Path,
    name: str,
    load: Callable[[Path], object],
    beside: Mapping[str, bytes] | None = None,
) -> Callable[[bytes], object]:
    """A decoder of a file: ``load`` is given the file's path."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    for other, content in (beside or {}).items():
        (folder / other).write_bytes(content)

    def decode(data: bytes) -> object:
        file.write_bytes(data)
        return load(file)

    return decode


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.arange(24, dtype=np.float32).reshape(8, 3), y=np.arange(8) % 2)
    return out.getvalue()


def image(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(out, kind)
    return out.getvalue()


def reply(content: RecordDict) -> bytes:
    request = request_message(Addressed(0, REQUEST, b""), 7, 60.0, False)
    return message_to_bytes(Message(content, reply_to=request))


def report_bytes() -> bytes:
    report = TrainReport(
        trial=1, round=2, weights=REQUEST.weights, samples=5, steps=2, loss=0.5, wall_s=1.0
    )
    weights = ArrayRecord({"all": Array(REQUEST.weights)})
    return reply(RecordDict({"message": ConfigRecord(report.scalars()), "weights": weights}))


def counts_bytes() -> bytes:
    report = EvaluateReport(
        trial=1, round=2, samples=5, hits=(1, 2), predicted=(2, 3), actual=(3, 2)
    )
    return reply(RecordDict({"message": ConfigRecord(report.scalars())}))


def description_bytes() -> bytes:
    description = Description(
        client=1, name="pi", profile="raspberry-pi-5", train_samples=5, test_samples=5,
        input_shape=(3,), classes=2, runtime="x",
    )  # fmt: skip
    return reply(RecordDict({"message": ConfigRecord(description.scalars())}))


def on_message(then: Callable[[Message], object]) -> Callable[[bytes], object]:
    """Decode as Flower does; bytes that are no message of Flower's never come to ``then``."""

    def decode(data: bytes) -> object:
        try:
            message = message_from_bytes(data)
        except Exception:  # Flower's decoder raises several types; only our own is under test
            return None
        return then(message)

    return decode


def answered() -> Callable[[Message], object]:
    def no_data(_: object) -> object:
        raise DataError("none")

    app, context = make_client_app(no_data), Context(1, 7, {}, RecordDict(), {})  # type: ignore[arg-type]

    def answer(message: Message) -> object:
        try:
            return app(message, context)
        except Exception:  # as a node does, which replies with an error
            return None

    return answer


def frame(data: bytes) -> object:
    try:
        return artefact_from_frame(*unpack_frame(data))
    except (ValueError, KeyError, TypeError):  # what the cache passes over
        return None


def decoders(folder: Path) -> dict[str, Decoder]:
    """All of them by name; files are written below ``folder``."""
    identify_process(1, 1)
    with tarfile.open(ROOT / "tests/data/run-0.1.0.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    run = folder / "run"
    catalogue = Path(load_profile.__code__.co_filename).parent / "catalogue"
    bundle = folder / "seed.bundle.toml"
    private, public = key_pair()
    Bundle(
        name="pi", address="localhost:9092", ca_certificate=server().ca_certificate,
        private_key=private, public_key=public,
    ).write(bundle)  # fmt: skip
    csv = b"a,b,label\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n"
    data = {
        "npz": ("a.npz", npz(), None),
        "csv": ("a.csv", csv, None),
        "data.toml": ("data.toml", b'classes = 2\nlabel_column = "label"\n', {"a.csv": csv}),
        **{
            kind: (f"0/a.{kind}", image(kind), {f"0/b.{kind}": image(kind)})
            for kind in ("png", "bmp", "ppm", "jpeg")
        },
    }
    found = {
        f"data: {kind}": Decoder(
            seed,
            from_file(
                folder / kind, name,
                lambda file, at=folder / kind: load_device_data(str(at)), beside,  # type: ignore[misc]
            ),
        )
        for kind, (name, seed, beside) in data.items()
    }  # fmt: skip
    simulated = folder / "simulated"
    trained = read(MLP)
    return found | {
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
        "bundle": Decoder(bundle.read_bytes(), from_file(folder, "pi.bundle.toml", Bundle.read)),
        "pareto": Decoder(
            (run / "pareto.json").read_bytes(),
            from_file(run, "pareto.json", lambda _: read_summary(run)),
        ),
        "card": Decoder(
            (run / "models/trial-0000/card.json").read_bytes(),
            from_file(run, "models/trial-0000/card.json", lambda _: read_card(run, 0)),
        ),
        "training reply": Decoder(report_bytes(), on_message(lambda m: reported(m, REQUEST))),
        "evaluation reply": Decoder(counts_bytes(), on_message(lambda m: reported(m, REQUEST))),
        "description": Decoder(description_bytes(), on_message(described)),
        "request": Decoder(
            message_to_bytes(request_message(Addressed(0, REQUEST, b""), 7, 60.0, False)),
            on_message(answered()),
        ),
        "artefact": Decoder(artefact_to_frame(trained), frame),
        "tflite": Decoder(trained.model, read_work),
    }


_TOKENS = (b"[", b"{", b'"', b"inf", b"nan", b"-1", b"9" * 30, b"\xff", b"\x00", b"[" * 3000)


def mutated(seed: bytes, rng: np.random.Generator) -> bytes:
    """One to eight changes: bytes replaced, removed, repeated, or taken from elsewhere in it."""
    data = bytearray(seed)
    for _ in range(rng.integers(1, 9)):
        at, size = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 17))
        match rng.integers(0, 6):
            case 0:
                data[at : at + 1] = bytes([rng.integers(0, 256)])
            case 1:
                data[at : at + size] = rng.bytes(size)
            case 2:
                del data[at : at + size]
            case 3:
                start = int(rng.integers(0, len(data) + 1))
                data[at:at] = data[start : start + size]
            case 4:
                data[at:at] = _TOKENS[rng.integers(0, len(_TOKENS))]
            case _:
                del data[at : None if rng.random() < 0.2 else at + 1]
    return bytes(data)
