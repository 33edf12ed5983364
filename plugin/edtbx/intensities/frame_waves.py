"""Intensities of one frame, from structure factors, on the grid of orientation spread × thickness.

The incoherent sum is I_h = Σ over tilts, y and t of w_α w_y w_t |ψ_h(α, y, t)|². The cube (J, M, T) is summed
over the tilts only; scale, spread, centre and thickness law are weights on it (see :mod:`edtbx.intensities.nuisance`).

References
----------
L. Palatinus, V. Petříček & C. A. Corrêa, Acta Cryst. A71, 235 (2015), doi:10.1107/S2053273315001266.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from edtbx.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from edtbx.execution.memory import FrameSize
from edtbx.intensities.local_jacobian import filled, local_jacobian
from edtbx.intensities.potential import GVectors, surface_term, u_per_f
from edtbx.intensities.quadrature import Orientations, Quadrature
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.geometry import excitation_error_slopes, excitation_errors, frame_vectors
from edtbx.measurement.stretches import Stretch
from edtbx.solvers.block import (
    Accuracy,
    Adjoint,
    Block,
    Solver,
)

_ROUNDING = 1e-12
"""Imaginary part, relative to the largest structure factor, that a centrosymmetric crystal's may have by rounding."""


class Rows(Enum):
    """Method for the rows of a Jacobian."""

    EXACT = "exact"
    """By the solver: an adjoint for every reflection."""

    LOCAL = "local"
    """From the beams near each orientation (:mod:`edtbx.intensities.local_jacobian`): a few forward passes for all
    reflections; off by 5 to 15 % of a row (root mean square)."""

    OWN = "own"
    """From one pass for all: by the structure factor of the own reflection alone, as in single scattering."""

    @classmethod
    def usual(cls, solver: Solver) -> Rows:
        """Method for a solver: local rows, unless it is an approximation on purpose."""
        return {None: cls.LOCAL, "kinematical": cls.OWN}.get(solver.approximation, cls.EXACT)


LOCAL = Accuracy(s_max=0.03, s_strong=0.003)
"""Beams of local rows: folded from 0.003 Å⁻¹ they err by 0.1 (urea) to 0.15 (CsPbBr3) of the length of a row, from 0.005 by
half as much for four times the cost."""

_ENOUGH, _LEAST_STRONG = 40, 0.0015
"""Strong beams of an orientation above which local rows take fewer, and the least |S_g| in Å⁻¹ that stays strong: at 0.0015
in place of 0.003, rows of paracetamol and abiraterone take a quarter of the time; gradients from them err by 0.20 and 0.19
s.u.s in place of 0.10 and 0.17."""

_CURVE = 0.8
"""Local rows hold a rocking curve at least out to this part of 1/(mean thickness): most of its main peak."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameWaves:
    """Beams and orientations of a frame, or of a stretch of a scan, which do not depend on the structure.

    ``hkl`` (N, 3) are the indices of its beams, 000 first, and ``g`` (N, 3) the beams in the lab frame; ``wanted`` (M,)
    are those of its reflections; ``wavenumber`` is K in Å⁻¹ inside the crystal, ``scale`` is U per F.
    """

    vectors: GVectors
    hkl: IntArray
    g: FloatArray
    wanted: IntArray
    orientations: Orientations
    scale: float
    wavenumber: float
    accuracy: Accuracy

    @classmethod
    def prepare(
        cls,
        experiment: Experiment,
        stretch: Stretch,
        hkl: IntArray,
        *,
        vectors: GVectors,
        candidates: IntArray,
        accuracy: Accuracy,
        wavenumber: float,
    ) -> FrameWaves:
        """Beams for reflections hkl (M, 3) in a stretch: these, and all candidates (C, 3) that come within |S_g| ≤ s_max.

        ``wavenumber`` is K in Å⁻¹ inside the crystal.
        """
        frame = stretch.frame
        quadrature = Quadrature(tilts=stretch.tilts, y=stretch.y, first=stretch.first)
        orientations = quadrature.orientations(experiment.geometry, frame.semi_angle)
        g = frame_vectors(experiment, frame, candidates)
        near = np.zeros(len(vectors.hkl), dtype=bool)
        near[vectors.find(candidates[_come_near(g, orientations, accuracy.s_max, wavenumber)])] = True
        near[vectors.find(hkl)] = True
        near[vectors.find(np.zeros(3, dtype=np.int64))] = False
        beams = np.concatenate([np.zeros((1, 3), dtype=np.int64), vectors.hkl[near]])
        place = np.cumsum(near)
        return cls(
            vectors=vectors,
            hkl=beams,
            g=frame_vectors(experiment, frame, beams),
            wanted=place[vectors.find(hkl)],
            orientations=orientations,
            scale=u_per_f(experiment.cell, experiment.wavelength),
            wavenumber=wavenumber,
            accuracy=accuracy,
        )

    def summed(self, over_y: FloatArray) -> FrameWaves:
        """The frame with K sums over the y nodes, of weights (K, J), in place of the nodes."""
        return replace(self, orientations=self.orientations.summed(over_y))

    def size(self, thicknesses: int, sums: int) -> FrameSize:
        """What the memory depends on, for so many thicknesses and sums over orientations."""
        return FrameSize(
            beams=len(self.g),
            orientations=len(self.orientations.x),
            nodes=sums,
            rows=len(self.wanted),
            thicknesses=thicknesses,
        )

    def strong_of_rows(self) -> float:
        """Greatest |S_g| in Å⁻¹ of the strong beams of local rows, less where these are many."""
        most = _ENOUGH / max(float(np.mean(np.count_nonzero(self._within(LOCAL.s_strong), axis=1))), 1.0)
        return min(max(_LEAST_STRONG, most * LOCAL.s_strong), LOCAL.s_strong)

    @property
    def work_of_rows(self) -> float:
        """Multiplications of local rows, up to a factor: n³ for each orientation and each of its strong reflections."""
        strong = self._within(self.strong_of_rows())
        return float(np.sum(np.count_nonzero(strong, axis=1) ** 3.0 * np.count_nonzero(strong[:, self.wanted], axis=1)))

    def _within(self, s: float) -> BoolArray:
        """Mask (B, N) of the beams with |S_g| ≤ s (Å⁻¹) in each orientation."""
        return np.abs(excitation_errors(self.g, self.orientations.x, self.orientations.y, self.wavenumber)) <= s

    def block(self, f: ComplexArray, thickness: FloatArray) -> Block:
        """Block for a solver, for structure factors f (G,) in Å and thicknesses (T,) in Å."""
        o = self.orientations
        s_g = excitation_errors(self.g, o.x, o.y, self.wavenumber)
        return Block(
            u=self.vectors.coupling(self.hkl, self.scale * (f.real if is_real(f) else f)),
            s_g=s_g,
            surface=surface_term(s_g, np.sum(self.g * self.g, axis=1), self.wavenumber),
            weights=o.weights,
            wanted=self.wanted,
            thickness=thickness,
            wavenumber=self.wavenumber,
            accuracy=self.accuracy,
        )

    def cube(self, solver: Solver, f: ComplexArray, thickness: FloatArray) -> FloatArray:
        """Intensities (J, M, T) of the frame's reflections at every y node and thickness."""
        return solver.intensities(self.block(f, thickness))

    def pullback(
        self, solver: Solver, f: ComplexArray, thickness: FloatArray
    ) -> tuple[FloatArray, Callable[[FloatArray], FrameGradient]]:
        """Cube (J, M, T), and the function from ∂T/∂cube to derivatives by F and by the orientation."""
        cube, block_pullback = solver.pullback(self.block(f, thickness))

        return cube, lambda seed: FrameGradient(waves=self, adjoint=block_pullback(seed))

    def gradient(self, solver: Solver, f: ComplexArray, thickness: FloatArray, seed: FloatArray) -> FrameGradient:
        """Derivatives from a seed ∂T/∂cube (J, M, T) that is known beforehand: cheaper than a pullback."""
        return FrameGradient(waves=self, adjoint=solver.adjoint(self.block(f, thickness), seed))

    def jacobian_rows(
        self, rows: Rows, solver: Solver, block: Block, seed: FloatArray
    ) -> Iterator[tuple[int, IntArray, ComplexArray]]:
        """Rows ∂/∂Re F + i ∂/∂Im F of Σ_jt seed_jt I_m(j, t): the place of m, the places of g (n,), the derivatives (n,).

        The block is the frame's own, from ``block``.
        """
        if rows is Rows.LOCAL:
            limit = block.accuracy.s_max
            strong = max(self.strong_of_rows(), _CURVE * float(np.sum(seed) / np.sum(seed @ block.thickness)))
            local = replace(block.accuracy, s_max=min(LOCAL.s_max, limit), s_strong=min(strong, limit))
            block = replace(block, accuracy=local)
            rows_by_u = local_jacobian(block, seed, self.vectors, self.hkl)
        elif rows is Rows.OWN:
            rows_by_u = self._own_rows(solver, block, seed)
        else:
            exact = solver.jacobian_rows(block, seed)
            rows_by_u = ((place, *filled(self.vectors.collect(self.hkl, row))) for place, row in exact)
        for place, where, row in rows_by_u:
            yield place, where, np.asarray(self.scale * row, dtype=complex)

    def _own_rows(self, solver: Solver, block: Block, seed: FloatArray) -> Iterator[tuple[int, IntArray, ComplexArray]]:
        by_u = solver.adjoint(block, np.repeat(seed[:, None, :], len(block.wanted), axis=1)).u
        where = self.vectors.find(-self.hkl[block.wanted])
        for place, beam in enumerate(block.wanted):
            yield place, where[place : place + 1], by_u[[beam], 0]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameGradient:
    """Derivatives of a function T of the intensities of a frame, from the adjoint of its block."""

    waves: FrameWaves
    adjoint: Adjoint

    @property
    def f(self) -> ComplexArray:
        """Gradient ∂T/∂Re F + i ∂T/∂Im F (G,); of real F it is ∂T/∂F."""
        waves = self.waves
        return np.asarray(waves.scale * waves.vectors.collect(waves.hkl, self.adjoint.u), dtype=complex)

    @property
    def orientation(self) -> tuple[float, float]:
        """Derivatives of T, per radian, by a turn of all orientations along the scan (x) and across it (y).

        The surface terms are held; they would add some 1e-5 of it.
        """
        o = self.waves.orientations
        by_x, by_y = excitation_error_slopes(self.waves.g, o.x, o.y)
        return float(np.sum(self.adjoint.s_g * by_x)), float(np.sum(self.adjoint.s_g * by_y))


def is_real(f: ComplexArray) -> bool:
    """Whether structure factors (G,), and with them the coupling, are real but for rounding."""
    return bool(np.all(np.abs(f.imag) <= _ROUNDING * np.abs(f).max()))


def _come_near(g: FloatArray, orientations: Orientations, s_max: float, wavenumber: float) -> BoolArray:
    """Mask (N,) of the vectors (N, 3) that come within |S_g| ≤ s_max (Å⁻¹) in at least one of the orientations.

    The orientations visited span a narrow rectangle in (x, y), over which S_g is linear to 1e-5 Å⁻¹: its corners decide.
    """
    x, y = orientations.x, orientations.y
    ends_x, ends_y = np.array([x.min(), x.max()]), np.array([y.min(), y.max()])
    corners = excitation_errors(g, np.tile(ends_x, 2), np.repeat(ends_y, 2), wavenumber)
    return np.asarray((corners.min(axis=0) <= s_max) & (corners.max(axis=0) >= -s_max))
