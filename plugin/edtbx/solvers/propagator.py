"""Fast solver: the waves of neighbouring orientations in one Chebyshev series, weak beams folded into strong ones.

A_gh = (U_gh − folding) M_g M_h, A_gg = 2 K S_g M_g² + folding; only the diagonals differ from one orientation to the
next, so that every term of exp(iπ t A/K) e_0 is one matrix product for all of a group (:mod:`edtbx.solvers.chebyshev`),
and all thicknesses come from one series. Costs O(n² B L) for B orientations, n strong beams and L ≈ π t ρ/K terms,
where 2ρ is the width of the spectrum; n and ρ shrink with the group and with ``s_strong``. The adjoint costs two more
such series. Where the coupling is real (centrosymmetric crystals), so are all terms: a quarter of the operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edtbx.experiment import FloatArray, IntArray
from edtbx.solvers import chebyshev
from edtbx.solvers.block import Adjoint, Block, Coupling, Pullback
from edtbx.solvers.folding import Group, cheapest_groups

AnyArray: TypeAlias = NDArray[Any]
"""Single or double precision, real or complex."""

_MARGIN = 0.01
"""By how much the interval of the series exceeds the estimated spectrum, as a part of it: outside terms explode."""

_SINGLE = 3e-7
"""Tolerance above which single precision does: its rounding over some hundred terms stays below 1e-6 of the beam."""

_KEPT_BYTES = 250_000_000
"""Most bytes of terms that a block keeps for the way back; where it is more they are computed again."""

_ROW_BYTES = 60_000_000
"""Most bytes of rows of a Jacobian that are held at a time."""

_MOST_ROWS = 32
"""Most such rows: more would not make the products any faster."""

_FEWEST = 6
"""Orientations that a group should hold: narrower products are slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PropagatorSolver:
    """Block Chebyshev propagation.

    Attributes
    ----------
    precision : str
        "single", "double", or "auto": single where the tolerance of the block allows it.
    """

    precision: str = "auto"
    folds: ClassVar[bool] = True

    def intensities(self, block: Block) -> FloatArray:
        """Σ_b w_jb I_h(b, t), shape (J, M, T)."""
        total = np.zeros((len(block.weights), len(block.wanted), len(block.thickness)))
        for group, series in self._series(block):
            total[:, group.asked] += _summed(series.waves(series.picked()), block, group)
        return total

    def adjoint(self, block: Block, seed: FloatArray) -> Adjoint:
        """Derivatives of T = Σ seed · intensities."""
        return self._way_back(block, ((group, series, series.terms()) for group, series in self._series(block)), seed)

    def pullback(self, block: Block) -> tuple[FloatArray, Pullback]:
        """Intensities, and the way back, for which all terms are kept where they are few enough."""
        kept = list(self._series(block))
        if sum(series.size for _, series in kept) > _KEPT_BYTES:
            return self.intensities(block), partial(self.adjoint, block)
        total = np.zeros((len(block.weights), len(block.wanted), len(block.thickness)))
        with_terms = []
        for group, series in kept:
            terms = series.terms()
            total[:, group.asked] += _summed(series.waves(terms[:, series.rows]), block, group)
            with_terms.append((group, series, terms))
        return total, partial(self._way_back, block, with_terms)

    def jacobian_rows(self, block: Block, seed: FloatArray) -> Iterator[tuple[int, Coupling]]:
        """∂/∂u of Σ_jt seed_jt I_m(j, t), beam by beam, those that are strong in the same groups side by side.

        Costs some 2 m + 1 forward passes of a group with m of the wanted beams, and holds a few of the rows at a time.
        """
        u = self._working(block)
        parts = list(self._series(block))
        where = np.full(len(block.wanted), len(parts))
        for number, (group, _) in reversed(list(enumerate(parts))):
            where[group.asked] = number
        at_once = max(1, min(_MOST_ROWS, _ROW_BYTES // u.nbytes))
        order = np.argsort(where, kind="stable")
        for chunk in np.split(order, range(at_once, len(order), at_once)):
            total = np.zeros((len(chunk), *u.shape), dtype=u.dtype)
            for group, series in parts:
                picked = np.flatnonzero(np.isin(group.asked, chunk))
                if not len(picked):
                    continue
                seed_of_flux = (seed.T @ block.weights[:, group.orientations])[:, None, :]
                by_coupling = series.adjoint_rows(series.terms(), picked, seed_of_flux)
                for place, each in zip(group.asked[picked], by_coupling, strict=True):
                    group.collect(u, each, total[np.flatnonzero(chunk == place)[0]])
            for place, row in zip(chunk, total, strict=True):
                np.fill_diagonal(row, 0.0)
                yield int(place), row.astype(block.u.dtype)

    def _way_back(self, block: Block, parts: Iterable[tuple[Group, _Series, AnyArray]], seed: FloatArray) -> Adjoint:
        u = self._working(block)
        by_u, by_s = np.zeros_like(u), np.zeros_like(block.s_g)
        for group, series, terms in parts:
            weights = block.weights[:, group.orientations]
            seed_of_flux = np.einsum("jmt,jb->tmb", seed[:, group.asked], weights, optimize=True)
            by_coupling, by_diagonal = series.adjoint(terms, seed_of_flux)
            by_inverse = group.collect(u, by_coupling, by_u)
            m = block.surface[np.ix_(group.orientations, group.strong)]
            by_s[np.ix_(group.orientations, group.strong)] += 2.0 * block.wavenumber * m * m * by_diagonal.T
            weak = np.ix_(group.orientations, group.weak)
            by_s[weak] -= by_inverse * 0.5 / (block.wavenumber * block.s_g[weak] ** 2 * len(group.orientations))
        np.fill_diagonal(by_u, 0.0)
        return Adjoint(u=by_u.astype(block.u.dtype), s_g=by_s)

    def _series(self, block: Block) -> Iterator[tuple[Group, _Series]]:
        """The series of every group with something to compute."""
        u = self._working(block)
        groups = [group for group in cheapest_groups(block, _FEWEST) if len(group.asked)]
        bounds = _bounds(u, groups)
        for group in groups:
            yield group, _Series.of(block, group, u, bounds)

    def _working(self, block: Block) -> AnyArray:
        """The coupling in the precision that will do."""
        if self.precision == "single" or (self.precision == "auto" and block.accuracy.tolerance > _SINGLE):
            return block.u.astype(np.complex64 if np.iscomplexobj(block.u) else np.float32)
        return block.u


def _summed(waves: AnyArray, block: Block, group: Group) -> AnyArray:
    """Sums (J, m, T) over the orientations of a group of the fluxes of its waves (T, m, B)."""
    flux = waves.real**2 + waves.imag**2
    weights = block.weights[:, group.orientations].astype(flux.dtype)
    return np.moveaxis(flux @ weights.T, (2, 1, 0), (0, 1, 2))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Series:
    """The series of one group: A = radius · (m a m + diag(d)) + centre.

    ``a`` (n, n) is shared, the columns of ``m`` and ``d`` (n, w) belong to the orientations, ``rows`` (m,) are the
    wanted beams, ``coefficients`` (L, T) the factors of the terms at every thickness, those of odd terms times −i.
    """

    a: AnyArray
    m: AnyArray
    d: AnyArray
    radius: float
    rows: IntArray
    coefficients: AnyArray

    @classmethod
    def of(cls, block: Block, group: Group, u: AnyArray, bounds: tuple[float, float]) -> _Series:
        coupling = group.coupling(u)
        s_g = block.s_g[np.ix_(group.orientations, group.strong)].T
        m = block.surface[np.ix_(group.orientations, group.strong)].T
        diagonal = (2.0 * block.wavenumber * s_g + coupling.diagonal().real[:, None]) * m * m
        np.fill_diagonal(coupling, 0.0)
        folded = coupling - u[np.ix_(group.strong, group.strong)]
        np.fill_diagonal(folded, 0.0)
        reach = float(np.linalg.norm(folded))
        low, high = ((bound + side) * float(m.max()) ** 2 for bound, side in zip(bounds, (-reach, reach), strict=True))
        low, high = min(low, 0.0) + float(diagonal.min()), max(high, 0.0) + float(diagonal.max())
        centre, radius = 0.5 * (low + high), 0.5 * (high - low) * (1.0 + _MARGIN) + 1e-12
        kind, columns = u.real.dtype, 2 if np.iscomplexobj(u) else 1
        return cls(
            a=np.ascontiguousarray(coupling / kind.type(radius)),
            m=np.repeat(m, columns, axis=1).astype(kind),
            d=np.repeat((diagonal - centre) / radius, columns, axis=1).astype(kind),
            radius=radius,
            rows=group.rows,
            coefficients=_coefficients(
                np.pi * block.thickness * radius / block.wavenumber, block.accuracy.tolerance, kind
            ),
        )

    @property
    def _columns(self) -> int:
        """Real columns an orientation: two where the coupling is complex."""
        return 2 if np.iscomplexobj(self.a) else 1

    @property
    def _start(self) -> AnyArray:
        """The incident wave (n, w)."""
        wave = np.zeros_like(self.d)
        wave[0, :: self._columns] = 1.0
        return wave

    @property
    def size(self) -> int:
        """Bytes of all terms."""
        return len(self.coefficients) * self.d.nbytes

    def picked(self) -> AnyArray:
        """The wanted rows of all terms, (L, m, w)."""
        return np.asarray(
            chebyshev.picked_terms(self.a, self.m, self.d, self._start, self.rows, len(self.coefficients))
        )

    def terms(self) -> AnyArray:
        """All terms, (L, n, w)."""
        return np.asarray(chebyshev.all_terms(self.a, self.m, self.d, self._start, len(self.coefficients)))

    def waves(self, picked: AnyArray) -> AnyArray:
        """ψ (T, m, B) of the wanted beams, up to a phase, from their rows of all terms (L, m, w)."""
        parts = [
            (self.coefficients[first::2].T @ picked[first::2].reshape(-1, picked[0].size)).view(self.a.dtype)
            for first in (0, 1)
        ]
        return (parts[0] + 1j * parts[1]).reshape(len(parts[0]), picked.shape[1], -1)

    def adjoint(self, terms: AnyArray, seed: AnyArray) -> tuple[AnyArray, AnyArray]:
        """∂T/∂coupling (n, n), its diagonal included, and ∂T/∂A_gg (n, B), for a seed (T, m, B) of the fluxes."""
        seeds = self._seeds(terms[:, self.rows], seed)
        by_a, by_d = chebyshev.adjoint_terms(self._a_adjoint, self.m, self.d, terms, self.rows, seeds)
        np.fill_diagonal(by_a, np.sum(by_d * self.m**2, axis=1))
        by_d = by_d.reshape(len(by_d), -1, self._columns).sum(axis=2)
        return by_a / by_d.dtype.type(self.radius), by_d / self.radius

    def adjoint_rows(self, terms: AnyArray, picked: IntArray, seed: AnyArray) -> AnyArray:
        """∂T_r/∂coupling (R, n, n) of some of the wanted beams, each with the seed (T, 1, B) of its own flux."""
        rows = self.rows[picked]
        by_a = chebyshev.adjoint_rows(self._a_adjoint, self.m, self.d, terms, rows, self._seeds(terms[:, rows], seed))
        return np.asarray(by_a / self.d.dtype.type(self.radius))

    @property
    def _a_adjoint(self) -> AnyArray:
        return np.ascontiguousarray(self.a.conj().T)

    def _seeds(self, picked: AnyArray, seed: AnyArray) -> AnyArray:
        """∂T/∂(picked terms) (L, m, w) for a seed (T, m, B) of the fluxes."""
        waves = self.waves(picked)
        bar = (2.0 * seed * waves).astype(waves.dtype)
        by_term = (self.coefficients @ bar.reshape(len(bar), -1)).reshape(-1, *bar.shape[1:])
        by_term[1::2] *= -1j
        # terms of a real coupling are real, and so is what they ask of their derivatives
        return np.ascontiguousarray(by_term.view(self.d.dtype) if self._columns == 2 else by_term.real)


def _coefficients(arguments: FloatArray, tolerance: float, kind: np.dtype[Any]) -> AnyArray:
    """(2 − δ_k0) i^k J_k (L, T), odd terms times −i."""
    length = chebyshev.series_length(float(arguments.max()), 0.1 * tolerance)
    table = 2.0 * chebyshev.bessel(arguments, length)
    table[0] *= 0.5
    table[2::4] *= -1.0
    table[3::4] *= -1.0
    return np.asarray(table.astype(kind))


def _bounds(u: AnyArray, groups: list[Group], steps: int = 8) -> tuple[float, float]:
    """Bounds on the eigenvalues of the coupling of any of the groups, without what folding adds (that is bounded by its
    norm).

    Eigenvalues of a part lie between those of the whole, here of all beams that are strong in some group: Ritz values
    of a few Lanczos steps, and their residual. The start is the sum of the rows, rich in the extreme vectors of a
    potential, and a ripple so that symmetry hides none.
    """
    beams = np.unique(np.concatenate([group.strong for group in groups])) if groups else np.zeros(1, dtype=int)
    matrix = u[np.ix_(beams, beams)]
    np.fill_diagonal(matrix, 0.0)
    n = len(matrix)
    vector = matrix @ np.ones(n) + np.linalg.norm(matrix) / n * np.cos(np.arange(n) * 1.7)
    basis: list[AnyArray] = []
    alpha: list[float] = []
    beta: list[float] = []
    for _ in range(min(steps, n)):
        norm = float(np.linalg.norm(vector))
        if norm <= 1e-14:
            break
        beta.append(norm)
        basis.append(vector / norm)
        vector = matrix @ basis[-1]
        alpha.append(float(np.vdot(basis[-1], vector).real))
        kept = np.array(basis)
        vector = vector - kept.T @ (kept.conj() @ vector)
    if not basis:
        return 0.0, 0.0
    values, vectors = np.linalg.eigh(np.diag(alpha) + np.diag(beta[1:], 1) + np.diag(beta[1:], -1))
    residual = float(np.linalg.norm(vector)) * np.abs(vectors[-1])
    return float(values[0] - residual[0]), float(values[-1] + residual[-1])
