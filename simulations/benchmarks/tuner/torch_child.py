"""Peers that need torch, in a process and an environment of their own.

usage: an interpreter with torch, optuna and botorch runs this file; nothing of fieldtune is needed.
A line of JSON in, a line of JSON out: ``create``, then ``ask``, ``tell`` and ``reject``.

``gp`` is Optuna's GPSampler. ``botorch`` is qLogNEHVI (Ament et al. 2023, arXiv 2310.20708) on one
Gaussian process an objective, over a pool of candidates that the formulas allow and the parent
sends; a share is modelled by its logit and turned back before hypervolume is taken. If the parent
sends known objectives too, they are exact in the model and an input of the others.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")


class GpSampler:
    """Optuna's Gaussian process sampler."""

    def __init__(self, made: dict[str, Any]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._distributions = {
            name: optuna.distributions.json_to_distribution(text)
            for name, text in made["distributions"].items()
        }
        self._study = optuna.create_study(
            directions=["minimize"] * made["objectives"],
            sampler=optuna.samplers.GPSampler(seed=made["seed"], deterministic_objective=False),
        )
        self._open: dict[int, Any] = {}

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The next trial."""
        trial = self._study.ask(self._distributions)
        self._open[trial.number] = trial
        return {"number": trial.number, "params": trial.params}

    def tell(self, request: dict[str, Any]) -> dict[str, Any]:
        """Constraints, then objectives."""
        trial = self._open.pop(request["number"])
        for name, value in request["constraints"].items():
            trial.set_constraint(name, value)
        self._study.tell(trial, request["objectives"])
        return {}

    def reject(self, request: dict[str, Any]) -> dict[str, Any]:
        """A failed trial."""
        state = self._optuna.trial.TrialState.FAIL
        self._study.tell(self._open.pop(request["number"]), state=state)
        return {}


class Botorch:
    """qLogNEHVI over the pool it is sent."""

    def __init__(self, made: dict[str, Any]) -> None:
        import torch
        from torch.utils import cpp_extension

        # BoTorch would compile a faster kernel at first use. A compile that was killed leaves a
        # lock at which every later process waits for ever, so its own fallback is used instead.
        cpp_extension.load = _refuse_to_compile
        torch.set_num_threads(1)
        torch.manual_seed(made["seed"])
        self._seed, self._shares = made["seed"], made["shares"]

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Index of the best candidate, given points and objectives of all that was feasible."""
        import torch
        from botorch.acquisition.multi_objective.logei import (
            qLogNoisyExpectedHypervolumeImprovement,
        )
        from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.models.transforms import Standardize
        from botorch.models.transforms.input import FilterFeatures
        from botorch.sampling import SobolQMCNormalSampler
        from gpytorch.mlls import SumMarginalLogLikelihood

        x = torch.tensor(request["points"], dtype=torch.double)
        y = torch.tensor(request["objectives"], dtype=torch.double)
        pool = torch.tensor(request["pool"], dtype=torch.double)
        for share in self._shares:
            y[:, share] = torch.logit(y[:, share].clamp(1e-4, 1 - 1e-4))
        known = request.get("known", [])
        read: dict[str, Any] = {}
        if known:  # columns of costs as they are, for the exact models, and scaled, for the others
            costs = torch.tensor(request["costs"], dtype=torch.double)
            logs = costs.log() if bool((costs > 0).all()) else costs
            scaled = 0.4 * (logs - logs.mean(dim=0)) / logs.std(dim=0).clamp_min(1e-12)
            count, width = len(x), x.shape[1] + len(known)
            x = torch.cat([x, scaled[:count], costs[:count]], dim=1)
            pool = torch.cat([pool, scaled[count:], costs[count:]], dim=1)
            read = {"input_transform": FilterFeatures(torch.arange(width))}
        learned = [n for n in range(y.shape[1]) if n not in known]
        model = ModelListGP(
            *(
                SingleTaskGP(x, y[:, [n]], outcome_transform=Standardize(m=1), **read)
                for n in learned
            )
        )
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))

        def objective(samples: Any, X: Any = None) -> Any:  # BoTorch's name
            columns: list[Any] = [None] * y.shape[1]
            for place, n in enumerate(learned):
                column = samples[..., place]
                columns[n] = column.sigmoid() if n in self._shares else column
            for place, n in enumerate(known):
                cost = X[..., X.shape[-1] - len(known) + place]
                columns[n] = cost.expand(samples.shape[:-1])
            return -torch.stack(columns, dim=-1)

        seen = -objective(y[:, learned], x)  # objectives again, minimised
        worst, best = seen.max(dim=0).values, seen.min(dim=0).values
        reference = request.get("reference") or (worst + 0.1 * (worst - best)).tolist()
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model=model,
            ref_point=[-each for each in reference],
            X_baseline=x,
            sampler=SobolQMCNormalSampler(torch.Size([64]), seed=self._seed),
            objective=GenericMCMultiOutputObjective(objective),
            prune_baseline=True,
        )
        with torch.no_grad():
            values = torch.cat([acquisition(part.unsqueeze(1)) for part in pool.split(256)])
        return {"index": int(values.argmax())}


def _refuse_to_compile(*arguments: Any, **options: Any) -> Any:
    raise RuntimeError("nothing is compiled here")


def main() -> None:
    """Serve until the input ends."""
    replies, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    peer: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "create":
            peer = {"gp": GpSampler, "botorch": Botorch}[request["peer"]](request)
            answer: dict[str, Any] = {}
        else:
            answer = getattr(peer, request["do"])(request)
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    main()
