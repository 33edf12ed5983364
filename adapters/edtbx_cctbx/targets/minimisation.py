"""cctbx's L-BFGS minimiser with direct summation of structure factors, as the targets need it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cctbx import xray
from libtbx.utils import Sorry

from edtbx.execution.memory import TooLarge
from edtbx.execution.progress import SILENT, Reporter
from edtbx.intensities.frame_waves import Rows
from edtbx_cctbx.arrays import from_numpy
from edtbx_cctbx.io.checkpoint import atoms_of, put_atoms
from edtbx_cctbx.targets.parabola import TargetParabola, independent_parameters
from edtbx_cctbx.targets.target import Target, expect_target

_BOUNDED = "xray.set_scatterer_grad_flags(structure.scatterers(), ..., u_iso=True, tan_u_iso=True, param=15)"

_LEAST_SHIFT = 0.01
"""Shift in s.u.s that the target may still ask for: it falls by the square of that beside a mean residual."""

_MOST_PASSES = 60
"""Most passes over the observations."""

_DAMPING, _LEAST_DAMPING, _STRONGER = 0.03, 1e-3, 5.0
"""First and least damping, and by how much it rises or falls: the error of the rows slows convergence by more."""

_AS_EXPECTED, _UNEXPECTED = 0.75, 0.25
"""Parts of the expected fall of the target from which damping falls, and up to which it rises and rows are renewed."""


class UnboundedDisplacements(UserWarning):
    """U_iso is refined without bounds, and a step may make it too negative for cctbx."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MinimisedByPasses:
    """What a minimisation by parabolas reached, by the names of ``xray.minimization.lbfgs``.

    Attributes
    ----------
    xray_structure, target_functor
        The refined structure, and the target.
    first_target_value, final_target_value : float
        Of the target itself, at the start and at the end.
    passes : int
        Number of passes over the observations.
    """

    xray_structure: xray.structure
    target_functor: Target
    first_target_value: float
    final_target_value: float
    passes: int


def minimise_with_lbfgs(
    target: Target,
    xray_structure: xray.structure,
    *,
    lbfgs_termination_params: Any = None,
    occupancy_penalty: Any = None,
    verbose: int = 0,
    report: Reporter = SILENT,
) -> MinimisedByPasses | xray.minimization.lbfgs:
    """Refine a structure in place; what was reached, by the names of ``xray.minimization.lbfgs``.

    Structure factors and their derivatives come from direct summation without tables; the defaults of lbfgs (FFT, tables)
    are off by 1 and 2 %. Where the solver gives rows of a design matrix at little cost, each pass over the observations
    gives the exact gradient, and the step after it is that of a parabola with the curvature of the rows and of former
    steps, until the target would fall by no more than a shift of 0.01 s.u.s makes it. With termination parameters or a
    penalty lbfgs minimises the target itself, and the finished ``xray.minimization.lbfgs`` is returned.

    Parameters
    ----------
    target : Target
    xray_structure : xray.structure
        Of the same crystal; ``xray.set_scatterer_grad_flags`` says which parameters are refined.
    lbfgs_termination_params, occupancy_penalty, verbose
        As in ``xray.minimization.lbfgs``.
    report : Reporter
        Is told of every pass; their number is the attribute ``passes`` of the result.

    Raises
    ------
    TypeError, ValueError
        The arguments have changed places, or the structure is of another crystal.
    Sorry
        Nothing is to be refined, or a displacement parameter has run away.

    Warns
    -----
    UnboundedDisplacements
        U_iso moves without ``tan_u_iso`` where the target itself is minimised: the first step is often too long.
    """
    structure = expect_target(target).accepted(xray_structure)
    flags = [scatterer.flags for scatterer in structure.scatterers()]
    if not structure.n_parameters():
        raise Sorry("no parameter of the structure is to be refined: call xray.set_scatterer_grad_flags first")
    known = not any(flag.grad_fp() or flag.grad_fdp() for flag in flags)  # to smtbx
    kwds = {"structure_factor_algorithm": "direct", "cos_sin_table": False, "verbose": verbose}
    with _one_line_for_displacements():
        if lbfgs_termination_params is None and occupancy_penalty is None and known:
            minimised = _by_passes(target, structure, report)
            if minimised is not None:
                return minimised
        if any(flag.grad_u_iso() and flag.use_u_iso() and not flag.tan_u_iso() for flag in flags):
            warnings.warn(
                f"U_iso is refined without bounds, which often ends in a RuntimeError: call {_BOUNDED} in place of "
                "u_iso=True alone",
                UnboundedDisplacements,
                stacklevel=2,
            )
        return xray.minimization.lbfgs(
            target_functor=target,
            xray_structure=structure,
            occupancy_penalty=occupancy_penalty,
            lbfgs_termination_params=lbfgs_termination_params,
            **kwds,
        )


def _by_passes(target: Target, structure: xray.structure, report: Reporter) -> MinimisedByPasses | None:
    """Steps from pass to pass over the observations, until a further one would no longer matter.

    None where rows of the design matrix take too many passes, or too much memory.
    """
    if Rows.usual(target.forward.solver) is Rows.EXACT:
        return None
    moving = independent_parameters(structure)
    try:
        parabola = TargetParabola.at(target, moving)
    except TooLarge:
        return None
    first, damping = parabola.value, _DAMPING
    least, noise = _LEAST_SHIFT**2 / len(target.observations), _of_noise(target)
    for passes in range(2, _MOST_PASSES + 1):
        before = atoms_of(structure)
        shifts, lowest = parabola.step(damping)
        moving.apply_shifts(from_numpy(shifts))
        moving.linearise()
        moving.store()
        moved = TargetParabola.at(target, moving, parabola)
        parabola = parabola.with_secant(shifts, moved)
        moved = replace(moved, secants=parabola.secants)
        expected, fell = parabola.value - lowest, parabola.value - moved.value
        report.say(f"pass {passes} over the observations: target {moved.value:.6g}, {parabola.value:.6g} before")
        at_end = expected < least * max(parabola.value, noise)
        if fell < 0.0:
            put_atoms(structure, before)
            moving = independent_parameters(structure)
        else:
            parabola = moved.with_new_rows() if fell < _UNEXPECTED * expected and not at_end else moved
        if at_end:
            break
        if fell < _UNEXPECTED * expected:
            damping *= _STRONGER
        elif fell > _AS_EXPECTED * expected:
            damping = max(damping / _STRONGER, _LEAST_DAMPING)
    return MinimisedByPasses(
        xray_structure=structure,
        target_functor=target,
        first_target_value=first,
        final_target_value=parabola.value,
        passes=passes,
    )


def _of_noise(target: Target) -> float:
    """The target if residuals were what the s.u.s of the intensities say."""
    sigmas = target.observations.split(target.observations.reflections.sigma)
    return sum(float(weights @ sigma**2) for weights, sigma in zip(target.forward.weights, sigmas, strict=True))


@contextmanager
def _one_line_for_displacements() -> Iterator[None]:
    """Sorry in place of cctbx's error for a displacement parameter that has run away."""
    try:
        yield
    except RuntimeError as error:
        if "debye_waller" not in str(error).lower():
            raise
        if "anisotropic" in str(error):
            remedy = "refine isotropically first, or sites before displacements"
        else:
            remedy = f"bound it, {_BOUNDED}"
        raise Sorry(f"a displacement parameter has run away, as lbfgs makes long first steps: {remedy}") from error
