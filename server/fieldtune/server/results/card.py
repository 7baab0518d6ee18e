"""``card.json`` and ``card.md``: what a trial's files are, for programs and for people.

``card.md`` follows the conventions of Hugging Face's model cards: facts in a YAML header
(``model-index``), then sections in Markdown. The header's values are JSON, which is YAML.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.shares import wilson
from fieldtune.server.results.schema import Point, Summary, personal_steps
from fieldtune.server.results.stored_files import CardData, VariantFile
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.objectives import MEASURES

_RUN = """\
```python
import numpy as np
from ai_edge_litert.interpreter import Interpreter  # or tflite_runtime.interpreter

interpreter = Interpreter("{file}")
interpreter.allocate_tensors()
given, = interpreter.get_input_details()
result, = interpreter.get_output_details()
sample = np.zeros(given["shape"], given["dtype"])  # one sample, prepared as for training
interpreter.set_tensor(given["index"], sample)
interpreter.invoke()
print(interpreter.get_tensor(result["index"]))  # {output}
```"""


OWN_DATA = "the devices' own data"
"""What a model is trained on in a real fleet, whatever ``task.data`` names for the simulator."""


def card_data(study: StudyConfig, members: Sequence[Description]) -> CardData:
    """What a study's models are trained on.

    Args:
        study: the study.
        members: the fleet's clients, which have names if they are real devices.
    """
    first, real = members[0], any(member.name for member in members)
    return CardData(
        source=OWN_DATA if real or not study.task.data else study.task.data,
        devices=len(members),
        train_samples=sum(member.train_samples for member in members),
        test_samples=sum(member.test_samples for member in members),
        input_shape=first.input_shape,
        classes=0 if study.task.reconstructs else first.classes,
        labels=next((member.labels for member in members if member.labels), ()),
        offset=first.offset or 0.0,
        scale=first.scale or 1.0,
    )


def card_json(
    study: StudyConfig, point: Point, variants: Mapping[str, VariantFile], data: CardData
) -> str:
    """The text of ``card.json``."""
    task = study.task.model_dump(mode="json")
    if data.source == OWN_DATA:
        task |= {"data": None, "partition": None}
    card = {
        "schema_version": 1,
        "study": study.study.name,
        "seed": study.study.seed,
        "rounds": study.study.rounds,
        "trial": point.trial,
        "runs": point.runs,
        "task": task,
        "data": data.model_dump(mode="json"),
        "configuration": point.configuration,
        "objectives": point.model_dump(mode="json")["objectives"],
        "measures": point.measures,
        "test_samples": point.test_samples,
        "limits": study.limits.model_dump(mode="json", exclude_none=True),
        "variants": {name: file.model_dump(mode="json") for name, file in variants.items()},
        "devices": {name: device.model_dump(mode="json") for name, device in point.devices.items()},
    }
    return json.dumps(card, indent=1) + "\n"


def card_md(study: StudyConfig, summary: Summary, point: Point, data: CardData) -> str:
    """The text of ``card.md``.

    Args:
        study: as it was run.
        summary: its results.
        point: one of its deployable points, with its variants.
        data: what it was trained on.
    """
    sections = _sections(study, summary, point, data)
    return "\n\n".join([_header(study, point, data), *sections]) + "\n"


def _metric(study: StudyConfig, measures: Mapping[str, float]) -> tuple[str, float]:
    """Name and value of what the model is judged by: the metric, else the loss."""
    name = study.task.metric.rpartition(":")[2]
    if study.task.reconstructs and "metric" not in measures:
        return "loss", measures["loss"]
    return name, measures.get("metric", 1 - measures["error"] if "error" in measures else 0.0)


def _header(study: StudyConfig, point: Point, data: CardData) -> str:
    results = [
        {
            "task": {"type": "reconstruction" if study.task.reconstructs else "classification"},
            "dataset": {"name": data.source, "type": data.source},
            "metrics": [{"type": name, "value": value, "name": f"{name} of {variant}.tflite"}],
        }
        for variant, file in point.variants.items()
        for name, value in [_metric(study, file.measures)]
    ]
    title = f"{study.study.name}, trial {point.trial}"
    facts: dict[str, Any] = {
        "library_name": "tflite",
        "tags": ["tflite", "federated-learning", "edge", "fieldtune"],
        "datasets": [data.source],
        "metrics": [_metric(study, point.measures)[0]],
        "model-index": [{"name": title, "results": results}],
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in facts.items()]
    return "\n".join(["---", *lines, "---"])


def _sections(study: StudyConfig, summary: Summary, point: Point, data: CardData) -> Iterator[str]:
    task, name = study.task, study.study.name
    yield f"# {name}, trial {point.trial}"
    said = f"Federated training over {study.study.rounds} rounds, tuned with fieldtune."
    yield f"{_used(summary, point)} {said}"
    model, arguments = study.model_of(study.full_space.configuration(point.configuration))
    given = (
        ", ".join(f"{key} = {_shown(value)}" for key, value in arguments.items())
        or "with its defaults"
    )
    yield "## Task\n\n" + _list(
        [
            ("Model", f"`{model}`: {given}"),
            ("Loss", task.loss),
            ("Optimizer", task.optimizer),
            *((key, _shown(value)) for key, value in point.configuration.items()
              if key not in arguments and key != "model"),
        ]
    )  # fmt: skip
    split = task.partition.kind or summary.partition or "natural, else dirichlet"
    scaled = f"(value - {data.offset:g}) / {data.scale:g} of a raw value"
    own = f"{data.source}: {data.devices} devices, {data.train_samples} training samples"
    yield "## Data\n\n" + _list(
        [
            ("Data", own if data.source == OWN_DATA else f"`{data.source}`, partition {split}"),
            *([("Classes", ", ".join(map(_code, data.labels)))] if data.labels else []),
            *([("Input", scaled)] if (data.offset, data.scale) != (0, 1) else []),
            ("Test samples", f"{point.test_samples}, of all clients that took part"),
            ("Seed", str(study.study.seed)),
            ("Runs of this configuration", str(point.runs)),
        ]
    )
    yield "## Figures\n\n" + _figures(study, summary, point)
    if personal := personal_steps([point]):
        yield personal
    yield "## Costs and limits\n\n" + _costs(point)
    yield "## Files\n\n" + _table(
        ("file", "bytes", "SHA-256"),
        [(f"`{each}.tflite`", str(file.bytes), f"`{file.sha256}`")
         for each, file in point.variants.items()],
    )  # fmt: skip
    output = "the reconstruction" if task.reconstructs else "logits; the largest one is the class"
    yield "## How to run it\n\n" + _RUN.format(
        file=f"{next(iter(point.variants), 'fp32')}.tflite", output=output
    )


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _used(summary: Summary, point: Point) -> str:
    devices = [d for d, chosen in summary.recommended.items() if chosen.trial == point.trial]
    facts = [f"Recommended for {', '.join(devices)}."] if devices else []
    if summary.defaults is not None and summary.defaults.trial == point.trial:
        facts.append("The study's defaults.")
    return " ".join(facts) or "On the study's front."


def _figures(study: StudyConfig, summary: Summary, point: Point) -> str:
    how = "simulated" if summary.simulated else "measured"
    rows = []
    for variant, file in point.variants.items():
        name, value = _metric(study, file.measures)
        interval = ""
        if name != "loss" and 0 <= value <= 1:
            low, high = wilson(value, file.test_samples)
            interval = f" ({low:.4g} to {high:.4g})"
        times = ", ".join(f"{device} {ms:.3g} ms" for device, ms in file.inference_ms.items())
        rows.append((f"`{variant}.tflite`", f"{name} {value:.4g}{interval}", times or "-"))
    metric = _metric(study, point.measures)[0]
    return (
        f"The {metric} with its 95 % interval for so many test samples, and the latency, both of "
        f"the converted file on the clients ({how}).\n\n"
        + _table(("file", metric, "latency, median client"), rows)
    )


def _costs(point: Point) -> str:
    rows = []
    for device, seen in point.devices.items():
        costs = ", ".join(
            f"{name} {cost.value:.3g} ({cost.low:.3g} to {cost.high:.3g})"
            for name, cost in seen.costs.items()
            if cost is not None and name in MEASURES
        )
        used = ", ".join(f"{name} {100 * (1 + slack):.3g} %" for name, slack in seen.slack.items())
        rows.append((device, costs, used or "-"))
    return "Predicted from the device's profile, with 90 % intervals.\n\n" + _table(
        ("device type", "costs", "used of limits"), rows
    )


def _code(text: str) -> str:
    """A text that a device tells, as code: nothing in it is a link, an image or HTML."""
    return f"`{text.replace('`', chr(39))}`"


def _list(facts: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
