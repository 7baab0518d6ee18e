"""Constrained problems with formulas, one objective of which is learned under noise.

The learned objective is the one in ``learned``: an evaluation adds Gaussian noise to it, 2 % of its
range on the front. The other objectives and all limits are formulas that a sampler may use, as a
device's memory or latency is. Limits are written as used / cap - 1 where the paper says
``used <= cap``, and as 1 - used / least where it says ``used >= least``; a limit around zero is
divided by a constant of its terms. Signs are what matters: the feasible set is the paper's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.known import Known
from fieldtune.server.study.space import Parameter
from tuner.problem import Evaluation, Reference, Values, frozen_reference

Vector = NDArray[np.float64]
NOISE = 0.02


def box(low: tuple[float, ...], high: tuple[float, ...]) -> dict[str, Parameter]:
    """Parameters ``x1``, ``x2``, ... between these bounds; whole numbers where both are int."""
    bounds = zip(low, high, strict=True)
    return {f"x{n}": Parameter(low=lo, high=up) for n, (lo, up) in enumerate(bounds, start=1)}


class Analytic(ABC):
    """A problem whose formula a subclass gives as :meth:`formula`."""

    name: ClassVar[str]
    space: ClassVar[Mapping[str, Parameter]]
    objectives: ClassVar[tuple[str, ...]] = ("f1", "f2")
    learned: ClassVar[int] = 0
    shares: ClassVar[frozenset[int]] = frozenset()
    rounds: ClassVar[int] = 1
    trials: ClassVar[int] = 60
    noise: ClassVar[float] = NOISE
    """Standard deviation, as a share of the learned objective's range on the front."""

    @staticmethod
    @abstractmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Objectives and limits (feasible at <= 0) of one point."""

    @property
    def reference(self) -> Reference:
        """The frozen scale."""
        return frozen_reference(self.name)

    def truth(self, values: Values) -> Evaluation:
        """Without noise."""
        f, g = self.formula(np.array([float(values[name]) for name in self.space]))
        constraints = {f"g{n}": float(value) for n, value in enumerate(g, start=1)}
        return Evaluation(tuple(map(float, f)), constraints, device_s=1.0)

    def known(self, values: Values) -> Known:
        """Every objective but the learned one, and all limits."""
        true = self.truth(values)
        return Known(
            {n: value for n, value in enumerate(true.objectives) if n != self.learned},
            true.constraints,
        )

    def evaluate(self, values: Values, rounds: int, seed: int) -> Evaluation:
        """With noise on the learned objective."""
        true, scale = self.truth(values), self.reference
        noise = np.random.default_rng([seed, 7]).normal(0.0, self.noise)
        objectives = list(true.objectives)
        objectives[self.learned] += noise * (scale.nadir[self.learned] - scale.ideal[self.learned])
        return Evaluation(tuple(objectives), true.constraints, device_s=1.0)


class Osy(Analytic):
    """Osyczka and Kundu 1995, as in Deb, Pratap and Meyarivan 2001 (EMO, LNCS 1993), eq. 3."""

    name = "osy"
    space = box((0.0, 0.0, 1.0, 0.0, 1.0, 0.0), (10.0, 10.0, 5.0, 6.0, 5.0, 10.0))

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Eq. 3: two objectives, six limits."""
        centre, weight = np.array([2.0, 2, 1, 4, 1]), np.array([25.0, 1, 1, 1, 1])
        f = [-(weight * (x[:5] - centre) ** 2).sum(), (x**2).sum()]
        g = [
            1 - (x[0] + x[1]) / 2,  # C1: x1 + x2 >= 2
            (x[0] + x[1]) / 6 - 1,  # C2: x1 + x2 <= 6
            (x[1] - x[0]) / 2 - 1,  # C3: x2 - x1 <= 2
            (x[0] - 3 * x[1]) / 2 - 1,  # C4: x1 - 3 x2 <= 2
            ((x[2] - 3) ** 2 + x[3]) / 4 - 1,  # C5: (x3 - 3)^2 + x4 <= 4
            1 - ((x[4] - 3) ** 2 + x[5]) / 4,  # C6: (x5 - 3)^2 + x6 >= 4
        ]
        return np.array(f), np.array(g)


class Tnk(Analytic):
    """Tanaka et al. 1995, as in Deb, Pratap and Meyarivan 2001 (EMO, LNCS 1993), eq. 2."""

    name = "tnk"
    space = box((0.0, 0.0), (np.pi, np.pi))

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Eq. 2: f = x; outside a rippled circle, inside a disc."""
        wave = 0.1 * np.cos(16 * np.arctan2(x[0], x[1]))
        g = [
            1 + wave - (x**2).sum(),  # C1: x1^2 + x2^2 >= 1 + 0.1 cos(16 arctan(x1 / x2))
            ((x - 0.5) ** 2).sum() / 0.5 - 1,  # C2: (x1 - 0.5)^2 + (x2 - 0.5)^2 <= 0.5
        ]
        return x.copy(), np.array(g)


class WeldedBeam(Analytic):
    """Deb, Pratap and Moitra 2000 (PPSN VI, LNCS 1917), eq. 2: cost and end deflection."""

    name = "welded-beam"
    objectives = ("cost", "deflection")
    space = box((0.125, 0.1, 0.1, 0.125), (5.0, 10.0, 10.0, 5.0))

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Eq. 2, with x = (h, l, t, b) in inches, for 6000 lb at 14 in."""
        h, length, t, b = x
        f = [1.10471 * h**2 * length + 0.04811 * t * b * (14 + length), 2.1952 / (t**3 * b)]
        arm2 = 0.25 * (length**2 + (h + t) ** 2)
        tau1 = 6000 / (np.sqrt(2) * h * length)
        polar = 2 * np.sqrt(0.5) * h * length * (length**2 / 12 + 0.25 * (h + t) ** 2)
        tau2 = 6000 * (14 + 0.5 * length) * np.sqrt(arm2) / polar
        tau = np.sqrt(tau1**2 + tau2**2 + length * tau1 * tau2 / np.sqrt(arm2))
        buckling = 64746.022 * (1 - 0.0282346 * t) * t * b**3
        g = [
            tau / 13600 - 1,  # shear stress
            504000 / (t**2 * b) / 30000 - 1,  # bending stress
            h / b - 1,
            1 - buckling / 6000,
        ]
        return np.array(f), np.array(g)


class DiscBrake(Analytic):
    """Tanabe and Ishibuchi 2020 (Applied Soft Computing 89), supplement, eqs. S.51 to S.56."""

    name = "disc-brake"
    objectives = ("mass", "stopping_time")
    learned = 1
    space = box((55.0, 75.0, 1000.0, 11.0), (80.0, 110.0, 3000.0, 20.0))

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Inner and outer radius, force, number of friction surfaces."""
        inner, outer, force, surfaces = x
        square, cube = outer**2 - inner**2, outer**3 - inner**3
        f = [4.9e-5 * square * (surfaces - 1), 9.82e6 * square / (force * surfaces * cube)]
        g = [
            1 - (outer - inner) / 20,  # S.53
            force / (3.14 * square) / 0.4 - 1,  # S.54
            # S.55; where the radii meet, there is no brake and nothing is allowed
            2.22e-3 * force * cube / square**2 - 1 if square > 0 else 1.0,
            1 - 2.66e-2 * force * surfaces * cube / square / 900 if square > 0 else 1.0,  # S.56
        ]
        return np.array(f), np.array(g)


class C2Dtlz2(Analytic):
    """Jain and Deb 2014 (IEEE TEVC 18(4), 602-622), section V-C: two objectives, r = 0.2.

    The objectives are DTLZ2's: Deb, Thiele, Laumanns and Zitzler 2002. The paper prints ``max``
    for the outer operator where its text and its figure 7 mean ``min``: inside the circles.
    """

    name = "c2-dtlz2"
    space = box((0.0,) * 6, (1.0,) * 6)

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """On a quarter circle, only three arcs of it are feasible."""
        distance = 1 + ((x[1:] - 0.5) ** 2).sum()
        f = distance * np.array([np.cos(x[0] * np.pi / 2), np.sin(x[0] * np.pi / 2)])
        corners = min((f[0] - 1) ** 2 + f[1] ** 2, (f[1] - 1) ** 2 + f[0] ** 2)
        middle = ((f - 1 / np.sqrt(2)) ** 2).sum()
        return f, np.array([min(corners, middle) / 0.2**2 - 1])


class Mw7(Analytic):
    """Ma and Wang 2019 (IEEE TEVC 23(6), 972-986), problem MW7, with six variables."""

    name = "mw7"
    space = box((0.0,) * 6, (1.0,) * 6)

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """A quarter circle between two rippled ones."""
        g3 = 1 + (2 * (x[1:] + (x[:-1] - 0.5) ** 2 - 1) ** 2).sum()
        f = np.array([g3 * x[0], g3 * np.sqrt(1 - x[0] ** 2)])
        angle, radius2 = np.arctan2(f[1], f[0]), (f**2).sum()
        outer = 1.2 + np.abs(0.4 * np.sin(4 * angle) ** 16)
        inner = 1.15 - 0.2 * np.sin(4 * angle) ** 8
        return f, np.array([radius2 / outer**2 - 1, 1 - radius2 / inner**2])


class SpeedReducer(Analytic):
    """Tanabe and Ishibuchi 2020 (Applied Soft Computing 89), supplement, eqs. S.61 to S.73.

    Golinski's gear box; the original of two objectives is Kurpati, Azarm and Wu 2002.
    """

    name = "speed-reducer"
    objectives = ("volume", "stress")
    space = box((2.6, 0.7, 17, 7.3, 7.3, 2.9, 5.0), (3.6, 0.8, 28, 8.3, 8.3, 3.9, 5.5))

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """The third variable counts teeth."""
        x1, x2, x3, x4, x5, x6, x7 = x
        volume = (
            0.7854 * x1 * x2**2 * (10 * x3**2 / 3 + 14.933 * x3 - 43.0934)
            - 1.508 * x1 * (x6**2 + x7**2)
            + 7.477 * (x6**3 + x7**3)
            + 0.7854 * (x4 * x6**2 + x5 * x7**2)
        )  # S.61
        first = np.sqrt((745 * x4 / (x2 * x3)) ** 2 + 1.69e7) / (0.1 * x6**3)  # S.62
        second = np.sqrt((745 * x5 / (x2 * x3)) ** 2 + 1.575e8) / (0.1 * x7**3)
        g = [
            27 / (x1 * x2**2 * x3) - 1,  # S.63
            397.5 / (x1 * x2**2 * x3**2) - 1,  # S.64
            1.93 * x4**3 / (x2 * x3 * x6**4) - 1,  # S.65
            1.93 * x5**3 / (x2 * x3 * x7**4) - 1,  # S.66
            x2 * x3 / 40 - 1,  # S.67
            x1 / x2 / 12 - 1,  # S.68
            1 - x1 / x2 / 5,  # S.69
            (1.9 + 1.5 * x6) / x4 - 1,  # S.70
            (1.9 + 1.1 * x7) / x5 - 1,  # S.71
            first / 1300 - 1,  # S.72
            second / 1100 - 1,  # S.73
        ]
        return np.array([volume, first]), np.array(g)


ANALYTIC: tuple[type[Analytic], ...] = (
    Osy,
    Tnk,
    WeldedBeam,
    DiscBrake,
    C2Dtlz2,
    Mw7,
    SpeedReducer,
)
