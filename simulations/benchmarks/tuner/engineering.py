"""Engineering designs under many limits, and functions of ten to twenty parameters.

Real-world problems as in Tanabe and Ishibuchi 2020 (Applied Soft Computing 89), whose functions
are cited from their first publications; limits are written as in :mod:`tuner.analytic`.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tuner.analytic import Analytic, Vector, box
from tuner.problem import WORST, Reference


class SideImpact(Analytic):
    """Jain and Deb 2014 (IEEE TEVC 18(4), 602-622), section VI-A: a car's crash from the side."""

    name = "side-impact"
    objectives = ("weight", "force", "velocity")
    learned = 2
    space = box((0.5, 0.45, 0.5, 0.5, 0.875, 0.4, 0.4), (1.5, 1.35, 1.5, 1.5, 2.625, 1.2, 1.2))

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Thicknesses of seven parts; ten limits."""
        x1, x2, x3, x4, x5, x6, x7 = x
        weight = 1.98 + 4.9 * x1 + 6.67 * x2 + 6.98 * x3 + 4.01 * x4 + 1.78 * x5
        weight += 1e-5 * x6 + 2.73 * x7
        force = 4.72 - 0.5 * x4 - 0.19 * x2 * x3
        pillar = 10.58 - 0.674 * x1 * x2 - 0.67275 * x2
        door = 16.45 - 0.489 * x3 * x7 - 0.843 * x5 * x6
        used = [
            (1.16 - 0.3717 * x2 * x4 - 0.0092928 * x3, 1.0),
            (0.261 - 0.0159 * x1 * x2 - 0.06486 * x1 - 0.019 * x2 * x7 + 0.0144 * x3 * x5
             + 0.0154464 * x6, 0.32),
            (0.214 + 0.00817 * x5 - 0.0587118 * x1 + 0.03099 * x2 * x6 - 0.018 * x2 * x7
             + 0.030408 * x3 - 0.00364 * x5 * x6 - 0.018 * x2**2, 0.32),
            (0.74 - 0.61 * x2 - 0.031296 * x3 - 0.031872 * x7 + 0.227 * x2**2, 0.32),
            (28.98 + 3.818 * x3 - 4.2 * x1 * x2 + 1.27296 * x6 - 2.68065 * x7, 32.0),
            (35.31728 + 2.95 * x3 - 5.057 * x1 * x2 - 3.795 * x2 - 3.4431 * x7, 32.0),
            (46.36 - 9.9 * x2 - 4.4505 * x1, 32.0),
            (force, 4.0),
            (pillar, 9.9),
            (door, 15.7),
        ]  # fmt: skip
        return np.array([weight, force, (pillar + door) / 2]), np.array(
            [u / c - 1 for u, c in used]
        )


class Ship(Analytic):
    """Parsons and Scott 2004 (Journal of Ship Research 48(1), 61-76): a bulk carrier."""

    name = "ship"
    objectives = ("cost", "light_mass", "-cargo")
    space = box((150.0, 20.0, 13.0, 10.0, 14.0, 0.63), (274.32, 32.31, 25.0, 11.71, 18.0, 0.75))

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Length, beam, depth, draft, speed and block coefficient."""
        length, beam, depth, draft, knots, block = x
        displaced = 1.025 * length * beam * draft * block
        froude = 0.5144 * knots / np.sqrt(9.8065 * length)
        a = 4977.06 * block**2 - 8105.61 * block + 4456.51
        b = -10847.2 * block**2 + 12817 * block - 6960.32
        power = displaced ** (2 / 3) * knots**3 / (a + b * froude)
        outfit = length**0.8 * beam**0.6 * depth**0.3 * block**0.1
        steel = 0.034 * length**1.7 * beam**0.7 * depth**0.4 * block**0.5
        light = steel + outfit + 0.17 * power**0.9
        capital = 0.2 * 1.3 * (2000 * steel**0.85 + 3500 * outfit + 2400 * power**0.8)
        mass = max(displaced - light, 1.0)
        days, daily = 5000 / 24 / knots, 0.19 * power * 24 / 1000 + 0.2
        cargo = mass - daily * (days + 5) - 2 * mass**0.5
        trips = 350 / (days + 2 * (cargo / 8000 + 0.5))
        voyages = (1.05 * daily * days * 100 + 6.3 * mass**0.8) * trips
        yearly = cargo * trips
        metacentre = 0.53 * draft + (0.085 * block - 0.002) * beam**2 / (draft * block)
        metacentre -= 1 + 0.52 * depth
        g = [
            1 - length / beam / 6,
            length / depth / 15 - 1,
            length / draft / 19 - 1,
            draft / (0.45 * mass**0.31) - 1,
            draft / (0.7 * depth + 0.7) - 1,
            1 - mass / 25_000,
            mass / 500_000 - 1,
            froude / 0.32 - 1,
            1 - metacentre / (0.07 * beam),
        ]
        return np.array(
            [(capital + 40_000 * mass**0.3 + voyages) / yearly, light, -yearly]
        ), np.array(g)


class Truss(Analytic):
    """Coello and Pulido 2005 (Structural and Multidisciplinary Optimization 30): four bars."""

    name = "truss"
    objectives = ("volume", "displacement")
    learned = 1
    space = box((1.0, 2**0.5, 2**0.5, 1.0), (3.0, 3.0, 3.0, 3.0))

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Cross sections, in cm²; the volume is limited to 2000 cm³."""
        x1, x2, x3, x4 = x
        volume = 200 * (2 * x1 + 2**0.5 * x2 + x3**0.5 + x4)
        bend = 0.01 * (2 / x1 + 2 * 2**0.5 / x2 - 2 * 2**0.5 / x3 + 2 / x4)
        return np.array([volume, bend]), np.array([volume / 2000 - 1])


class TwoBars(Analytic):
    """Coello and Pulido 2005, the truss of two bars (Tanabe and Ishibuchi 2020, CRE2-1-1)."""

    name = "two-bars"
    objectives = ("volume", "stress")
    learned = 1
    space = box((1e-5, 1e-5, 1.0), (0.01, 0.01, 3.0))

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Two cross sections in m² and a height in m."""
        x1, x2, x3 = x
        volume = x1 * np.sqrt(16 + x3**2) + x2 * np.sqrt(1 + x3**2)
        first = 20 * np.sqrt(16 + x3**2) / (x1 * x3)
        second = 80 * np.sqrt(1 + x3**2) / (x2 * x3)
        g = [volume / 0.1 - 1, first / 1e5 - 1, second / 1e5 - 1]
        return np.array([volume, max(first, second)]), np.array(g)


class Single(Analytic):
    """One objective of many parameters, least at 0, without limits and noise."""

    objectives = ("f",)
    trials: ClassVar[int] = 100
    noise = 0.0
    ordinary: ClassVar[float]
    """The mean of the objective over the space: worth next to nothing."""

    @property
    def reference(self) -> Reference:
        """From 0 to the mean over the space."""
        return Reference((0.0,), (self.ordinary,), WORST, "its least value, and its mean")


class Ackley(Single):
    """Ackley 1987; twenty parameters."""

    name = "ackley-20"
    ordinary = 21.3
    space = box((-32.768,) * 20, (32.768,) * 20)

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Least at 7.3, off the centre."""
        x = x - 7.3
        far = 20 * (1 - np.exp(-0.2 * np.sqrt((x**2).mean())))
        return np.array([far + np.e - np.exp(np.cos(2 * np.pi * x).mean())]), np.zeros(0)


class Levy(Single):
    """Levy's function no. 13 generalised (Laguna and Marti 2005); ten parameters."""

    name = "levy-10"
    ordinary = 121.0
    space = box((-10.0,) * 10, (10.0,) * 10)

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Least at 1."""
        w = 1 + (x - 1) / 4
        inner = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)
        last = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
        return np.array([np.sin(np.pi * w[0]) ** 2 + inner.sum() + last]), np.zeros(0)


class Rosenbrock(Single):
    """Rosenbrock 1960; twelve parameters."""

    name = "rosenbrock-12"
    ordinary = 3.68
    space = box((-2.048,) * 12, (2.048,) * 12)

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Least at 1, in a curved valley; the logarithm, as it spans decades."""
        value = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
        return np.array([np.log10(1 + value)]), np.zeros(0)


class StyblinskiTang(Single):
    """Styblinski and Tang 1990; fifteen parameters."""

    name = "styblinski-tang-15"
    ordinary = 35.0
    space = box((-5.0,) * 15, (5.0,) * 15)

    @staticmethod
    def formula(x: Vector) -> tuple[Vector, Vector]:
        """Least at -2.9035, 0 there; two dips a parameter."""
        return np.array([(x**4 - 16 * x**2 + 5 * x).mean() / 2 + 39.16617]), np.zeros(0)


ENGINEERING: tuple[type[Analytic], ...] = (
    SideImpact, Ship, Truss, TwoBars, Ackley, Levy, Rosenbrock, StyblinskiTang,
)  # fmt: skip
