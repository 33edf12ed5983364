"""Results of fits and refinements with both theories, as programs compute and reports print them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cctbx import xray
from cctbx.array_family import flex

from edtbx.arrays import FloatArray
from edtbx.crystal.learning import LearntFrames
from edtbx.intensities.nuisance import Nuisance
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.observations import Observations
from edtbx.measurement.selection import Selection
from edtbx.measurement.statistics import Statistics
from edtbx.solvers.block import Accuracy
from edtbx.summary import Summarised
from edtbx_cctbx.refinement.model import RefinementModel
from edtbx_cctbx.targets.crystallographic_ls import crystallographic_ls


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingReport:
    """Sampling of a fit, and its numerical error.

    ``error`` and ``misfit`` are root mean squares of ΔI/max(σ, 0.01 I_obs) on a few frames, against a finer sampling and
    against the measurement (NaN: not measured), ``kept`` whether the former is within the tolerance; ``waves`` and
    ``beams`` are means over frames.
    """

    error: float
    misfit: float
    kept: bool
    waves: float
    beams: float
    limits: Accuracy


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LeastSquaresFit:
    """Uncertainties and diagnostics of a fit by full-matrix least squares.

    ``covariance`` is packed, of the parameters of all atoms in the order of ``structure.parameter_map()``, normalised by
    the goodness of fit; ``nuisance_su`` holds s.u.s of scales, centres (radians), spread and thickness; ``wr2`` is
    [Σ w (I_obs − I_calc)²/Σ w I_obs²]^½ with SHELX's weights of the a given; ``residuals`` (M,) are
    weighted, in units of their usual size; ``riding`` are the places of atoms whose sites a constraint makes; distances and
    angles that constraints fix are named by the places of their atoms.
    """

    covariance: flex.double
    nuisance_su: Nuisance
    parameters: int
    restraints: int
    goodness_of_fit: float
    restrained_goodness_of_fit: float
    wr2: float
    shift_over_su: float
    weighting_a: float
    loss: str
    residuals: FloatArray
    riding: frozenset[int]
    fixed_distances: dict[tuple[int, int], float]
    fixed_angles: dict[tuple[int, int, int], float]

    @classmethod
    def of(cls, ls: crystallographic_ls, shift: float, model: RefinementModel) -> LeastSquaresFit:
        """Of the last ``build_up`` of the normal equations of a model, and the shift in s.u.s that they ask for."""
        rp = ls.reparametrisation
        return cls(
            covariance=ls.covariance_matrix(rp.jacobian_transpose_matching_grad_fc()),
            nuisance_su=ls.nuisance_su,
            parameters=ls.n_refined,
            restraints=ls.n_restraints or 0,
            goodness_of_fit=ls.goof(),
            restrained_goodness_of_fit=ls.restrained_goof(),
            wr2=ls.wR2(),
            shift_over_su=shift,
            weighting_a=ls.weighting_scheme.a,
            loss=ls.loss,
            residuals=ls.residuals,
            riding=frozenset(
                place
                for constraint in model.constraints
                for place in getattr(constraint, "constrained_site_indices", ())
            ),
            fixed_distances=dict(rp.fixed_distances),
            fixed_angles=dict(rp.fixed_angles),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """R factors of rows that were left out, and a phrase that says which these are."""

    statistics: Statistics
    of: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class TheoryFit:
    """Result of one theory: structure, nuisance parameters, intensities and R factors.

    ``i_calc`` (M,) are the scaled intensities of the ``observations``, whose frames are those of ``nuisance.scales`` and
    ``nuisance.centres`` (radians); ``r_of_thickness`` and ``r_of_spread`` are curves (2, n) of thickness in Å, or σ in
    degrees, and R(obs); ``least_squares`` is None for other methods, ``learnt`` unless the evidence set the priors of
    frames, and ``free`` where nothing was left out of the refinement, or of fits. ``interrupted`` says how far a refinement
    that was stopped had come; until all frames take part, observations and numbers are those of some.
    """

    solver: str
    structure: xray.structure
    nuisance: Nuisance
    observations: Observations
    i_calc: FloatArray
    statistics: Statistics
    r_of_thickness: FloatArray
    r_of_spread: FloatArray
    accuracy: SamplingReport
    forward_seconds: float
    least_squares: LeastSquaresFit | None = None
    learnt: LearntFrames | None = None
    free: LeftOut | None = None
    interrupted: str | None = None

    def __repr__(self) -> str:
        return f"<TheoryFit, {self}>"

    def __str__(self) -> str:
        statistics = self.statistics
        return (
            f"{self.solver}: R(obs) {statistics.r_obs:.4f}, R(all) {statistics.r_all:.4f}, {self.nuisance.describe()}"
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class Comparison(Summarised):
    """Results of both theories on the same rows.

    ``refined`` tells whether structures were refined, too; ``costs`` has ``seconds`` and ``passes`` over frames by kind of
    work; ``parameters`` are those that the user set or that defaults gave. ``interrupted`` names what stopped the work; a
    theory that had no result by then is None.
    """

    experiment: Experiment
    selection: Selection
    kinematical: TheoryFit | None
    dynamical: TheoryFit | None
    refined: bool
    total_seconds: float
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    interrupted: str | None = None

    def __post_init__(self) -> None:
        if not self.fits:
            raise ValueError("a comparison needs a fit of one theory, at least")

    @property
    def fits(self) -> dict[str, TheoryFit]:
        """Fits by the name of the theory, those that were done."""
        pair = {"kinematical": self.kinematical, "dynamical": self.dynamical}
        return {theory: fit for theory, fit in pair.items() if fit is not None}

    @property
    def theory(self) -> str:
        """The theory whose structure is the result: the dynamical one, where it was fitted."""
        return list(self.fits)[-1]

    @property
    def result(self) -> TheoryFit:
        """The fit of that theory."""
        return self.fits[self.theory]

    @property
    def interruption(self) -> str | None:
        """A sentence on what an interruption left undone; None for a complete result."""
        if self.interrupted is None:
            return None
        parts = [f"{name}: stopped after {fit.interrupted}" for name, fit in self.fits.items() if fit.interrupted]
        parts += [f"{name}: not fitted" for name in ("kinematical", "dynamical") if name not in self.fits]
        return f"Interrupted ({self.interrupted}), this is not the end result. {'; '.join(parts)}".rstrip(". ") + "."

    def __repr__(self) -> str:
        return f"<Comparison, {'; '.join(map(str, self.fits.values()))}>"

    def summary_lines(self) -> list[str]:
        """Numbers of frames and reflections, and R factors of each theory, one line each."""
        statistics, how = self.result.statistics, "refined" if self.refined else "as it is"
        frames = len(self.result.observations.frame_ids)
        head = f"Structure {how}, {frames} frames, {statistics.n_all} reflections ({statistics.n_obs} observed)"
        said = [] if self.interruption is None else [self.interruption]
        return [*said, head, *map(str, self.fits.values())]
