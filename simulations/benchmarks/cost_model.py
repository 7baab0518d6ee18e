"""How well the cost model predicts the machine that it is calibrated on.

usage: python simulations/benchmarks/cost_model.py [--models 200] [--seed 0] [--folder DIR]

Calibrates with ``fieldtune profiles measure``, then compiles random models (:mod:`random_models`;
none is among the calibration's graphs), measures an inference of the deployable variant and a call
of ``train``, each the fastest of rounds spread over several passes, and the peak memory of either
in a fork of a process that has imported what such a process needs. One thread. Beside the model
stand two fitted to the same calibration: time = a + b flops, and time = a + b bytes.
``--folder`` keeps the compiled models (about 5 s each), so that a second run is short.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from random_models import drawn

from fieldtune.profiles.common.errors import CompileError
from fieldtune.profiles.common.toml import to_toml
from fieldtune.profiles.costmodel.cost import Cost, Workload, predict
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.profiles.measure.fit_rates import fit, robust
from fieldtune.profiles.measure.microbench import Readings, fastest_us, interpreter_class, run
from fieldtune.profiles.measure.profile_host import measure
from fieldtune.profiles.measure.tflite_graphs import chain
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.compiler.service import CompileService

PASSES = 6
SECONDS, CALLS = 0.08, 25
"""Of a pass and a model, at least: a long call seldom meets a moment that is quiet throughout."""
Vector = NDArray[np.float64]


def compiled(folder: Path, seed: int, count: int) -> list[str]:
    """Names of models in the folder, compiled where they are not there yet."""
    names: list[str] = []
    service = CompileService(ArtefactCache(folder / "cache"), [str(Path(__file__).parent)])
    refused = 0
    try:
        for number in range(2 * count):
            name, spec = f"{seed}-{number}", drawn(seed, number)
            if not (folder / f"{name}.train.tflite").exists():
                try:
                    artefact = service.submit(spec).result()
                    variants = service.variants(spec, artefact.initial_weights).result()
                except CompileError as error:
                    refused += 1
                    print(f"model {name} left out: {error}", file=sys.stderr)
                    continue
                (folder / f"{name}.infer.tflite").write_bytes(variants["fp32"])
                (folder / f"{name}.json").write_text(artefact.manifest.model_dump_json())
                (folder / f"{name}.train.tflite").write_bytes(artefact.model)
            names.append(name)
            if len(names) == count:
                break
    finally:
        service.close()
    print(f"{len(names)} models, {refused} left out because the compiler refused them")
    return names


def calls_of(folder: Path, name: str) -> dict[str, Callable[[], object]]:
    """A call of the variant and one of ``train``, ready to be timed."""
    interpreter, _ = interpreter_class()
    manifest = Manifest.model_validate_json((folder / f"{name}.json").read_text())
    rng = np.random.default_rng(0)
    infer = interpreter(model_path=str(folder / f"{name}.infer.tflite"), num_threads=1)
    run_infer = infer.get_signature_runner()
    x = {k: _filled(d, rng) for k, d in run_infer.get_input_details().items()}
    train = interpreter(model_path=str(folder / f"{name}.train.tflite"), num_threads=1)
    # Variances must not be negative, and weights small enough for nothing to overflow: numbers
    # that are not finite or denormal can be slower.
    train.get_signature_runner("load")(
        **{f"w{n:03d}": rng.uniform(0.02, 0.1, spec.shape).astype(np.float32)
           for n, spec in enumerate(manifest.weights)}
    )  # fmt: skip
    run_train = train.get_signature_runner("train")
    arguments = {k: _filled(d, rng) for k, d in run_train.get_input_details().items()}
    arguments |= {k: np.full(1, 1e-6, np.float32) for k in manifest.hyperparameters}
    arguments["apply"] = np.ones(1, np.float32)
    return {"infer": lambda: run_infer(**x), "train": lambda: run_train(**arguments)}


def _filled(details: dict[str, Any], rng: np.random.Generator) -> NDArray[Any]:
    shape = tuple(details["shape"])
    if details["dtype"] == np.int32:
        return np.zeros(shape, np.int32)
    return rng.normal(size=shape).astype(np.float32)


def measured_us(folder: Path, names: list[str]) -> dict[str, Vector]:
    """Microseconds of a call of each model, the fastest of all passes."""
    best = {kind: np.full(len(names), np.inf) for kind in ("infer", "train")}
    for _ in range(PASSES):
        for place, name in enumerate(names):
            for kind, call in calls_of(folder, name).items():
                once = best[kind][place]
                seconds = SECONDS if np.isinf(once) else max(SECONDS, CALLS * once / 1e6)
                best[kind][place] = min(once, fastest_us(call, seconds))
    return best


def peaks_mib(folder: Path, names: list[str], kind: str) -> Vector:
    """Peak resident memory of a process that infers, or trains, each model."""
    worker = Path(__file__).with_name("peak_memory.py")
    # Built here: building graphs takes memory that the measured process shall not hold.
    tiny = folder / "tiny.tflite"
    tiny.write_bytes(chain("ADD", 4, 1))
    done = subprocess.run(
        [sys.executable, str(worker), kind, str(folder), str(tiny), *names],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return np.array([float(line) for line in done.stdout.split()])


def workload(manifest: Manifest) -> Workload:
    """One step and one inference of a model."""
    work = {name: Work.from_json(data) for name, data in manifest.work.items()}
    weight_bytes = 4 * sum(spec.size for spec in manifest.weights)
    return Workload(
        infer=work["infer"], step=work["train"], evaluate=work["evaluate"],
        steps_per_round=1, rounds=1, artefact_bytes=manifest.artefact_bytes,
        model_bytes=manifest.model_bytes, weight_bytes=weight_bytes,
        train_arena_bytes=manifest.train_arena_bytes, infer_arena_bytes=manifest.infer_arena_bytes,
        data_bytes=0,
    )  # fmt: skip


def calibrated(folder: Path) -> tuple[DeviceProfile, Readings]:
    """The profile of the machine, and the readings behind it."""
    kept: list[Readings] = []

    def benchmark(seconds: float, told: Any) -> Readings:
        kept.append(run(seconds, progress=told))
        return kept[-1]

    path = folder / "this-machine.toml"
    path.write_text(to_toml(measure(benchmark=benchmark).tables))
    return load_profile(path), kept[-1]


def simple(readings: Readings, feature: str) -> Callable[[Work], float]:
    """Microseconds by one feature alone, fitted to the same graphs, beside a call of Python."""
    timings = (*readings.kernels, *readings.mixes)
    x = np.array([[1.0, getattr(timing.work, feature)] for timing in timings])
    taken = np.array([timing.us for timing in timings])
    (fixed, rate), _ = robust(x, taken, taken)
    ends = fit(readings)
    per_tensor = {name: ends.kernels[name].us[0] for name in ("call.feed", "call.fetch")}

    def us(work: Work) -> float:
        tensors = sum(per_tensor[n] * work.classes[n].count for n in per_tensor)
        return float(ends.python_us + tensors + fixed + rate * getattr(work, feature))

    return us


def kendall_tau(a: Vector, b: Vector) -> float:
    """Kendall's tau-a of two rankings."""
    i, j = np.triu_indices(len(a), 1)
    return float(np.mean(np.sign((a[i] - a[j]) * (b[i] - b[j]))))


def line(what: str, found: Vector, truth: Vector, within: float, aim: str) -> None:
    """Print one row of the table."""
    ratio = found / truth
    share = np.mean(np.abs(ratio - 1) <= within)
    low, middle, high = np.quantile(ratio, [0.05, 0.5, 0.95])
    print(
        f"{what:38} {100 * share:5.1f} % within {100 * within:2.0f} %{aim:>14}   "
        f"tau {kendall_tau(found, truth):5.3f}   predicted/measured {middle:5.2f} "
        f"({low:4.2f} to {high:4.2f})"
    )


def report(
    profile: DeviceProfile, readings: Readings, loads: list[Workload], times: dict[str, Vector]
) -> list[Cost]:
    """Print the table of latencies; give the costs."""
    costs = [predict(profile, load) for load in loads]
    works = {"infer": [load.infer for load in loads], "train": [load.step for load in loads]}
    for kind, what, within in (("infer", "inference", 0.10), ("train", "training step", 0.15)):
        field = "inference_ms" if kind == "infer" else "step_ms"
        ms = np.array([getattr(cost, field).value for cost in costs])
        line(what, ms * 1e3, times[kind], within, "(aim 90 %)")
        inside = np.mean([
            getattr(cost, field).low * 1e3 <= us <= getattr(cost, field).high * 1e3
            for cost, us in zip(costs, times[kind], strict=True)
        ])  # fmt: skip
        print(f"{'':38} {100 * inside:5.1f} % inside the stated 90 % interval")
        for feature in ("flops", "moved_bytes"):
            by = simple(readings, feature)
            found = np.array([by(work) for work in works[kind]])
            line(f"  by {feature} alone", found, times[kind], within, "")
    return costs


def prediction_time(profile: DeviceProfile, loads: list[Workload]) -> None:
    """Print how long a prediction takes: the tuner asks for thousands."""
    for what, known in (
        ("this machine's", profile),
        ("a Pi 4B's", load_profile("raspberry-pi-4b")),
    ):
        taken = [fastest_us(partial(predict, known, load), 0.01) / 1e3 for load in loads]
        print(
            f"{f'a prediction from {what} profile':38} {np.median(taken):.2f} ms, "
            f"at most {max(taken):.2f} ms (aim 1 ms)"
        )


def main() -> int:
    """Calibrate, measure, compare."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--models", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--folder", type=Path, help="keeps the compiled models")
    given = options.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="fieldtune-cost-"))
    folder.mkdir(parents=True, exist_ok=True)
    names = compiled(folder, given.seed, given.models)
    began = time.perf_counter()
    profile, readings = calibrated(folder)
    print(f"calibrated in {time.perf_counter() - began:.0f} s")
    times = measured_us(folder, names)
    manifests = [Manifest.model_validate_json((folder / f"{n}.json").read_text()) for n in names]
    loads = [workload(manifest) for manifest in manifests]
    costs = report(profile, readings, loads, times)
    for kind, field in (("infer", "inference_memory_mib"), ("train", "memory_mib")):
        peaks = peaks_mib(folder, names, kind)
        found = np.array([getattr(cost, field).value for cost in costs])
        line(f"peak memory, {kind}", found, peaks, 0.10, "(aim 95 %)")
    prediction_time(profile, loads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
