"""From a configuration to its artefact: each architecture is compiled once."""

from __future__ import annotations

from concurrent.futures import Future

from fieldtune.server.compiler.manifest import Artefact, CompileOptions, ModelSpec
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Configuration, Value


class Artefacts:
    """The artefacts of a study's configurations.

    Args:
        study: its models and training options.
        input_shape: of one sample, without the batch dimension.
        classes: number of classes of the data.
        service: runs the compiler.

    Raises:
        CompileError: a model's module is not found.
    """

    def __init__(
        self,
        study: StudyConfig,
        input_shape: tuple[int, ...],
        classes: int,
        service: CompileService,
    ) -> None:
        self._study, self._service = study, service
        self._input_shape, self._classes = input_shape, classes
        self._futures: dict[str, Future[Artefact]] = {}
        for model in study.task.models:
            # A missing module is an error in the study, so it is raised here, not in each trial.
            service.cache.key(self._spec(model, {}), service.import_path)

    def spec(self, configuration: Configuration) -> ModelSpec:
        """The input of the compiler for this configuration."""
        return self._spec(*self._study.model_of(configuration))

    def _spec(self, model: str, knobs: dict[str, Value]) -> ModelSpec:
        return ModelSpec(
            model=model,
            knobs=knobs,
            input_shape=self._input_shape,
            classes=self._classes,
            options=CompileOptions(
                loss=self._study.task.loss,
                label_smoothing=self._study.task.label_smoothing,
                optimizer=self._study.task.optimizer,
                extras=self._study.extras,
            ),
        )

    def is_compiled(self, configuration: Configuration) -> bool:
        """Whether the configuration's artefact is in the cache, so that nothing is compiled."""
        service = self._service
        return service.cache.get(self.spec(configuration), service.import_path) is not None

    def of(self, configuration: Configuration) -> Future[Artefact]:
        """The configuration's artefact; compiled in the background, at most once."""
        key = self._study.architecture(configuration)
        if key not in self._futures:
            self._futures[key] = self._service.submit(self.spec(configuration))
        return self._futures[key]
