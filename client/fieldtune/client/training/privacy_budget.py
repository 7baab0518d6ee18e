"""How much differential privacy a device's updates have spent, over all studies.

Each update that leaves with noise is a Gaussian mechanism for the device's whole data, of which any
other data could take the place: by clipping, two updates differ by at most twice the norm. Such
mechanisms compose by adding up rho (Bun and Steinke 2016, arXiv 1605.02065, proposition 1.6 and
lemma 1.7), and rho gives epsilon (proposition 1.3). The sum is kept in a file and grows before an
update leaves, so that an interruption can only make it too large.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from fieldtune.client.data.privacy import Privacy
from fieldtune.client.training.allowed import NotAllowedError
from fieldtune.profiles.common.errors import StorageError
from fieldtune.profiles.common.files import write_atomically
from fieldtune.profiles.common.text import printable


class PrivacyBudget:
    """The budget of one device.

    Args:
        file: with what is spent; absent where nothing is.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def check(self, privacy: Privacy) -> None:
        """Refuse what would spend more than the owner allows.

        Raises:
            NotAllowedError: the budget does not suffice for one more update.
            StorageError: what was spent cannot be read.
        """
        if privacy.max_epsilon is None:
            return
        after = epsilon(self.spent() + _rho(privacy), privacy.delta)
        if after > privacy.max_epsilon:
            raise NotAllowedError(
                f"an epsilon of {after:.3g}, which its updates would have with this one, "
                f"privacy.max_epsilon = {privacy.max_epsilon:g}"
            )

    def spend(self, privacy: Privacy) -> None:
        """Count one update, which then may leave.

        Raises:
            NotAllowedError: the budget does not suffice.
            StorageError: what is spent cannot be read or written.
        """
        if not privacy.noise:
            return
        self.check(privacy)
        text = json.dumps({"rho": self.spent() + _rho(privacy)})
        try:
            write_atomically(self._file, text, parents=True)
        except OSError as failed:
            raise StorageError(f"{self._file} cannot be written: {failed.strerror}") from None

    def spent(self) -> float:
        """Rho of all updates so far.

        Raises:
            StorageError: the file is damaged: then nothing more may be spent.
        """
        try:
            rho = float(json.loads(self._file.read_text(encoding="utf-8"))["rho"])
            if math.isfinite(rho) and rho >= 0:
                return rho
            reason = f"rho is {rho}"
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as damaged:
            reason = printable(str(damaged), 200)
        raise StorageError(
            f"{self._file} is damaged ({reason}), so it is not known what was spent: remove it "
            "only if you accept that the budget begins anew"
        )


def epsilon(rho: float, delta: float) -> float:
    """The epsilon of mechanisms with this rho together, for this delta."""
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def _rho(privacy: Privacy) -> float:
    """Of one update: its sensitivity is twice the norm of which the noise is a multiple."""
    return 2 / privacy.noise**2
