"""Cycles of least squares of one stage of a refinement, reported and saved one by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from libtbx.utils import Sorry
from smtbx.refinement.least_squares import mainstream_shelx_weighting

from edtbx.arrays import FloatArray
from edtbx.execution.memory import at_once
from edtbx.execution.progress import Reporter
from edtbx.intensities.nuisance import Nuisance
from edtbx.levels.level_search import ChosenLevel
from edtbx.levels.sampling_levels import DRAFT, FOR_ROWS
from edtbx.measurement.observations import Observations
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.constraints.determined import is_singular, undetermined
from edtbx_cctbx.io.checkpoint import Checkpoint
from edtbx_cctbx.refinement.compare import theory_fit
from edtbx_cctbx.refinement.model import RefinementModel, usual_shifts
from edtbx_cctbx.refinement.results import LeastSquaresFit, TheoryFit
from edtbx_cctbx.refinement.settings import RefinementSettings
from edtbx_cctbx.targets.crystallographic_ls import crystallographic_ls
from edtbx_cctbx.targets.iterations import Iterations
from edtbx_cctbx.targets.scattering_model import ScatteringModel
from edtbx_cctbx.targets.target import Target
from edtbx_cctbx.targets.weighting import flat_weighting

_FIRST_CYCLES = 5
"""Most cycles of each stage on some of the frames."""

_FIRST_SHIFT = 3.0
"""Shifts in s.u.s that end these stages: going over to all frames shifts by as much; laws are chosen and hydrogen is placed
by what they leave."""

_GAIN = 0.01
"""Part by which the goodness of fit must fall from one cycle of these stages to the next."""

_LITTLE_WORK = 6e5
"""Multiplications of rows for each wave of the target below which they cost less than its gradient, and are renewed with
every draft: measured ratios of times are 0.14, 0.24, 1.2 and 2.4 for 7e3 (urea), 4e5 (abiraterone), 2.2e6 (paracetamol) and
1.4e6 (CsPbBr3)."""

_SETTLED = 0.5
"""Shifts in s.u.s below which weights are chosen, and the scale of the loss is kept."""

_FAR = 20.0
"""Sum of the shifts in s.u.s since the design matrix was computed above which it is computed again."""

_START = 0.02
"""The a of the weights in the first cycles."""

_BY_ROWS, _PLAIN = (5.0, 17.0), (7.0, 25.0)
"""What all cycles on all frames take, with drafts by rows or without: so many times the cubes, and so many forward passes
for gradients and rows. In all 41 forward passes on quartz, where cubes take five; 36 on paracetamol."""


class Undetermined(Sorry):
    """The reflections do not determine all parameters; a restart would not help."""


@dataclass(slots=True, eq=False)
class Cycles:
    """Runner of the stages of one refinement, and what one stage hands on to the next.

    ``chosen`` is the sampling level for all frames, once known; ``a`` that of the weights at the start of the next stage;
    ``correction`` (P, P) is added to the normal matrix, for second derivatives that secants of the last cycles showed.
    """

    model: RefinementModel
    settings: RefinementSettings
    report: Reporter
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    chosen: ChosenLevel | None = None
    a: float = _START
    correction: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.settings.weighting is not None:
            self.a = self.settings.weighting

    def run(
        self,
        scattering: ScatteringModel,
        start: Nuisance,
        stage: str,
        *,
        draft: ScatteringModel | None = None,
        to_the_end: bool = True,
        stop: Callable[[Nuisance], bool] | None = None,
    ) -> tuple[crystallographic_ls, float]:
        """Cycles until shifts are small: the equations at the final structure, and the largest shift in s.u.s.

        Once shifts fall below half an s.u., weights are chosen, and ``stop`` is asked whether to end.
        """
        model, settings, solver = self.model, self.settings, scattering.solver_name
        target = Target.of(scattering, start)
        exact = target.forward.solver.approximation is None
        rows_from, by_rows = target, False
        if exact:
            rows_from = Target.of(*scattering.at_level(FOR_ROWS, start))
            little = rows_from.forward.scan.work_of_rows() < _LITTLE_WORK * target.forward.scan.orientations
            # drafts by rows would end a first stage where only their own gradient vanishes
            by_rows = to_the_end and little
            if not little:  # a normal matrix need not be as good
                rows_from = Target.of(*scattering.at_level(DRAFT, start))
        if by_rows and draft is None:
            draft = scattering
        ls = crystallographic_ls(
            target,
            model.reparametrisation(settings.refined),
            restraints_manager=model.restraints,
            weighting_scheme=mainstream_shelx_weighting(a=self.a, b=0),
            loss=settings.loss,
            learn=settings.learn and to_the_end,
            draft=None if draft is None else Target.of(draft, start),
            draft_by_rows=by_rows,
            rows_from=rows_from,
            progress=self.report.progress(f"{solver}, {stage}"),
            rows_progress=self.report.progress(f"{solver}, {stage}, rows"),
        )
        if exact and self.chosen is not None:
            self._estimate(self.chosen.seconds, by_rows, target)
        most, least = (settings.cycles, settings.shift_over_su) if to_the_end else (_FIRST_CYCLES, _FIRST_SHIFT)
        iterations = Iterations(
            ls=ls,
            usual=usual_shifts(model.structure, ls.reparametrisation),
            correction=self.correction,
            least=least,
        )
        weighted, fit, moved = settings.weighting is not None, math.inf, 0.0
        while True:
            built_up = False

            def build_up() -> dict[str, Any]:
                nonlocal built_up
                built_up = True
                try:
                    return iterations.build_up()
                except np.linalg.LinAlgError:
                    _expect_determined(ls)
                    raise

            where = f"{stage}, " + (f"draft {iterations.drafts}" if ls.is_draft else f"cycle {iterations.passes}")
            ls.restore(self.checkpoint.step(where, build_up))
            if not ls.is_draft:
                where = f"{stage}, cycle {iterations.passes}"
            _expect_determined(ls)
            iterations.take()
            shift = iterations.shift
            r_obs = target.statistics(to_numpy(ls.fc_sq.data())).r_obs
            self.report.say(
                f"{solver}: {where}, R(obs) {r_obs:.4f}, wR2 {ls.wR2():.4f}, "
                f"goodness of fit {ls.restrained_goof():.3f}, shift/s.u. {shift:.3f}, {target.nuisance.describe()}"
                f"{'' if built_up else ' (done before)'}"
            )
            if built_up:
                self.checkpoint.latest = self._fit_so_far(target, ls, shift, where)
            at_end = iterations.passes > most or (weighted and iterations.is_at_end)
            if at_end or (not to_the_end and ls.restrained_goof() > (1.0 - _GAIN) * fit):
                if not to_the_end:  # nobody asks for the equations after the last step
                    iterations.step_forward()
                break
            fit = ls.restrained_goof()
            if not ls.is_draft and shift < _SETTLED and stop is not None:
                if stop(target.nuisance):
                    break
                stop = None
            new_weights = shift < max(least, _SETTLED) and not weighted
            if new_weights:
                weighted = True
                iterations.forget()
                columns = (ls.fo_sq.data(), ls.fo_sq.sigmas(), ls.fc_sq.data())
                ls.weighting_scheme = flat_weighting(*(to_numpy(column) for column in columns))
            moved = shift if ls.renew_rows else moved + shift
            ls.renew_rows = moved > _FAR or (by_rows and ls.is_draft)
            ls.renew_sizes = shift > _SETTLED or new_weights
            iterations.step_forward()
        self.a, self.correction = ls.weighting_scheme.a, iterations.learnt
        if draft is not None:
            self.report.say(f"{solver}: {stage}: {iterations.drafts} drafts, then {iterations.passes} passes")
        if not built_up:
            ls.complete()
        return ls, shift

    def _estimate(self, forward_pass: float, by_rows: bool, target: Target) -> None:
        """Say how long cycles take, for the seconds of a forward pass."""
        cubes, rest = _BY_ROWS if by_rows else _PLAIN
        seconds = forward_pass * (cubes / target.forward.part_with_weight(target.nuisance) + rest)
        threads = at_once(target.forward.executor)
        time = f"{seconds / 60.0:.0f} min" if seconds > 100.0 else f"{seconds:.0f} s"
        together = f", {threads} at a time" if threads else ""
        self.report.say(f"{target.solver_name}: about {time} for the cycles on all frames{together}")

    def some_frames(self, observations: Observations, rows: int, fewest: int) -> list[int]:
        """Indices of frames, evenly over the scan, with at least so many rows per parameter, and so many frames."""
        rp = self.model.reparametrisation(self.settings.refined)
        parameters = rp.jacobian_transpose_matching_grad_fc().n_rows
        return observations.evenly(rows * (parameters + 1), fewest)

    def _fit_so_far(self, target: Target, ls: crystallographic_ls, shift: float, where: str) -> Callable[[], TheoryFit]:
        """Function that makes the fit of this cycle later, from copies of the present state."""
        fit = partial(
            theory_fit,
            ls.data.scattering,
            target.nuisance,
            self.model.structure.deep_copy_scatterers(),
            ls.cubes,
            self.chosen,
            self.checkpoint.seconds,
            least_squares=LeastSquaresFit.of(ls, shift, model=self.model),
            learnt=ls.data.learnt,
        )
        return lambda: replace(fit(), interrupted=where)


def _expect_determined(ls: crystallographic_ls) -> None:
    singular = is_singular(ls.normal_matrix)
    try:
        if not singular:
            ls.solve()
    except RuntimeError:
        singular = True
    if singular:
        named = ", ".join(undetermined(ls.normal_matrix, ls.reparametrisation))
        raise Undetermined(
            f"{ls.n_equations} rows do not determine all of {ls.n_refined} parameters"
            f"{named and f' ({named})'}: take more frames, or fewer "
            "parameters (refinement.hydrogens=riding, refinement.anisotropic=none), or refinement.method=gradient"
        )
