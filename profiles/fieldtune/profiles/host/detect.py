"""Detecting the device profile of a board from its model name and memory size."""

from __future__ import annotations

from fieldtune.profiles.host.probe import Host

# Prefix of the device tree's model -> (memory of the board in MiB, profile), smallest first.
_BOARDS: dict[str, tuple[tuple[int, str], ...]] = {
    "Raspberry Pi Zero 2 W": ((512, "raspberry-pi-zero-2w"),),
    "Raspberry Pi 3 Model B Plus": ((1024, "raspberry-pi-3b-plus"),),
    "Raspberry Pi 4 Model B": (
        (1024, "raspberry-pi-4b-1gb"),
        (2048, "raspberry-pi-4b"),
        (4096, "raspberry-pi-4b-4gb"),
        (8192, "raspberry-pi-4b-8gb"),
    ),
    "Raspberry Pi 5": (
        (4096, "raspberry-pi-5"),
        (8192, "raspberry-pi-5-8gb"),
        (16384, "raspberry-pi-5-16gb"),
    ),
    "NVIDIA Jetson Nano": ((4096, "jetson-nano"),),
    "NVIDIA Jetson Orin Nano": ((8192, "jetson-orin-nano"),),
    "NVIDIA Orin Nano": ((8192, "jetson-orin-nano"),),
    "Freescale i.MX8MQ Phanbell": ((1024, "coral-dev-board"),),
    "TI AM335x BeagleBone Black": ((512, "beaglebone-a8"),),
    "TI OMAP4 PandaBoard": ((1024, "beagle-a9"),),
}


def detect_profile(host: Host) -> str | None:
    """The catalogue's profile for this host; None if the board is not in the catalogue.

    The operating system reports less memory than the board has, so the profile with the smallest
    memory that is at least the reported size is chosen.
    """
    for model, profiles in _BOARDS.items():
        if host.model is not None and host.model.startswith(model):
            reported_mib = host.memory_total_mib
            if len(profiles) == 1:
                return profiles[0][1]
            if reported_mib is not None:
                return next(
                    (name for mib, name in profiles if reported_mib <= mib), profiles[-1][1]
                )
    return None


def board_profiles(model: str | None, profile: str = "") -> list[str]:
    """The profiles of boards whose firmware names this model, or of the board with a profile.

    Empty where the board is not in the catalogue.
    """
    for prefix, profiles in _BOARDS.items():
        names = [name for _, name in profiles]
        if profile in names if model is None else model.startswith(prefix):
            return names
    return []
