"""From structure factors to the intensities of one frame on the grid of orientation spread × thickness.

The incoherent sum lives here: I_h = Σ over tilts, y and t of w_α w_y w_t |ψ_h(α, y, t)|². The cube (J, M, T) is summed
over the tilts only; scale, spread, centre and thickness law are weights on it (see :mod:`edtbx.nuisance`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edtbx.experiment import ComplexArray, Experiment, FloatArray, Frame, IntArray
from edtbx.geometry import excitation_error, frame_vectors, rotate
from edtbx.potential import GVectors, scatter, surface_term, u_per_f
from edtbx.quadrature import Quadrature
from edtbx.solvers.block import Block, Solver


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameWaves:
    """All that one frame needs and that does not depend on the structure.

    ``differences`` (N, N) point from its beams into the g vectors; ``g`` (N, 3) are the beams in the lab frame;
    ``wanted`` (M,) those of its reflections; ``wavenumber`` is K in Å⁻¹ inside the crystal, ``scale`` is U per F.
    """

    differences: IntArray
    g: FloatArray
    wanted: IntArray
    rows: tuple[tuple[FloatArray, FloatArray], ...]
    scale: float
    wavenumber: float
    s_max: float

    @classmethod
    def prepare(
        cls,
        experiment: Experiment,
        frame: Frame,
        hkl: IntArray,
        *,
        vectors: GVectors,
        quadrature: Quadrature,
        s_max: float,
        wavenumber: float,
    ) -> FrameWaves:
        """For the reflections hkl (M, 3) of a frame; beams with |g| ≤ g_max that come within |S_g| ≤ s_max."""
        rows = tuple(quadrature.orientations(experiment.geometry, frame.semi_angle))
        beams = choose_beams(experiment, frame, rows, vectors=vectors, s_max=s_max, wavenumber=wavenumber, always=hkl)
        order = {tuple(h): n for n, h in enumerate(beams.tolist())}
        return cls(
            differences=vectors.differences(beams),
            g=frame_vectors(experiment, frame, beams),
            wanted=np.array([order[tuple(h)] for h in hkl.tolist()], dtype=np.int64),
            rows=rows,
            scale=u_per_f(experiment.cell, experiment.wavelength),
            wavenumber=wavenumber,
            s_max=s_max,
        )

    def at(self, nodes: IntArray) -> FrameWaves:
        """The same with some of the y nodes only."""
        return replace(self, rows=tuple(self.rows[j] for j in nodes))

    def blocks(self, f: ComplexArray, thickness: FloatArray) -> Iterator[Block]:
        """One block for each y node, for structure factors f (G,) in Å."""
        u = self.scale * f[self.differences]
        squares = np.sum(self.g * self.g, axis=1)
        for x, y in self.rows:
            s_g = excitation_error(rotate(self.g, x, y), self.wavenumber)
            yield Block(
                u=u,
                s_g=s_g,
                surface=surface_term(s_g, squares, self.wavenumber),
                weights=np.full(len(x), 1.0 / len(x)),
                wanted=self.wanted,
                thickness=thickness,
                wavenumber=self.wavenumber,
                s_max=self.s_max,
            )

    def cube(self, solver: Solver, f: ComplexArray, thickness: FloatArray) -> FloatArray:
        """Intensities (J, M, T) of the frame's reflections at every y node and thickness."""
        return np.stack([solver.intensities(block) for block in self.blocks(f, thickness)])

    def adjoint(self, solver: Solver, f: ComplexArray, thickness: FloatArray, seed: FloatArray) -> ComplexArray:
        """∂T/∂Re F + i ∂T/∂Im F (G,) of T = Σ seed · cube, for a seed (J, M, T)."""
        total = np.zeros(self.differences.shape, dtype=complex)
        for block, part in zip(self.blocks(f, thickness), seed, strict=True):
            if np.any(part):
                used = np.flatnonzero(np.any(part, axis=0))
                total += solver.adjoint(_at(block, used), part[:, used])
        return self.scale * scatter(self.differences, total, len(f))


def _at(block: Block, used: IntArray) -> Block:
    """The block at some of its thicknesses only."""
    return replace(block, thickness=block.thickness[used])


def choose_beams(
    experiment: Experiment,
    frame: Frame,
    rows: tuple[tuple[FloatArray, FloatArray], ...],
    *,
    vectors: GVectors,
    s_max: float,
    wavenumber: float,
    always: IntArray,
) -> IntArray:
    """Indices (N, 3) of the beams of a frame, 000 first.

    Those with |g| ≤ g_max that come within |S_g| ≤ s_max in at least one of the frame's orientations, and the ``always``
    ones. The orientations visited span a narrow rectangle in (x, y), over which S_g is linear to 1e-5 Å⁻¹: its
    corners and the scan's ends decide.
    """
    candidates = vectors.hkl
    g = frame_vectors(experiment, frame, candidates)
    inside = np.sum(g * g, axis=1) <= vectors.g_max**2
    candidates, g = candidates[inside], g[inside]
    x_end = max(np.abs(x).max() for x, _ in rows)
    y_end = max(np.abs(y).max() for _, y in rows)
    corners = excitation_error(
        rotate(g, x_end * np.array([-1.0, -1.0, 1.0, 1.0]), y_end * np.array([-1.0, 1.0, -1.0, 1.0])), wavenumber
    )
    near = (corners.min(axis=0) <= s_max) & (corners.max(axis=0) >= -s_max)
    others = np.unique(np.concatenate([candidates[near], always]), axis=0)
    return np.concatenate([np.zeros((1, 3), dtype=np.int64), others[np.any(others != 0, axis=1)]])
