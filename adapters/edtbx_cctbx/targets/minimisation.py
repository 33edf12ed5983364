"""cctbx's L-BFGS minimiser with direct summation of structure factors, as the targets need it."""

from __future__ import annotations

import warnings
from typing import Any

from cctbx import xray
from libtbx.utils import Sorry

from edtbx_cctbx.targets.target import Target, expect_target

_BOUNDED = "xray.set_scatterer_grad_flags(structure.scatterers(), ..., u_iso=True, tan_u_iso=True, param=15)"


class UnboundedDisplacements(UserWarning):
    """U_iso is refined without bounds, and a step may make it too negative for cctbx."""


def minimise_with_lbfgs(
    target: Target,
    xray_structure: xray.structure,
    *,
    lbfgs_termination_params: Any = None,
    occupancy_penalty: Any = None,
    verbose: int = 0,
) -> xray.minimization.lbfgs:
    """Refine a structure in place; the finished ``xray.minimization.lbfgs``.

    Structure factors and their derivatives come from direct summation without tables; the defaults of lbfgs (FFT, tables)
    are off by 1 and 2 %.

    Parameters
    ----------
    target : Target
    xray_structure : xray.structure
        Of the same crystal; ``xray.set_scatterer_grad_flags`` says which parameters are refined.
    lbfgs_termination_params, occupancy_penalty, verbose
        As in ``xray.minimization.lbfgs``.

    Raises
    ------
    TypeError, ValueError
        The arguments have changed places, or the structure is of another crystal.
    Sorry
        Nothing is to be refined, or a displacement parameter has run away.

    Warns
    -----
    UnboundedDisplacements
        U_iso moves without ``tan_u_iso``: its first step is often too long.
    """
    structure = expect_target(target).accepted(xray_structure)
    flags = [scatterer.flags for scatterer in structure.scatterers()]
    if not structure.n_parameters():
        raise Sorry("no parameter of the structure is to be refined: call xray.set_scatterer_grad_flags first")
    if any(flag.grad_u_iso() and flag.use_u_iso() and not flag.tan_u_iso() for flag in flags):
        warnings.warn(
            f"U_iso is refined without bounds, which often ends in a RuntimeError: call {_BOUNDED} in place of u_iso=True "
            "alone",
            UnboundedDisplacements,
            stacklevel=2,
        )
    try:
        return xray.minimization.lbfgs(
            target_functor=target,
            xray_structure=structure,
            occupancy_penalty=occupancy_penalty,
            lbfgs_termination_params=lbfgs_termination_params,
            structure_factor_algorithm="direct",
            cos_sin_table=False,
            verbose=verbose,
        )
    except RuntimeError as error:
        if "debye_waller" not in str(error).lower():
            raise
        if "anisotropic" in str(error):
            remedy = "refine isotropically first, or sites before displacements"
        else:
            remedy = f"bound it, {_BOUNDED}"
        raise Sorry(f"a displacement parameter has run away, as lbfgs makes long first steps: {remedy}") from error
