"""Restraints of smtbx on atoms that are isotropic at first and anisotropic later."""

from __future__ import annotations

import copy
from typing import Any

from cctbx import adp_restraints, xray


class Restraints:
    """smtbx's manager, with restraints to isotropy (ISOR) on those atoms only that are anisotropic when it is asked."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager

    def build_linearised_eqns(self, xray_structure: xray.structure, parameter_map: Any) -> Any:
        """As the manager's."""
        manager = copy.copy(self.manager)
        if manager.isotropic_adp_proxies is not None:
            scatterers = xray_structure.scatterers()
            manager.isotropic_adp_proxies = adp_restraints.shared_isotropic_adp_proxy(
                [each for each in manager.isotropic_adp_proxies if scatterers[each.i_seqs[0]].flags.use_u_aniso()]
            )
        return manager.build_linearised_eqns(xray_structure, parameter_map)
