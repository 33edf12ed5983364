"""Reduced normal equations of the intensities of a target: weights, nuisance parameters, rows, gradient, and drafts.

Far from the minimum a draft will do: a coarser sampling, or a gradient taken from the rows of the design matrix. Its minimum
is another one, so that near it the observations themselves are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from edtbx.arrays import BoolArray, ComplexArray, FloatArray
from edtbx.crystal.learning import LearntFrames
from edtbx.execution.progress import Progress
from edtbx.fitting.joint_equations import JointEquations
from edtbx.fitting.least_squares import ReducedEquations, frame_equations
from edtbx.fitting.nuisance_bounds import shared_are_free
from edtbx.fitting.reweighting import Reweighted, reweight
from edtbx.intensities.frame_waves import Rows
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx_cctbx.structure.f_calc_derivatives import StructureSlopes
from edtbx_cctbx.targets.scattering_model import ScatteringModel
from edtbx_cctbx.targets.target import Target
from edtbx_cctbx.targets.weighting import weights_of


@dataclass(slots=True, eq=False, kw_only=True)
class DesignRows:
    """Rows of the design matrix where they were computed last, which is when they are first asked for.

    ``f`` (G,) are the structure factors at the point of linearisation; ``compute`` gives ∂I_calc/∂p (M, P), unscaled, frame
    by frame, and goes, with all that it holds, once it has done so.
    """

    f: ComplexArray
    ids: Sequence[int]
    compute: Callable[[], Iterable[FloatArray]] | None
    _by_frame: dict[int, FloatArray] = field(default_factory=dict)

    @property
    def by_frame(self) -> dict[int, FloatArray]:
        """∂I_calc/∂p (M, P), unscaled, by frame id."""
        if self.compute is not None:
            self._by_frame, self.compute = dict(zip(self.ids, self.compute(), strict=True)), None
        return self._by_frame


@dataclass(slots=True, eq=False, kw_only=True)
class DataEquations:
    """Equations of the data at the structure factors given last.

    Attributes
    ----------
    target : Target
        Its nuisance parameters follow every ``build``.
    draft : ScatteringModel or None
        Sampling of the drafts, that of the target if only their gradients are cheaper; None once ``correct`` has ended them.
    by_rows : bool
        Whether the gradient of a draft is that of the rows, which are then those of all frames.
    rows_from, rows : Target, Rows
        Where rows come from, and how.
    loss, shares : str, (M,)
        Robust loss, and how many rows share the weight of each.
    learn, learnt : bool, LearntFrames
        Whether the evidence sets the priors of scales and centres, and these.
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
    learn: bool = False
    learnt: LearntFrames | None = None
    right: FloatArray | None = None
    sizes: FloatArray | None = None
    _weighted: Reweighted | None = None
    _reduced: ReducedEquations | None = None
    _design: DesignRows | None = None
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
    def is_draft(self) -> bool:
        """Whether the equations are those of a draft."""
        return self.draft is not None

    @property
    def scattering(self) -> ScatteringModel:
        """The sampling of the cubes."""
        return self.target.scattering if self.draft is None else self.draft

    @property
    def shared(self) -> BoolArray:
        """Whether spread and thickness are refined (2,)."""
        return shared_are_free(self.target.nuisance, self.target.bounds)

    @property
    def effective_parameters(self) -> int:
        """Number of parameters of frames and crystal: scales, spread and thickness, or as many as the data determine."""
        if self.learnt is not None:
            return round(self.learnt.effective)
        return len(self.target.observations.frame_ids) + int(self.shared.sum())

    def weigh(self, f: ComplexArray, weighting_scheme: Any, renew_sizes: bool) -> None:
        """Intensities for structure factors f (G,), of a draft if there is one; weights and nuisance parameters."""
        cubes, shares, follow = self._cubes(f), self.shares, None
        if self.learn:
            if renew_sizes or self.learnt is None:
                trends = None if self.learnt is None else self.learnt.trends
                self.learnt = self.scattering.learn(cubes, self.target.nuisance, trends)
                self.target.nuisance = self.learnt.nuisance
            learnt, scattering = self.learnt, self.scattering
            shares = shares / np.repeat(learnt.frame_weights, np.diff(scattering.observations.edges))

            def follow(cubes: Sequence[FrameCube], nuisance: Nuisance) -> Nuisance:
                return learnt.followed(cubes, scattering.forward.grid, scattering.bounds, nuisance)

        self._weighted = reweight(
            cubes,
            self.target.observations,
            self.target.nuisance,
            grid=self.scattering.forward.grid,
            bounds=self.scattering.bounds,
            weighting=partial(weights_of, weighting_scheme),
            loss=self.loss,
            shares=shares,
            sizes=None if renew_sizes else self.sizes,
            follow=follow,
        )
        self.target.nuisance, self.sizes = self._weighted.nuisance, self._weighted.sizes

    def build(self, f: ComplexArray, slopes: StructureSlopes, renew_rows: bool) -> None:
        """Reduced equations at hand after ``weigh``."""
        self.renew(f, slopes, renew_rows)
        self._reduce(f, slopes)

    @property
    def jacobian(self) -> dict[int, FloatArray]:
        """∂I_calc/∂p (M, P), unscaled, by frame id, where rows were last renewed."""
        return {} if self._design is None else self._design.by_frame

    def renew(self, f: ComplexArray, slopes: StructureSlopes, renew_rows: bool) -> None:
        """Linearise here, if asked for or not done yet."""
        if self._design is not None and (not renew_rows or np.array_equal(self._design.f, f)):
            return
        source, every = self.rows_from, self.target.observations.frame_ids
        ids = source.observations.frame_ids
        nuisance = self.target.nuisance.at([every.index(frame_id) for frame_id in ids])

        def compute() -> Iterable[FloatArray]:
            return self.rows_progress(source.forward.jacobian(f, nuisance, slopes, self.rows), len(ids))

        self._design = DesignRows(f=f, ids=ids, compute=compute)

    def correct(self, f: ComplexArray, slopes: StructureSlopes, weighting_scheme: Any, renew_sizes: bool) -> None:
        """Put the equations of the target in place of the draft's at hand; there are no drafts from here on."""
        computed = self.draft is self.target.scattering
        self.draft = None
        if not computed:
            self.weigh(f, weighting_scheme, renew_sizes)
        self._reduce(f, slopes)

    def state(self) -> dict[str, Any]:
        """What ``build`` or ``correct`` left, without cubes, for :meth:`restore`."""
        return {
            "nuisance": self.target.nuisance,
            "sizes": self.sizes,
            "learnt": self.learnt,
            "is_draft": self.is_draft,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from such a state; rows are to be renewed, and ``complete`` gives the cubes."""
        self.target.nuisance, self.sizes, self.learnt = state["nuisance"], state["sizes"], state["learnt"]
        if not state["is_draft"]:
            self.draft = None

    def complete(self, f: ComplexArray, weights: FloatArray, residuals: FloatArray) -> None:
        """Recompute the cubes and reduced equations of the target that a restored state lacks, for weights (M,)."""
        target = self.target
        parts = target.observations.split(weights)
        cubes = [replace(cube, weights=part) for cube, part in zip(self._cubes(f), parts, strict=True)]
        assert self.sizes is not None
        self._weighted = Reweighted(
            nuisance=target.nuisance,
            cubes=cubes,
            calculated=np.concatenate(target.nuisance.intensities(target.forward.grid, cubes)),
            residuals=residuals,
            sizes=self.sizes,
        )
        self._reduced = self._equations()

    def _cubes(self, f: ComplexArray) -> list[FrameCube]:
        """Cubes with the offsets of the target added to the unscaled I_calc, at every node and thickness.

        The weights of the nodes sum to one, those of a law that reaches below the first thickness to less.
        """
        cubes, offsets = self.scattering.forward.cubes(f, self.progress), self.target.offsets
        if offsets is None:
            return cubes
        wholes = self.target.nuisance.over_thickness(self.scattering.forward.grid).sum(axis=1)
        return [
            replace(cube, intensities=cube.intensities + offset[:, None] / whole)
            for cube, offset, whole in zip(cubes, offsets, wholes, strict=True)
        ]

    def _equations(self) -> ReducedEquations:
        grid, bounds = self.scattering.forward.grid, self.scattering.bounds
        nuisance, learnt = self.target.nuisance, self.learnt
        make = partial(frame_equations, self.weighted.cubes, grid, nuisance, bounds, self.jacobian)
        if learnt is None:
            return ReducedEquations(frames=make(), shared=self.shared)
        return JointEquations(
            frames=make(scales_follow=False),
            shared=self.shared,
            prior=learnt.prior_at(self.weighted.cubes, grid, bounds, nuisance),
        )

    def _reduce(self, f: ComplexArray, slopes: StructureSlopes) -> None:
        """Reduced equations, with an exact right-hand side or, of drafts by rows, that of the rows."""
        self._reduced = self._equations()
        if self.is_draft and self.by_rows:
            self.right = self._reduced.right_hand_side
            return
        gradient = self.scattering.forward.gradient(f, self.target.nuisance, self._reduced.seeds, self.progress)
        self.right = slopes(np.arange(len(gradient)), gradient[None])[0]
