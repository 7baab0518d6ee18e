"""A run in MLflow: an experiment of the study's name, a parent run, a nested run for each trial."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before it is imported

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from fieldtune.profiles.common.errors import UsageError
from fieldtune.server.report.track import TrackedRun, TrackedTrial

_RESULTS, _PARENT, _NAME = "fieldtune.results", "mlflow.parentRunId", "mlflow.runName"
_STATUS = {
    "completed": "FINISHED", "stopped": "KILLED", "infeasible": "KILLED", "failed": "FAILED",
}  # fmt: skip
_AT_ONCE = 100
"""Parameters and tags that MLflow takes in one call."""


def write(run: TrackedRun, folder: Path, store: str | None) -> str:
    """Log a run, unless MLflow has these very results.

    Args:
        run: what to log.
        folder: the run folder.
        store: a tracking URI, or a folder to keep ``mlflow.db`` and files in; None for MLflow's
            own default, which ``MLFLOW_TRACKING_URI`` sets.

    Raises:
        UsageError: MLflow cannot use the store.
    """
    uri = store
    try:
        uri, files = _location(store)
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(run.name)
        experiment = known.experiment_id if known else client.create_experiment(run.name, files)
        if known and known.lifecycle_stage == "deleted":
            raise UsageError(f"MLflow's experiment {run.name!r} is deleted: restore it there")
        found = client.search_runs([experiment], f"tags.`{_RESULTS}` = '{run.identity}'")
        if found:
            return f"MLflow has these results of {folder} already, as run {found[0].info.run_id}"
        parent = _log_study(client, experiment, run)
        for trial in run.trials:
            _log_trial(client, experiment, parent, trial)
        # Only now is it marked as logged: what was interrupted is logged anew.
        client.set_tag(parent, _RESULTS, run.identity)
        client.set_terminated(parent, "FINISHED")
    except (MlflowException, SQLAlchemyError, OSError) as refused:
        # What SQLAlchemy says of itself names a whole statement; the database's own words do not.
        reason = " ".join(str(getattr(refused, "orig", None) or refused).split())
        raise UsageError(
            f"MLflow cannot use {uri or 'its default store'}: {reason}; name a folder or a "
            "tracking URI with --store"
        ) from None
    return f"{folder} is in MLflow's experiment {run.name!r} as run {parent}; {_how_to_see(uri)}"


def _location(store: str | None) -> tuple[str | None, str | None]:
    """Tracking URI, and where files are kept; None is MLflow's default."""
    if store is None or "://" in store or store.startswith("databricks"):
        return store, None
    path = Path(store).resolve()
    path.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path / 'mlflow.db'}", (path / "artifacts").as_uri()


def _how_to_see(uri: str | None) -> str:
    where = f" --backend-store-uri {uri}" if uri and uri.startswith("sqlite") else ""
    return f"to see it, with all of MLflow (pip install mlflow): mlflow ui{where}"


def _log_study(client: MlflowClient, experiment: str, run: TrackedRun) -> str:
    now = int(1e3 * time.time())
    made: str = client.create_run(experiment, run_name=run.name).info.run_id
    metrics = [Metric(_key(name), value, now, 0) for name, value in run.metrics.items()]
    metrics += [Metric("front.share", value, now, trial)
                for trial, value in run.front_share.items()]  # fmt: skip
    _batch(client, made, metrics, run.parameters, run.tags)
    _files(client, made, run.files)
    return made


def _log_trial(client: MlflowClient, experiment: str, parent: str, trial: TrackedTrial) -> None:
    now = int(1e3 * time.time())
    tags = {_PARENT: parent, _NAME: trial.name}
    made = client.create_run(experiment, tags=tags).info.run_id
    last = int(trial.metrics.get("rounds", 0))
    metrics = [
        Metric(_key(name), value, now, rounds)
        for rounds, values in trial.curve.items()
        for name, value in values.items()
        if not (rounds == last and name in trial.metrics)
    ]
    metrics += [Metric(_key(name), value, now, last) for name, value in trial.metrics.items()]
    _batch(client, made, metrics, trial.parameters, {"state": trial.state, **trial.tags})
    _files(client, made, trial.files)
    client.set_terminated(made, _STATUS[trial.state])


def _batch(
    client: MlflowClient,
    made: str,
    metrics: list[Metric],
    parameters: Mapping[str, object],
    tags: Mapping[str, str],
) -> None:
    params = [Param(_key(name), str(value)) for name, value in parameters.items()]
    labels = [RunTag(f"fieldtune.{_key(name)}", text) for name, text in tags.items()]
    for start in range(0, max(len(metrics), len(params), len(labels)), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        client.log_batch(made, metrics[part], params[part], labels[part])


def _files(client: MlflowClient, made: str, files: Iterable[Path]) -> None:
    for file in files:
        client.log_artifact(made, str(file))


def _key(name: str) -> str:
    """A name with the characters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)
