"""A compile service for the tests of this folder, and a thin way to run what it made."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import DEFAULTS, Artefact, unflatten
from fieldtune.server.compiler.service import CompileService
from support.compiling import RECIPES

HERE = str(RECIPES.parent)
# The strategies are a module of this folder; recipes.py is imported by the compile process.
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture(scope="session")
def compiler(artefact_cache: Path) -> Iterator[CompileService]:
    with CompileService(ArtefactCache(artefact_cache), [HERE]) as service:
        yield service


class Trained:
    """An artefact in the runtime, its weights loaded."""

    def __init__(self, artefact: Artefact) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.artefact = artefact
        self.manifest = artefact.manifest
        self._interpreter = Interpreter(model_content=artefact.model, num_threads=1)
        self.run = {
            name: self._interpreter.get_signature_runner(name)
            for name in ("train", "evaluate", "infer", "load", "weights", "reset", "state")
        }
        self.load(artefact.initial_weights)

    def load(self, flat: np.ndarray) -> None:
        parts = unflatten(self.manifest.weights, flat)
        self.run["load"](**{f"w{number:03d}": part for number, part in enumerate(parts)})

    def weights(self) -> np.ndarray:
        named = self.run["weights"]()
        return np.concatenate([named[key].ravel() for key in sorted(named)])

    def named_weights(self) -> dict[str, np.ndarray]:
        named = self.run["weights"]()
        names = [spec.name for spec in self.manifest.weights]
        return dict(zip(names, (named[key] for key in sorted(named)), strict=True))

    def train(
        self,
        x: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray | None = None,
        *,
        apply: bool = True,
        **hyperparameters: float,
    ) -> float:
        size = self.manifest.micro_batch
        values: Mapping[str, Any] = {
            name: np.full(1, hyperparameters.get(name, DEFAULTS[name]), np.float32)
            for name in self.manifest.hyperparameters
        }
        weight = np.full(size, 1 / size, np.float32) if weight is None else weight
        out = self.run["train"](
            x=x, y=y, sample_weight=weight, apply=np.full(1, apply, np.float32), **values
        )
        return float(out["loss"][0])

    def samples(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        size = self.manifest.micro_batch
        x = rng.normal(size=(size, *self.manifest.input_shape)).astype(np.float32)
        return x, rng.integers(0, self.manifest.classes, size).astype(np.int32)


@pytest.fixture
def trained(compiler: CompileService) -> Any:
    """Compile a spec and load it into the runtime."""
    return lambda spec: Trained(compiler.submit(spec).result())
