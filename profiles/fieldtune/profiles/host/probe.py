"""Facts about the host, read from ``/proc`` and ``/sys``.

Nothing is guessed: facts that are not available are ``None``. The files are read below a given root
folder, so that tests can use recorded trees. On a Raspberry Pi the firmware reports throttling and
under-voltage; only the Pi 5 and Compute Module 5 report power, through ``vcgencmd pmic_read_adc``.
"""

import re
from dataclasses import dataclass
from pathlib import Path

# Bits of the firmware's get_throttled, as Raspberry Pi documents them for vcgencmd; the same four,
# shifted by 16, report events since boot.
_THROTTLING = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
_SINCE_START = 16
# Boards whose power management chip measures the current of each supply rail.
_PMIC_BOARDS = ("Raspberry Pi 5", "Raspberry Pi Compute Module 5")


@dataclass(frozen=True)
class Host:
    """Facts about a host; ``None`` if not available."""

    model: str | None
    cores: int | None
    max_clock_mhz: float | None  # of the fastest core
    memory_total_mib: float | None
    memory_available_mib: float | None
    temperature_c: float | None
    throttling: tuple[str, ...] | None  # active now; empty if none
    throttling_since_start: tuple[str, ...] | None
    power_command: tuple[str, ...] | None  # prints the rails that pmic_power_w() sums

    @property
    def reports_power(self) -> bool:
        """Whether the host can measure its own power consumption."""
        return self.power_command is not None


def probe(root: Path = Path("/")) -> Host:
    """Read a host's facts.

    Args:
        root: the folder that contains ``proc``, ``sys`` and ``usr``; not ``/`` for a recorded tree.
    """
    model = _device_tree(root, "model")
    bits = _throttling_bits(root)
    return Host(
        model=model[0] if model else _cpuinfo_model(root),
        cores=_cores(root),
        max_clock_mhz=_max_clock_mhz(root),
        memory_total_mib=_meminfo_mib(root, "MemTotal"),
        memory_available_mib=_meminfo_mib(root, "MemAvailable"),
        temperature_c=_scaled(root / "sys/class/thermal/thermal_zone0/temp", 1e-3),
        throttling=_named(bits, 0),
        throttling_since_start=_named(bits, _SINCE_START),
        power_command=_power_command(root, model[0] if model else None),
    )


def pmic_power_w(output: str) -> float | None:
    """Sum volts times amperes over the rails that ``vcgencmd pmic_read_adc`` prints.

    Args:
        output: lines such as ``VDD_CORE_A current(7)=1.20000000A`` and
            ``VDD_CORE_V volt(15)=0.90000000V``; rails without both are skipped.

    Returns:
        total power of the rails in watts, without the losses of the conversion before them and
        the consumption of USB devices; ``None`` if no rail has both values.
    """
    found: dict[str, dict[str, float]] = {}
    for rail, number, unit in re.findall(
        r"^\s*(\w+)_[AV]\b[^=\n]*=\s*([0-9.]+)([AV])\s*$", output, re.MULTILINE
    ):
        found.setdefault(rail, {})[unit] = float(number)
    rails = [pair["A"] * pair["V"] for pair in found.values() if len(pair) == 2]
    return sum(rails) if rails else None


def _text(path: Path) -> str | None:
    """Read a file; ``None`` if it is missing or cannot be read (some sysfs files refuse)."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _scaled(path: Path, factor: float) -> float | None:
    text = _text(path)
    try:
        return None if text is None else int(text) * factor
    except ValueError:
        return None


def _device_tree(root: Path, name: str) -> tuple[str, ...]:
    """Strings of a device-tree property, which are NUL-terminated in the file."""
    text = _text(root / "proc/device-tree" / name) or ""
    return tuple(part.strip() for part in text.split("\0") if part.strip())


def _cpuinfo_model(root: Path) -> str | None:
    """Board name in cpuinfo; only Raspberry Pi kernels write it."""
    found = re.search(r"^Model\s*:\s*(.+)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return found.group(1).strip() if found else None


def _cores(root: Path) -> int | None:
    online = _text(root / "sys/devices/system/cpu/online") or ""
    if re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", online):
        spans = [part.partition("-") for part in online.split(",")]
        return sum(int(last or first) - int(first) + 1 for first, _, last in spans)
    processors = re.findall(
        r"^processor\s*:\s*\d+", _text(root / "proc/cpuinfo") or "", re.MULTILINE
    )
    return len(processors) or None


def _max_clock_mhz(root: Path) -> float | None:
    folder = root / "sys/devices/system/cpu"
    clocks = [_scaled(path, 1e-3) for path in folder.glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq")]
    return max((clock for clock in clocks if clock is not None), default=None)


def _meminfo_mib(root: Path, key: str) -> float | None:
    found = re.search(rf"^{key}:\s*(\d+) kB$", _text(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) / 1024.0 if found else None


def _throttling_bits(root: Path) -> int | None:
    text = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        return None if text is None else int(text, 16)
    except ValueError:
        return None


def _named(bits: int | None, shift: int) -> tuple[str, ...] | None:
    if bits is None:
        return None
    return tuple(name for bit, name in _THROTTLING.items() if bits >> (bit + shift) & 1)


def _power_command(root: Path, model: str | None) -> tuple[str, ...] | None:
    if model is None or not model.startswith(_PMIC_BOARDS):
        return None
    for folder in ("usr/bin", "opt/vc/bin"):
        binary = root / folder / "vcgencmd"
        if binary.is_file():
            return (str(binary), "pmic_read_adc")
    return None
