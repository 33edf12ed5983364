"""What a comparison of the two theories found: the one thing that programs compute and reports print."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cctbx import xray
from cctbx.array_family import flex

from edtbx.experiment import Experiment, FloatArray, IntArray
from edtbx.nuisance import Nuisance
from edtbx.selection import Selection
from edtbx.solvers.block import Accuracy
from edtbx.statistics import Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingReport:
    """What was computed, and how well.

    ``error`` is the root mean square of ΔI/max(σ, 0.01 I_obs) on a few frames against a finer sampling, ``kept``
    whether it is within the tolerance; ``waves`` and ``beams`` are means over frames.
    """

    error: float
    kept: bool
    waves: float
    beams: float
    limits: Accuracy


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LeastSquaresFit:
    """What full-matrix least squares adds to a fit.

    ``covariance`` is packed, of the parameters of all atoms in the order of ``structure.parameter_map()``, normalised by
    the goodness of fit; ``nuisance_su`` holds s.u.s of scales, centres (radians), spread and thickness; ``wr2`` is
    [Σ w (I_obs − I_calc)²/Σ w I_obs²]^½ with the weights of ``weighting``, a scheme of smtbx; ``residuals`` (M,) are
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
    weighting: Any
    loss: str
    residuals: FloatArray
    riding: frozenset[int]
    fixed_distances: dict[tuple[int, int], float]
    fixed_angles: dict[tuple[int, int, int], float]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TheoryFit:
    """One theory, fitted.

    ``i_calc`` (M,) are scaled intensities of the used rows, ``frame_ids`` the frames in the order of
    ``nuisance.scales`` and ``nuisance.centres`` (radians); ``r_of_thickness`` and ``r_of_spread`` are curves
    (2, n) of thickness in Å, or σ in degrees, and R(obs); ``least_squares`` is what it says of them, where it was used, and
    ``free`` are the R factors of frames that were left out of the refinement.
    """

    solver: str
    structure: xray.structure
    nuisance: Nuisance
    frame_ids: tuple[int, ...]
    i_calc: FloatArray
    statistics: Statistics
    r_of_thickness: FloatArray
    r_of_spread: FloatArray
    accuracy: SamplingReport
    forward_seconds: float
    least_squares: LeastSquaresFit | None = None
    free: Statistics | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Comparison:
    """Both theories on the same rows.

    ``rows`` (M,) are the used rows of ``experiment.reflections`` in the order of ``i_calc``; ``refined`` tells whether
    structures were refined, too; ``parameters`` are those that the user set or that defaults gave.
    """

    experiment: Experiment
    selection: Selection
    rows: IntArray
    kinematical: TheoryFit
    dynamical: TheoryFit
    refined: bool
    total_seconds: float
    parameters: dict[str, Any] = field(default_factory=dict)
