"""Restraints of smtbx on atoms that are isotropic at first and anisotropic later."""

from __future__ import annotations

import copy
from typing import Any

from cctbx import adp_restraints, xray


class Restraints:
    """Restraints manager of smtbx that applies ISOR only to atoms that are anisotropic at the time."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager

    def build_linearised_eqns(self, xray_structure: xray.structure, parameter_map: Any) -> Any:
        """Linearised restraints of the manager, without ISOR on isotropic atoms."""
        manager = copy.copy(self.manager)
        if manager.isotropic_adp_proxies is not None:
            scatterers = xray_structure.scatterers()
            manager.isotropic_adp_proxies = adp_restraints.shared_isotropic_adp_proxy(
                [proxy for proxy in manager.isotropic_adp_proxies if scatterers[proxy.i_seqs[0]].flags.use_u_aniso()]
            )
        return manager.build_linearised_eqns(xray_structure, parameter_map)
