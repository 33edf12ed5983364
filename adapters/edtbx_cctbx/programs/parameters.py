"""What PHIL parameters mean inside: degrees become radians here and nowhere else."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numpy as np
from libtbx import Auto
from libtbx.utils import Sorry

from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.nuisance import THICKEST
from edtbx.intensities.thickness import LAWS
from edtbx.measurement.selection import SelectionRules
from edtbx_cctbx.programs.cluster import check_address
from edtbx_cctbx.refinement.settings import created


def fit_settings(params: Any, executor: Executor | None = None) -> dict[str, Any]:
    """Arguments of :class:`Settings` from the parameters of a program, with the workers of a cluster if one is given.

    Raises
    ------
    Sorry
        They contradict each other.
    """
    check_workers(params)
    thickness, spread = params.thickness, params.spread
    if thickness.value is not None and not 0.0 < thickness.value <= THICKEST:
        raise Sorry(f"thickness.value must be > 0 Å and at most {THICKEST:g} Å, got {thickness.value:g} (is it in nm?)")
    if not thickness.refine and thickness.value is None:
        raise Sorry("thickness.refine=False needs thickness.value (in Å)")
    created(solver_name(params))
    sigma = spread.sigma if spread.sigma is not None else (None if spread.refine else 0.0)
    shape = word(thickness.shape)
    shapes = LAWS if shape == "auto" else (shape,)
    frames = params.frames
    return {
        "solver": solver_name(params),
        "g_max": params.beams.g_max,
        "tolerance": params.accuracy.tolerance,
        "s_max": params.beams.s_max,
        "s_strong": params.beams.s_strong,
        "bounds": NuisanceBounds(
            shapes=shapes,
            thickness=thickness.value,
            sigma=None if sigma is None else float(np.radians(sigma)),
            sigma_max=float(np.radians(max(spread.sigma_max, sigma or 0.0))),
            refine_centres=frames.refine_orientation,
            centre_max=float(np.radians(frames.orientation_max)),
        ),
        "rules": SelectionRules(
            rsg_max=params.selection.rsg_max,
            dsg_min=params.selection.dsg_min,
            sg_max=params.selection.sg_max,
            d_min=params.selection.d_min,
            min_reflections=frames.min_reflections,
        ),
        "nproc": params.nproc,
        "executor": executor,
    }


def check_workers(params: Any) -> None:
    """Refuse threads beside a cluster, and an address that is none."""
    if params.cluster is not None and params.nproc is not None:
        raise Sorry(
            f"nproc={params.nproc} counts threads of this machine, and cluster takes their place: leave out one of them"
        )
    if params.cluster is not None:
        check_address(params.cluster)


def solver_name(params: Any) -> str:
    """The name, or ``auto``, which PHIL takes for a word of its own."""
    return "auto" if params.solver.name in (Auto, None) else params.solver.name


def word(choice: Any) -> str:
    """The choice made, also where PHIL takes ``auto`` or ``none`` for a word of its own."""
    return {Auto: "auto", None: "none"}.get(choice, choice)
