"""Bethe folding: weak beams folded into the strong ones, for groups of neighbouring orientations.

A beam that stays away from its Bragg position in all orientations of a group follows the strong ones adiabatically. To
second order (Bethe) it changes their coupling to U_ss − U_sw ⟨1/(2 K S_w)⟩ U_ws, ⟨⟩ being the mean over the group: the
surface terms of the weak beams cancel. Its own wave is, to first order and from nothing at the entrance face,
ψ_w(θ) = −M_w/D_w · (Σ_s U_ws M_s ψ_s(θ) − e^{iθD_w} U_w0), D_w = 2 K S_w M_w²: the tail of a rocking curve, of which cutting
it at 0.0075 Å⁻¹ takes a few per cent of an intensity.

References
----------
H. Bethe, Ann. Phys. 392, 55 (1928), doi:10.1002/andp.19283921704, section 13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.solvers.block import Block, Coupling

_TAIL = 0.5
"""Part of ``s_max`` to which the tails of rocking curves are followed: the rest adds less than the beams beyond ``s_max``
change."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Group:
    """Orientations (B,) of a block that are propagated together, with their strong beams (n,) and weak ones (w,).

    ``inverse`` (w,) is ⟨1/(2 K S_w)⟩; ``following`` (v,) are those of the weak beams whose waves are wanted; ``asked``
    (m + v,) are places among the wanted beams, of m strong ones, whose ``rows`` (m,) these are among the strong, then of the
    following. The intensity of any other wanted beam is left out.
    """

    orientations: IntArray
    strong: IntArray
    weak: IntArray
    following: IntArray
    inverse: FloatArray
    asked: IntArray
    rows: IntArray

    @classmethod
    def of(cls, block: Block, orientations: IntArray) -> Group:
        """Group of the given orientations (B,) of a block."""
        extent = _extent(block.s_g, orientations)
        are_strong, are_weak = _strong_and_weak(block, *extent)
        asked = np.flatnonzero(are_strong[block.wanted])
        tails = np.flatnonzero(_followed(block, are_weak, *extent))
        weak = np.flatnonzero(are_weak)
        s_g = block.s_g[np.ix_(orientations, weak)]
        return cls(
            orientations=orientations,
            strong=np.flatnonzero(are_strong),
            weak=weak,
            following=block.wanted[tails],
            inverse=np.mean(0.5 / (block.wavenumber * s_g), axis=0),
            asked=np.concatenate([asked, tails]),
            rows=(np.cumsum(are_strong) - 1)[block.wanted[asked]],
        )

    def coupling(self, u: Coupling) -> Coupling:
        """Folded coupling U_ss − U_sw ⟨1/(2 K S_w)⟩ U_ws (n, n) in Å⁻², and below it U_vs (v, n) of the following beams.

        In the precision of u; the diagonal is the shift by folding.
        """
        whole = _gathered(u, np.concatenate([self.strong, self.following]), self.strong)
        inner = whole[: len(self.strong)]
        np.fill_diagonal(inner, 0.0)
        if not len(self.weak):
            return whole
        right = _gathered(u, self.weak, self.strong)
        left = _gathered(u, self.strong, self.weak)
        left *= self.inverse.astype(u.real.dtype)
        inner -= left @ right
        return np.asarray(whole)

    def collect(self, u: Coupling, by_coupling: Coupling, total: Coupling) -> FloatArray:
        """∂T/∂inverse (w,), from ∂T/∂coupling (n + v, n); ∂T/∂u (N, N) is added to a total."""
        _add_at(total, self.following, self.strong, by_coupling[len(self.strong) :])
        by_coupling = by_coupling[: len(self.strong)]
        inner = by_coupling.copy()
        np.fill_diagonal(inner, 0.0)
        _add_at(total, self.strong, self.strong, inner)
        if not len(self.weak):
            return np.zeros(0)
        inverse = self.inverse.astype(u.real.dtype)
        left = _gathered(u, self.strong, self.weak)
        by_left = by_coupling @ _gathered(u, self.weak, self.strong).conj().T
        by_inverse = -np.einsum("sw,sw->w", left.conj(), by_left).real
        by_left *= -inverse
        _add_at(total, self.strong, self.weak, by_left)
        left *= -inverse
        _add_at(total, self.weak, self.strong, (by_coupling.conj().T @ left).conj().T)
        return np.asarray(by_inverse, dtype=float)


@njit(nogil=True, cache=True)
def _gathered(u: Coupling, rows: IntArray, columns: IntArray) -> Coupling:
    """Matrix u[rows, columns]; several times faster than numpy's."""
    gathered = np.empty((len(rows), len(columns)), dtype=u.dtype)
    for i in range(len(rows)):
        for j in range(len(columns)):
            gathered[i, j] = u[rows[i], columns[j]]
    return gathered


@njit(nogil=True, cache=True)
def _add_at(total: Coupling, rows: IntArray, columns: IntArray, values: Coupling) -> None:
    """total[rows, columns] += values."""
    for i in range(len(rows)):
        for j in range(len(columns)):
            total[rows[i], columns[j]] += values[i, j]


def cheapest_groups(block: Block, fewest: int) -> list[Group]:
    """Groups of neighbouring orientations, halved as long as that makes the whole cheaper.

    Small groups have fewer strong beams and shorter series; ``fewest`` orientations are the least a group should hold.
    S_g is linear in the two angles of an orientation to 1e-5 Å⁻¹, so two beams tell where an orientation stands.
    """
    all_orientations = np.arange(len(block.s_g))
    parts = _halved(block, _coordinates(block.s_g), all_orientations, _cost(block, all_orientations), fewest)
    return [Group.of(block, orientations) for orientations in parts]


def _halved(block: Block, coordinates: FloatArray, orientations: IntArray, cost: float, fewest: int) -> list[IntArray]:
    """Orientations in parts: halved, and halved again, as long as the halves cost less than the whole."""
    if len(orientations) < 2 * fewest:
        return [orientations]
    along = int(np.argmax(np.ptp(coordinates[orientations], axis=0)))
    order = orientations[np.argsort(coordinates[orientations, along], kind="stable")]
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    costs = [_cost(block, half) for half in halves]
    if sum(costs) > cost:
        return [orientations]
    pairs = zip(halves, costs, strict=True)
    return [part for half, half_cost in pairs for part in _halved(block, coordinates, half, half_cost, fewest)]


def _strong_and_weak(block: Block, low: FloatArray, high: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Masks (N,) of the beams propagated and of those folded, for the range (N,) of their S_g; 000 is always strong."""
    counts = (low <= block.accuracy.s_max) & (high >= -block.accuracy.s_max)
    strong = counts & (low <= block.accuracy.s_strong) & (high >= -block.accuracy.s_strong)
    strong[0] = True
    return strong, counts & ~strong


def _followed(block: Block, are_weak: BoolArray, low: FloatArray, high: FloatArray) -> BoolArray:
    """Mask (M,) of the wanted beams that are weak and near enough for their own waves to count."""
    limit, wanted = _TAIL * block.accuracy.s_max, block.wanted
    return np.asarray(are_weak[wanted] & (low[wanted] <= limit) & (high[wanted] >= -limit))


def _cost(block: Block, orientations: IntArray) -> float:
    """Multiplications that a group takes, up to a factor: terms, folding, and a constant overhead."""
    low, high = _extent(block.s_g, orientations)
    strong, weak = _strong_and_weak(block, low, high)
    terms = np.pi * float(block.thickness.max()) * (float(high[strong].max() - low[strong].min()) + 0.005) + 20.0
    n, following = np.count_nonzero(strong), np.count_nonzero(_followed(block, weak, low, high))
    return float(n * ((n + following) * (len(orientations) + 4.0) * terms + n * np.count_nonzero(weak)) + 4e7)


@njit(nogil=True, cache=True)
def _extent(s_g: FloatArray, orientations: IntArray) -> tuple[FloatArray, FloatArray]:
    """Least and greatest S_g (N,) in Å⁻¹ over the given orientations."""
    low, high = s_g[orientations[0]].copy(), s_g[orientations[0]].copy()
    for b in orientations:
        for n in range(s_g.shape[1]):
            low[n] = min(low[n], s_g[b, n])
            high[n] = max(high[n], s_g[b, n])
    return low, high


def _coordinates(s_g: FloatArray, enough: int = 100) -> FloatArray:
    """Two coordinates (B, 2) of every orientation, each the S_g that the most sensitive beam, of enough, has along it."""
    s_g = s_g[:, :: max(1, s_g.shape[1] // enough)]
    deviation = s_g - s_g.mean(axis=0)
    first = deviation[:, np.argmax(np.ptp(deviation, axis=0))]
    norm = float(first @ first)
    if norm == 0.0:
        return np.zeros((len(s_g), 2))
    rest = deviation - np.outer(first, first @ deviation / norm)
    return np.column_stack([first, rest[:, np.argmax(np.ptp(rest, axis=0))]])
