"""Published latencies that no profile was made from, beside what the profiles predict."""

from __future__ import annotations

from dataclasses import dataclass

from fieldtune.profiles.costmodel.roofline import Threads, call_ms
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.load import load_profile

# MobileNet v2 1.0, 224x224 (Sandler et al., CVPR 2018): 300 million multiply-adds, about 9 in 10
# of them in pointwise or full convolutions, 3.5 million weights, activations of some 50 MB.
MOBILENET_V2 = Work(
    {
        "conv": OpWork(36, 0.545e9, 55e6),
        "depthwise": OpWork(17, 0.050e9, 22e6),
        "elementwise": OpWork(10, 1.5e6, 8e6),
        "reduce": OpWork(1, 6e4, 2.6e5),
        "matmul": OpWork(1, 2.6e6, 5.2e6),
    }
)
# SSD-MobileNet v2 300x300 (coco, as aallan/benchmarking-ml-on-the-edge runs it): the same backbone
# at 300x300 and the extra layers and box predictors, 0.8 billion multiply-adds in all, 16.9 million
# weights; the non-maximum suppression sorts 1917 boxes of 91 classes, a few million operations.
SSD_MOBILENET_V2 = Work(
    {
        "conv": OpWork(67, 1.46e9, 150e6),
        "depthwise": OpWork(17, 0.12e9, 40e6),
        "elementwise": OpWork(16, 6e6, 18e6),
        "other": OpWork(1, 4e6, 1.5e6),
    }
)


@dataclass(frozen=True)
class Published:
    """A latency that somebody published."""

    profile: str
    model: str
    work: Work
    threads: Threads
    ms: float
    source: str


_XNNPACK = "google/XNNPACK README, 2020"
_AALLAN = "aallan/benchmarking-ml-on-the-edge"
PUBLISHED = (
    Published("raspberry-pi-3b-plus", "MobileNet v2", MOBILENET_V2, "all", 79, _XNNPACK),
    Published("raspberry-pi-4b", "MobileNet v2", MOBILENET_V2, "all", 44, _XNNPACK),
    Published("android-mid", "MobileNet v2", MOBILENET_V2, "one", 49, f"{_XNNPACK}: Pixel"),
    Published("android-mid", "MobileNet v2", MOBILENET_V2, "one", 53, f"{_XNNPACK}: Pixel 2"),
    Published("android-mid", "MobileNet v2", MOBILENET_V2, "one", 55, f"{_XNNPACK}: Pixel 3a"),
    Published("android-mid", "MobileNet v2", MOBILENET_V2, "all", 26, f"{_XNNPACK}: Pixel"),
    Published("android-mid", "MobileNet v2", MOBILENET_V2, "all", 18, f"{_XNNPACK}: Pixel 2"),
    Published("android-mid", "MobileNet v2", MOBILENET_V2, "all", 28, f"{_XNNPACK}: Pixel 3a"),
    Published("coral-dev-board", "MobileNet v2", MOBILENET_V2, "one", 150,
              "freedomtan/edge_tpu_python_scripts"),
    Published("raspberry-pi-3b-plus", "SSD-MobileNet v2", SSD_MOBILENET_V2, "all", 379.6, _AALLAN),
    Published("raspberry-pi-4b", "SSD-MobileNet v2", SSD_MOBILENET_V2, "all", 112.6, _AALLAN),
    Published("raspberry-pi-5", "SSD-MobileNet v2", SSD_MOBILENET_V2, "all", 23.5, _AALLAN),
)  # fmt: skip


def published_table() -> None:
    """Print each figure, what is predicted, and whether it lies in the 90 % interval."""
    print(f"\n{'device':22}{'model':18}{'threads':>8}{'published':>11}{'predicted ms':>26}  inside")
    inside = 0
    for figure in PUBLISHED:
        found = call_ms(load_profile(figure.profile), figure.work, threads=figure.threads)
        is_inside = found.low <= figure.ms <= found.high
        inside += is_inside
        span = f"{found.value:.0f} ({found.low:.0f} to {found.high:.0f})"
        print(
            f"{figure.profile:22}{figure.model:18}{figure.threads:>8}{figure.ms:>11.1f}"
            f"{span:>26}  {'yes' if is_inside else 'NO'}   {figure.source}"
        )
    print(f"{inside} of {len(PUBLISHED)} inside (aim 85 %)")
