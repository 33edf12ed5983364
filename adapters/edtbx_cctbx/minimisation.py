"""cctbx's minimiser with the structure factors that our targets need."""

from __future__ import annotations

from typing import Any

from cctbx import xray

from edtbx_cctbx.target import DynamicalTarget


def minimise_with_lbfgs(
    target: DynamicalTarget,
    xray_structure: xray.structure,
    *,
    lbfgs_termination_params: Any = None,
    occupancy_penalty: Any = None,
    verbose: int = 0,
) -> xray.minimization.lbfgs:
    """The finished ``xray.minimization.lbfgs``; the structure is refined in place.

    What moves is set by ``xray.set_scatterer_grad_flags``, as always. Structure factors and their derivatives come from
    direct summation without tables; the defaults of lbfgs (FFT, tables) are off by 1 and 2 %. The other arguments are
    those of lbfgs.
    """
    return xray.minimization.lbfgs(
        target_functor=target,
        xray_structure=xray_structure,
        occupancy_penalty=occupancy_penalty,
        lbfgs_termination_params=lbfgs_termination_params,
        structure_factor_algorithm="direct",
        cos_sin_table=False,
        verbose=verbose,
    )
