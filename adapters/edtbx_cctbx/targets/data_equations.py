"""Reduced normal equations of the intensities of a target: weights, nuisance parameters, rows, gradient, and drafts.

Defect correction: at a draft (a coarser sampling, or a gradient taken from the rows of the design matrix) the equations are
corrected by what the draft lacked where the observations themselves were computed last. Their minimum is then that of the
observations, at the cost of drafts but for a few passes.

References
----------
H. J. Stetter, Numer. Math. 29, 425 (1978), doi:10.1007/BF01432879 (defect correction).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from edtbx.arrays import BoolArray, ComplexArray, FloatArray
from edtbx.execution.progress import Progress
from edtbx.fitting.least_squares import ReducedEquations, frame_equations
from edtbx.fitting.nuisance_bounds import shared_are_free
from edtbx.fitting.reweighting import Reweighted, reweight
from edtbx.intensities.frame_waves import Rows
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx_cctbx.structure.f_calc_derivatives import StructureSlopes
from edtbx_cctbx.targets.scattering_model import ScatteringModel
from edtbx_cctbx.targets.target import Target
from edtbx_cctbx.targets.weighting import weights_of


@dataclass(frozen=True, eq=False, kw_only=True)
class DesignRows:
    """Rows of the design matrix where they were computed last, which is when they are first asked for.

    ``source`` gives the frames; ``f`` (G,), ``slopes`` and ``nuisance``, of these frames, are the point of linearisation.
    """

    source: Target
    f: ComplexArray
    slopes: StructureSlopes
    nuisance: Nuisance
    kind: Rows
    progress: Progress[Any]

    @cached_property
    def by_frame(self) -> dict[int, FloatArray]:
        """∂I_calc/∂p (M, P), unscaled, by frame id."""
        forward = self.source.forward
        ids = forward.observations.frame_ids
        rows = forward.jacobian(self.f, self.nuisance, self.slopes, self.kind)
        return dict(zip(ids, self.progress(rows, len(ids)), strict=True))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Correction:
    """What a draft lacks: offsets (M,) of the unscaled intensities of every frame, and of the reduced right-hand side."""

    offsets: Sequence[FloatArray] | None = None
    right_hand_side: FloatArray | float = 0.0


@dataclass(slots=True, eq=False, kw_only=True)
class DataEquations:
    """Equations of the data at the structure factors given last.

    Attributes
    ----------
    target : Target
        Its nuisance parameters follow every ``build``.
    draft : ScatteringModel or None
        Sampling of the drafts, that of the target if only their gradients are cheaper.
    by_rows : bool
        Whether the gradient of a draft is that of the rows, which are then those of all frames.
    rows_from, rows : Target, Rows
        Where rows come from, and how.
    loss, shares : str, (M,)
        Robust loss, and how many rows share the weight of each.
    drafts : bool
        Whether the next equations may be those of the draft.
    is_draft : bool
        Whether the equations at hand are those of a draft.
    right : (P,)
        Right-hand side of the reduced equations at hand.
    """

    target: Target
    draft: ScatteringModel | None
    by_rows: bool
    rows_from: Target
    rows: Rows
    loss: str
    shares: FloatArray
    progress: Progress[Any]
    rows_progress: Progress[Any]
    drafts: bool = True
    is_draft: bool = False
    right: FloatArray | None = None
    sizes: FloatArray | None = None
    _weighted: Reweighted | None = None
    _reduced: ReducedEquations | None = None
    _design: DesignRows | None = None
    _computed: Sequence[FrameCube] = ()
    _correction: _Correction | None = None
    _slopes: tuple[ComplexArray, StructureSlopes] | None = None

    def slopes_at(self, f: ComplexArray, compute: Callable[[], StructureSlopes]) -> StructureSlopes:
        """Derivatives of the structure factors where these are f (G,), computed once there."""
        if self._slopes is None or not np.array_equal(self._slopes[0], f):
            self._slopes = f, compute()
        return self._slopes[1]

    @property
    def weighted(self) -> Reweighted:
        """Cubes, weights, intensities and residuals at hand."""
        assert self._weighted is not None
        return self._weighted

    @property
    def reduced(self) -> ReducedEquations:
        """Reduced equations at hand; their own right-hand side is that of the rows."""
        assert self._reduced is not None
        return self._reduced

    @property
    def scattering(self) -> ScatteringModel:
        """The sampling of the cubes at hand."""
        return self.draft if self.is_draft and self.draft is not None else self.target.scattering

    @property
    def shared(self) -> BoolArray:
        """Whether spread and thickness are refined (2,)."""
        return shared_are_free(self.target.nuisance, self.target.bounds)

    def weigh(self, f: ComplexArray, weighting_scheme: Any, renew_sizes: bool) -> None:
        """Intensities for structure factors f (G,), of a draft if there is one; weights and nuisance parameters."""
        correction = _Correction(offsets=self.target.offsets)
        self.is_draft = self.draft is not None and self.drafts
        if self.is_draft:
            correction = self._correction or correction
        self._computed = self.scattering.forward.cubes(f, self.progress)
        polish = correction.offsets is self.target.offsets  # those of a coarser draft have another minimum
        cubes = self._with_offsets(self.scattering, self._computed, correction.offsets)
        self._reweight(self.scattering, cubes, weighting_scheme, renew_sizes, polish)

    def build(self, f: ComplexArray, slopes: StructureSlopes, renew_rows: bool) -> None:
        """Reduced equations at hand after ``weigh``."""
        self.renew(f, slopes, renew_rows)
        self.right = self._right(self.scattering, f, slopes, self.is_draft and self.by_rows)
        if self.is_draft and self._correction is not None:
            self.right = self.right + self._correction.right_hand_side

    @property
    def jacobian(self) -> dict[int, FloatArray]:
        """∂I_calc/∂p (M, P), unscaled, by frame id, where rows were last renewed."""
        return {} if self._design is None else self._design.by_frame

    def renew(self, f: ComplexArray, slopes: StructureSlopes, renew_rows: bool) -> None:
        """Linearise here, if asked for or not done yet."""
        if self._design is not None and (not renew_rows or np.array_equal(self._design.f, f)):
            return
        ids = self.target.observations.frame_ids
        places = [ids.index(frame_id) for frame_id in self.rows_from.observations.frame_ids]
        self._design = DesignRows(
            source=self.rows_from,
            f=f,
            slopes=slopes,
            nuisance=self.target.nuisance.at(places),
            kind=self.rows,
            progress=self.rows_progress,
        )

    def correct(self, f: ComplexArray, slopes: StructureSlopes, weighting_scheme: Any, renew_sizes: bool) -> None:
        """Put the equations of the target in place of the draft's at hand, and learn what the next drafts lack."""
        assert self.draft is not None
        target, draft, computed = self.target, self.draft, self._computed
        if draft is target.scattering:
            right = self._right(draft, f, slopes)
            offsets, lacking = target.offsets, right - self.reduced.right_hand_side
        else:
            fine = self._with_offsets(target.scattering, target.forward.cubes(f, self.progress), target.offsets)
            self._reweight(target.scattering, fine, weighting_scheme, renew_sizes)
            right = self._right(target.scattering, f, slopes)
            kept = self.weighted, self.reduced, self.sizes
            pairs = zip(
                target.nuisance.intensities(target.forward.grid, fine),
                target.nuisance.intensities(draft.forward.grid, computed),
                target.nuisance.scales,
                strict=True,
            )
            offsets = [(i_fine - i_draft) / scale for i_fine, i_draft, scale in pairs]
            corrected = self._with_offsets(draft, computed, offsets)
            self._reweight(draft, corrected, weighting_scheme, renew_sizes, polish=False)
            lacking = right - self._right(draft, f, slopes, self.by_rows)
            self._weighted, self._reduced, self.sizes = kept
            target.nuisance = self.weighted.nuisance
        self._correction = _Correction(offsets=offsets, right_hand_side=lacking)
        self.is_draft, self.right = False, right

    def state(self) -> dict[str, Any]:
        """What ``build`` or ``correct`` left, without cubes, for :meth:`restore`."""
        return {
            "nuisance": self.target.nuisance,
            "sizes": self.sizes,
            "correction": self._correction,
            "is_draft": self.is_draft,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from such a state; rows are to be renewed, and ``complete`` gives the cubes."""
        self.target.nuisance, self.sizes = state["nuisance"], state["sizes"]
        self._correction, self.is_draft = state["correction"], state["is_draft"]

    def complete(self, f: ComplexArray, weights: FloatArray, residuals: FloatArray) -> None:
        """Recompute the cubes and reduced equations of the target that a restored state lacks, for weights (M,)."""
        target = self.target
        parts = target.observations.split(weights)
        cubes = self._with_offsets(target.scattering, target.forward.cubes(f, self.progress), target.offsets)
        cubes = [replace(cube, weights=part) for cube, part in zip(cubes, parts, strict=True)]
        assert self.sizes is not None
        self._weighted = Reweighted(
            nuisance=target.nuisance,
            cubes=cubes,
            calculated=np.concatenate(target.nuisance.intensities(target.forward.grid, cubes)),
            residuals=residuals,
            sizes=self.sizes,
        )
        self._reduced = self._reduce(target.scattering)

    def _reweight(
        self,
        scattering: ScatteringModel,
        cubes: Sequence[FrameCube],
        weighting_scheme: Any,
        renew_sizes: bool,
        polish: bool = True,
    ) -> None:
        """Fit weights, scales and, with ``polish``, the other nuisance parameters to cubes."""
        self._weighted = reweight(
            cubes,
            self.target.observations,
            self.target.nuisance,
            grid=scattering.forward.grid,
            bounds=scattering.bounds,
            weighting=partial(weights_of, weighting_scheme),
            loss=self.loss,
            shares=self.shares,
            sizes=None if renew_sizes else self.sizes,
            polish=polish,
        )
        self.target.nuisance, self.sizes = self._weighted.nuisance, self._weighted.sizes

    def _right(
        self, scattering: ScatteringModel, f: ComplexArray, slopes: StructureSlopes, by_rows: bool = False
    ) -> FloatArray:
        """Reduced right-hand side (P,) with the gradient of a scattering model, or that of the rows."""
        self._reduced = self._reduce(scattering)
        if by_rows:
            return self._reduced.right_hand_side
        gradient = scattering.forward.gradient(f, self.target.nuisance, self._reduced.seeds, self.progress)
        return slopes(np.arange(len(gradient)), gradient[None])[0]

    def _reduce(self, scattering: ScatteringModel) -> ReducedEquations:
        frames = frame_equations(
            self.weighted.cubes, scattering.forward.grid, self.target.nuisance, scattering.bounds, self.jacobian
        )
        return ReducedEquations(frames=frames, shared=self.shared)

    def _with_offsets(
        self, scattering: ScatteringModel, cubes: Sequence[FrameCube], offsets: Sequence[FloatArray] | None
    ) -> Sequence[FrameCube]:
        """Cubes such that offsets are added to the unscaled I_calc, at every node and thickness.

        The weights of the nodes sum to one, those of a law that reaches below the first thickness to less.
        """
        if offsets is None:
            return cubes
        whole = float(self.target.nuisance.over_thickness(scattering.forward.grid).sum())
        return [
            replace(cube, intensities=cube.intensities + offset[:, None] / whole)
            for cube, offset in zip(cubes, offsets, strict=True)
        ]
