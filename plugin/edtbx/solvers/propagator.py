"""Chebyshev propagator: waves of neighbouring orientations in one series, weak beams folded into strong ones.

A_gh = (U_gh − folding) M_g M_h, A_gg = 2 K S_g M_g² + folding; only the diagonals differ from one orientation to the
next, so that every term of exp(iπ t A/K) e_0 is one matrix product for all of a group (:mod:`edtbx.solvers.chebyshev`),
and all thicknesses come from one series. Costs O(n (n + v) B L) for B orientations, n strong beams, v weak ones that are
wanted and follow them, and L ≈ π t ρ/K terms, where 2ρ is the width of the spectrum; n and ρ shrink with the group and with
``s_strong``. The adjoint costs two more such series. Where the coupling is real (centrosymmetric crystals), so are all
terms: a quarter of the operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edtbx.arrays import FloatArray, IntArray
from edtbx.solvers import chebyshev
from edtbx.solvers.block import Adjoint, Block, Pullback, Solver
from edtbx.solvers.folding import Group, cheapest_groups
from edtbx.solvers.precision import in_single, unit_phases

AnyArray: TypeAlias = NDArray[Any]
"""Single or double precision, real or complex."""

_MARGIN = 0.01
"""Margin of the interval of the series around the estimated spectrum, as a part of it: outside, terms grow exponentially."""

_EXPLODED = 4.0
"""Greatest element of a last term beyond which the spectrum has left the interval: within it, no term is longer than 1."""

_KEPT_BYTES = 250_000_000
"""Most bytes of terms that a block keeps for its adjoint; where there are more, they are computed again."""

_FEWEST = 6
"""Least orientations of a group: narrower products are slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PropagatorSolver(Solver):
    """Intensities and derivatives by block Chebyshev propagation.

    Attributes
    ----------
    precision : str
        "single", "double", or "auto": single where the tolerance of the block allows it.
    """

    precision: str = "auto"
    folds: ClassVar[bool] = True

    def intensities(self, block: Block) -> FloatArray:
        total = np.zeros((len(block.weights), len(block.wanted), len(block.thickness)))
        for group, series in self._series(block):
            used, picked = series.picked()
            _add_fluxes(total, used.waves(picked), block, group)
        return total

    def adjoint(self, block: Block, seed: FloatArray) -> Adjoint:
        parts = ((group, *series.terms()) for group, series in self._series(block))
        return self._adjoint_of(block, parts, seed)

    def pullback(self, block: Block) -> tuple[FloatArray, Pullback]:
        # all terms are kept for the adjoint where they are few enough
        kept = list(self._series(block))
        if sum(series.size for _, series in kept) > _KEPT_BYTES:
            return self.intensities(block), partial(self.adjoint, block)
        total = np.zeros((len(block.weights), len(block.wanted), len(block.thickness)))
        with_terms = []
        for group, series in kept:
            used, terms, following = series.terms()
            _add_fluxes(total, used.waves(used.picked_of(terms, following)), block, group)
            with_terms.append((group, used, terms, following))
        return total, partial(self._adjoint_of, block, with_terms)

    def _adjoint_of(
        self, block: Block, parts: Iterable[tuple[Group, _Series, AnyArray, AnyArray]], seed: FloatArray
    ) -> Adjoint:
        u = self._working(block)
        by_u, by_s = np.zeros_like(u), np.zeros_like(block.s_g)
        for group, series, terms, following in parts:
            weights = block.weights[:, group.orientations]
            seed_of_flux = np.einsum("jmt,jb->tmb", seed[:, group.asked], weights, optimize=True)
            by_coupling, by_diagonal = series.adjoint(terms, following, seed_of_flux)
            by_inverse = group.collect(u, by_coupling, by_u)
            propagated = np.ix_(group.orientations, np.concatenate([group.strong, group.following]))
            by_s[propagated] += 2.0 * block.wavenumber * block.surface[propagated] ** 2 * by_diagonal.T
            weak = np.ix_(group.orientations, group.weak)
            by_s[weak] -= by_inverse * 0.5 / (block.wavenumber * block.s_g[weak] ** 2 * len(group.orientations))
        np.fill_diagonal(by_u, 0.0)
        return Adjoint(u=by_u.astype(block.u.dtype), s_g=by_s)

    def _series(self, block: Block) -> Iterator[tuple[Group, _Series]]:
        """Every group with wanted beams, and its series."""
        u = self._working(block)
        for group in cheapest_groups(block, _FEWEST):
            if len(group.asked):
                yield group, _Series.of(block, group, u)

    def _working(self, block: Block) -> AnyArray:
        """Coupling in the precision that the tolerance allows."""
        if self.precision == "single" or (self.precision == "auto" and block.accuracy.single):
            return in_single(block.u)
        return block.u


def _add_fluxes(total: FloatArray, waves: AnyArray, block: Block, group: Group) -> None:
    """Add the fluxes of the waves (T, m, B) of a group to the weighted sums (J, M, T) over orientations."""
    flux = waves.real**2 + waves.imag**2
    weights = block.weights[:, group.orientations].astype(flux.dtype)
    sums = np.flatnonzero(weights.any(axis=1))
    total[np.ix_(sums, group.asked)] += np.moveaxis(flux @ weights[sums].T, (2, 1, 0), (0, 1, 2))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Following:
    """Waves of the v following beams: −ψ_w = lever · (α(θ) − e^{iθδ} α(0)), with α = U_vs M_s ψ_s/radius.

    ``lever`` and ``diagonal`` (v, B) are radius · M_w/D_w and D_w, ``theta`` (T,) is θ, ``centre`` what D_w exceeds δ by,
    for waves that lack a phase e^{iθ·centre}; ``start`` (v,) is α(0).
    """

    lever: AnyArray
    diagonal: AnyArray
    theta: FloatArray
    centre: float
    start: AnyArray

    @property
    def _turned(self) -> AnyArray:
        """e^{iθδ} (T, v, B)."""
        return unit_phases((self.theta[:, None, None] * (self.diagonal - self.centre)).astype(self.lever.dtype))

    def waves(self, alpha: AnyArray) -> AnyArray:
        """−ψ (T, v, B) from α (T, v, B)."""
        turned = self._turned
        turned *= -self.start[:, None]
        turned += alpha
        turned *= self.lever
        return turned

    def adjoint(self, waves: AnyArray, bar: AnyArray) -> tuple[AnyArray, AnyArray]:
        """∂T/∂start (v,) and ∂T/∂D (v, B), lever and δ following D, for ∂T/∂waves (T, v, B)."""
        product = self._turned
        np.conj(product, out=product)
        product *= bar
        by_start = -np.einsum("tvb,vb->v", product, self.lever)
        product *= self.theta[:, None, None].astype(self.lever.dtype)
        # 1j θ start turned, conjugated and multiplied with bar
        turning = np.sum(product, axis=0) * self.start.conj()[:, None]
        by_diagonal = -np.einsum("tvb,tvb->vb", bar.conj(), waves).real / self.diagonal - self.lever * turning.imag
        return by_start, by_diagonal


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Series:
    """Chebyshev series of one group: A = radius · (m a m + diag(d)) + centre.

    ``a`` (n + v, n) is shared, the columns of ``m`` and ``d`` (n, w) belong to the orientations, ``rows`` (m,) are the
    wanted beams, ``coefficients`` (L, T) the factors of the terms at every thickness, those of odd terms times −i, cut at a
    ``tolerance``;
    ``following`` turns what the last v rows yield into waves.
    """

    a: AnyArray
    m: AnyArray
    d: AnyArray
    radius: float
    rows: IntArray
    coefficients: AnyArray
    tolerance: float
    following: _Following

    @classmethod
    def of(cls, block: Block, group: Group, u: AnyArray) -> _Series:
        coupling = group.coupling(u)
        inner = coupling[: len(group.strong)]
        strong = np.ix_(group.orientations, group.strong)
        m = block.surface[strong].T
        diagonal = (2.0 * block.wavenumber * block.s_g[strong].T + inner.diagonal().real[:, None]) * m * m
        np.fill_diagonal(inner, 0.0)
        low, high = chebyshev.spectrum(inner, m, diagonal)
        if not np.isfinite(high - low):  # no series would end
            raise np.linalg.LinAlgError("the coupling is not finite")
        centre, radius = 0.5 * (low + high), 0.5 * (high - low) * (1.0 + _MARGIN) + 1e-12
        kind, columns = u.real.dtype, 2 if np.iscomplexobj(u) else 1
        a = np.ascontiguousarray(coupling / kind.type(radius))
        theta = np.pi * block.thickness / block.wavenumber
        tails = np.ix_(group.orientations, group.following)
        by_surface = 2.0 * block.wavenumber * block.s_g[tails].T * block.surface[tails].T
        return cls(
            a=a,
            m=np.repeat(m, columns, axis=1).astype(kind),
            d=np.repeat((diagonal - centre) / radius, columns, axis=1).astype(kind),
            radius=radius,
            rows=group.rows,
            coefficients=chebyshev.coefficients(theta * radius, block.accuracy.tolerance, kind),
            tolerance=block.accuracy.tolerance,
            following=_Following(
                lever=(radius / by_surface).astype(kind),
                diagonal=by_surface * block.surface[tails].T,
                theta=theta,
                centre=centre,
                start=a[len(group.strong) :, 0] * kind.type(m[0, 0]),
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
        """Bytes of all terms, the following beams' share included."""
        return len(self.coefficients) * len(self.a) * self.d[0].nbytes

    def picked(self) -> tuple[_Series, AnyArray]:
        """Wanted rows of all terms, and the following beams' share of them, (L, m + v, w), and the series used for them."""
        picked, longest = chebyshev.picked_terms(self.a, self.m, self.d, self._start, self.rows, len(self.coefficients))
        return (self, picked) if longest < _EXPLODED else self._wider().picked()

    def terms(self) -> tuple[_Series, AnyArray, AnyArray]:
        """The series used, all its terms (L, n, w), and the following beams' share of them, (L, v, w)."""
        terms, following = chebyshev.all_terms(self.a, self.m, self.d, self._start, len(self.coefficients))
        return (self, terms, following) if np.abs(terms[-1]).max() < _EXPLODED else self._wider().terms()

    def _wider(self) -> _Series:
        """The same series in an interval that is wider by a tenth."""
        narrow = self.a.dtype.type(1.0 / 1.1)
        kind, following = self.d.dtype, self.following
        radius = 1.1 * self.radius
        return replace(
            self,
            a=self.a * narrow,
            d=self.d * kind.type(narrow.real),
            radius=radius,
            coefficients=chebyshev.coefficients(following.theta * radius, self.tolerance, kind),
            following=replace(following, lever=following.lever * kind.type(1.1), start=following.start * narrow),
        )

    def picked_of(self, terms: AnyArray, following: AnyArray) -> AnyArray:
        """Wanted rows as :meth:`picked` gives them, from all terms."""
        return np.concatenate([terms[:, self.rows], following], axis=1)

    def waves(self, picked: AnyArray) -> AnyArray:
        """ψ (T, m + v, B) of the wanted beams, up to a phase, from their rows of all terms (L, m + v, w)."""
        waves = self._sums(picked)
        if picked.shape[1] > len(self.rows):
            waves[:, len(self.rows) :] = self.following.waves(waves[:, len(self.rows) :])
        return waves

    def _sums(self, picked: AnyArray) -> AnyArray:
        """Sums (T, k, B) of the series over picked terms (L, k, w)."""
        parts = [
            (self.coefficients[first::2].T @ picked[first::2].reshape(-1, picked[0].size)).view(self.a.dtype)
            for first in (0, 1)
        ]
        return (parts[0] + 1j * parts[1]).reshape(len(parts[0]), picked.shape[1], -1)

    def adjoint(self, terms: AnyArray, following: AnyArray, seed: AnyArray) -> tuple[AnyArray, AnyArray]:
        """∂T/∂coupling (n + v, n), its diagonal included, and ∂T/∂A_gg (n + v, B), for a seed (T, m + v, B) of fluxes."""
        waves = self.waves(self.picked_of(terms, following))
        seeds, by_start, by_tails = self._seeds(waves, seed)
        by_a, by_d = chebyshev.adjoint_terms(
            np.ascontiguousarray(self.a.conj().T), self.m, self.d, terms, self.rows, seeds
        )
        np.fill_diagonal(by_a, np.sum(by_d * self.m**2, axis=1))
        by_a[len(terms[0]) :, 0] += by_start
        by_d = by_d.reshape(len(by_d), -1, self._columns).sum(axis=2)
        return by_a / by_d.dtype.type(self.radius), np.concatenate([by_d / self.radius, by_tails])

    def _seeds(self, waves: AnyArray, seed: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
        """∂T/∂(picked terms) (L, m + v, w), ∂T/∂start (v,), ∂T/∂D (v, B), for a seed (T, m + v, B) of fluxes."""
        tails = slice(len(self.rows), None)
        bar = seed.astype(self.d.dtype) * waves
        bar += bar
        by_start, by_tails = self.following.adjoint(waves[:, tails], bar[:, tails])
        bar[:, tails] *= self.following.lever
        by_term = np.empty((len(self.coefficients), bar.shape[1], self.d.shape[1]), dtype=self.d.dtype)
        # terms of a real coupling are real, and so is what they ask of their derivatives
        complex_terms = self._columns == 2
        halves = (bar.view(self.d.dtype), (-1j * bar).view(self.d.dtype)) if complex_terms else (bar.real, bar.imag)
        for first, half in enumerate(halves):
            columns = np.ascontiguousarray(half).reshape(len(half), -1)
            np.matmul(self.coefficients[first::2], columns, out=by_term.reshape(len(by_term), -1)[first::2])
        return by_term, by_start if complex_terms else by_start.real, by_tails
