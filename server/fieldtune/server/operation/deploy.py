"""``fieldtune deploy`` and ``fieldtune rollback``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fieldtune.client.contract.deployment import StatusReport
from fieldtune.profiles.common.errors import DeploymentError, FleetError, UsageError, did_you_mean
from fieldtune.server.deployment.fleet_state import FleetState
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.superlink_control import ENVIRONMENT
from fieldtune.server.devices.superlink_run import SuperLinkRun
from fieldtune.server.operation.delivery import Delivery, canary_of
from fieldtune.server.operation.exchange import Exchange
from fieldtune.server.operation.offers import offers
from fieldtune.server.operation.rollouts import Member, Rollout, RolloutStore

Notes = Callable[[str], None]
_PAUSE_S = 5.0
"""Between two passes of ``--wait``."""


@contextmanager
def delivering(folder: CoordinatorFolder, notes: Notes) -> Iterator[Delivery]:
    """A delivery over a run of its own; meanwhile no study uses the devices.

    Raises:
        DeploymentError: a study runs on them.
        FleetError: SuperLink does not answer.
    """
    os.environ.update(ENVIRONMENT)
    with folder.in_use(notes=notes):
        exchange = Exchange(lambda: SuperLinkRun(folder, notes))
        try:
            yield Delivery(folder, exchange, notes)
        except BaseException as ended:
            exchange.close(type(ended).__name__)
            raise
        exchange.close()


def deploy(
    folder: CoordinatorFolder,
    run: Path,
    *,
    chosen: Sequence[str],
    variant: str,
    canary: tuple[float | None, int | None],
    force: bool,
    wait: bool,
    notes: Notes,
) -> Rollout:
    """Send each device what a run recommends for its type.

    Args:
        folder: of the coordinator.
        run: folder of a finished run.
        chosen: devices, by name or type; empty for all.
        variant: which conversion of the models.
        canary: share of each device type that goes first, or a number of devices; None of both:
            all at once.
        force: switch even where the model is worse than its card says.
        wait: until every device has answered.
        notes: prints a sentence.

    Raises:
        UsageError: a name is neither a device nor a device type.
        RunFolderError: there is nothing to deploy.
        FleetError: the canary has stopped the rollout, or SuperLink does not answer.
    """
    found, store = offers(run, variant), RolloutStore(folder.path)
    with delivering(folder, notes) as delivery:
        told = delivery.ask_status()
        types = _types(folder, told)
        names = _selected(folder, chosen, types, also=found)
        able = [name for name in told if name in names and types[name] in found]
        first = canary_of(able, types, *canary)
        if canary != (None, None) and not first:
            raise FleetError(
                "no device is connected that could go first, of a type for which the run "
                "recommends a model: leave --canary out"
            )
        rollout = Rollout(
            number=store.next_number(),
            kind="deploy",
            run=str(run.resolve()),
            force=force,
            canary=first,
            cards={device: offer.card for device, offer in found.items()},
            devices={name: Member() for name in names},
        )
        store.begin(rollout, (offer.model for offer in found.values()))
        if first:
            notes(f"first: {', '.join(first)}")
        return _advance(folder, delivery, rollout, wait, notes)


def deliver_waiting(folder: CoordinatorFolder, *, wait: bool, notes: Notes) -> list[Rollout]:
    """Go on with rollouts for which devices wait; those rollouts, the newest first."""
    store = RolloutStore(folder.path)
    if not any(each.waiting() for each in store.all()):
        return []
    with delivering(folder, notes) as delivery:
        # Read again: a watch may have delivered some before it left the devices to this command.
        waiting = [each for each in store.all() if each.waiting()]
        return [_advance(folder, delivery, each, wait, notes) for each in waiting]


def roll_back(
    folder: CoordinatorFolder, *, chosen: Sequence[str], wait: bool, notes: Notes
) -> Rollout:
    """Have devices go back to the model before; without a choice, those of the last deployment.

    Raises:
        UsageError: a name is neither a device nor a device type.
        DeploymentError: nothing was deployed.
        FleetError: SuperLink does not answer.
    """
    store = RolloutStore(folder.path)
    last = next((each for each in store.all() if each.kind == "deploy"), None)
    if last is None and not chosen:
        raise DeploymentError(f"nothing was deployed from {folder.path}: name a --device")
    with delivering(folder, notes) as delivery:
        told = delivery.ask_status()
        types = _types(folder, told)
        names = (
            _selected(folder, chosen, types)
            if chosen or last is None
            else [each.name for each in folder.devices() if each.name in last.devices]
        )
        runs = {n: seen.status.runs for n, seen in FleetState(folder.path).read().items()}
        members, leave = {}, {}
        for name in names:
            if sha256 := runs.get(name):
                members[name], leave[name] = Member(), sha256
            else:
                why = "has no deployed model, as far as is known here"
                members[name] = Member(state="left out", why=why, at=time.time())
        rollout = Rollout(number=store.next_number(), kind="rollback", leave=leave, devices=members)
        store.begin(rollout)
        return _advance(folder, delivery, rollout, wait, notes)


def _advance(
    folder: CoordinatorFolder, delivery: Delivery, rollout: Rollout, wait: bool, notes: Notes
) -> Rollout:
    rollout = delivery.advance(rollout)
    while wait and rollout.waiting():
        time.sleep(_PAUSE_S)
        rollout = delivery.advance(rollout)
    if rollout.stopped:
        notes(f"The rollout is stopped by the canary. {rollout.stopped}")
    if waiting := rollout.waiting():
        notes(
            f"{', '.join(waiting)}: once connected, 'fieldtune deploy --superlink {folder.path}', "
            f"or a running 'fieldtune coordinator watch {folder.path}', delivers it"
        )
    return rollout


def _types(folder: CoordinatorFolder, told: Mapping[str, StatusReport]) -> dict[str, str]:
    """Name -> device type, as last told."""
    seen = FleetState(folder.path).read()
    return {
        **{name: each.status.profile for name, each in seen.items()},
        **{name: each.profile for name, each in told.items()},
    }


def _selected(
    folder: CoordinatorFolder,
    chosen: Sequence[str],
    types: Mapping[str, str],
    also: Collection[str] = (),
) -> list[str]:
    """The enrolled devices of these names and types; all where none is given."""
    enrolled = [device.name for device in folder.devices()]
    if not enrolled:
        raise DeploymentError(
            f"no device is enrolled: 'fieldtune coordinator enroll {folder.path} NAME'"
        )
    known = {*types.values(), *also}
    for each in chosen:
        if each not in enrolled and each not in known:
            raise UsageError(
                f"{each!r} is neither an enrolled device nor a device type here"
                f"{did_you_mean(each, [*enrolled, *known])}; enrolled are {', '.join(enrolled)}"
            )
    wanted = [name for name in enrolled if not chosen or {name, types.get(name)} & set(chosen)]
    if not wanted:
        raise UsageError(f"no enrolled device is a {', '.join(chosen)}, as far as is known here")
    return wanted
