"""Devices of a real fleet that are unlike the others: their labels or sensors may be faulty."""

from __future__ import annotations

from collections import Counter

from fieldtune.profiles.common.shares import unlike_others
from fieldtune.server.results.schema import Summary


def unlike_devices(summary: Summary) -> list[str]:
    """A sentence for each device whose error is far above the others' on most of the files.

    Of each point to deploy the first file counts.
    """
    files = [next(iter(each.variants.values())) for each in summary.deployable if each.variants]
    named = [file.device_errors for file in files if file.device_errors]
    often, said = Counter[str](), dict[str, str]()
    for errors in named:
        found = unlike_others({name: (e.error, e.samples) for name, e in errors.items()})
        for name, usual in found.items():
            often[name] += 1
            said.setdefault(
                name,
                f"{name} is unlike the others: its error is {100 * errors[name].error:.1f} % on "
                f"{errors[name].samples} samples, theirs {100 * usual:.1f} %; check the labels and "
                "the sensor there",
            )
    return [said[name] for name in sorted(said) if 2 * often[name] > len(named)]
