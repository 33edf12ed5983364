"""The solver under test, and how far it is from what is expected of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.solvers.block import Block, Solver
from edtbx.testing.crystal import copied, random_block
from edtbx.testing.reference import MODELS, Model, recognised, relative


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One comparison: the error, what is allowed, and in words what is wrong (nothing, if empty)."""

    error: float = 0.0
    allowed: float = 0.0
    problem: str = ""

    @classmethod
    def measured(cls, error: float, allowed: float, *, unit: str, limit: str, cause: str) -> Finding:
        """An error, what it is a part of, and where its limit comes from; a problem if it exceeds that, or is no number."""
        if error <= allowed:
            return cls(error=error, allowed=allowed)
        problem = f"off by {error:.1e} of {unit}; allowed are {allowed:.1e}, {limit}; {cause}"
        return cls(error=error, allowed=allowed, problem=problem)

    @classmethod
    def wrong(cls, problem: str) -> Finding:
        """What cannot be told in numbers."""
        return cls(error=math.inf, problem=problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A solver, what it says of itself, and the error of an intensity that it may make."""

    solver: Solver
    approximation: str | None
    tolerance: float

    @property
    def model(self) -> Model:
        """What the solver has to agree with."""
        return MODELS[self.approximation]

    def asked(self, block: Block) -> Block:
        """The block with all beams wanted, but for the incident one where an approximation knows nothing of it."""
        return replace(block, wanted=np.arange(0 if self.approximation is None else 1, len(block.u)))

    def block(self, seed: int = 0, *, inclined: bool = False, centric: bool = False, tilts: int = 3) -> Block:
        """A random block that suits the solver; where it is inclined, M_g differs from 1 by per cents."""
        wavenumber = 9.0 if inclined else 40.0
        block = random_block(seed, wavenumber=wavenumber, centric=centric, tilts=tilts, tolerance=self.tolerance)
        return self.asked(block)

    def intensities(self, block: Block) -> FloatArray:
        """Intensities (J, M, T) of a copy of the block, so that no check suffers from what another found."""
        return np.array(self.solver.intensities(copied(block)))

    def compared(self, block: Block, intensities: FloatArray, expected: FloatArray, cause: str) -> Finding:
        """Intensities of a block against others; a difference has a usual mistake as its cause if one fits, or ``cause``."""
        if intensities.shape != expected.shape:
            return Finding.wrong(f"the shape is {intensities.shape}, {expected.shape} was expected")
        error, allowed = relative(intensities, expected, block), 2.0 * self.tolerance
        mistake = recognised(self.model, block, intensities, error) if not error <= allowed else ""
        return Finding.measured(
            error,
            allowed,
            unit="the incident flux",
            limit="twice the tolerance, for two results are compared",
            cause=f"it is just what this mistake gives: {mistake}" if mistake else f"the usual cause: {cause}",
        )

    def as_expected(self, block: Block, cause: str) -> Finding:
        """The intensities of a block against those of the model."""
        return self.compared(block, self.intensities(block), self.model(block), cause)
