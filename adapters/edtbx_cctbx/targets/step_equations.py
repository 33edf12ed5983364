"""Normal equations with the interface that drivers of ``scitbx.lstbx`` expect."""

from __future__ import annotations

from typing import Any

from scitbx.lstbx import normal_eqns


class StepEquations(normal_eqns.non_linear_ls_mixin):
    """Normal equations of the structure parameters alone.

    Everything is divided by Σ w I_obs², as in ``scitbx.lstbx``.
    """

    def __init__(self, n_parameters: int) -> None:
        self.n_parameters = n_parameters
        self._step_equations: Any = None
        self._sum_w_yo_sq = 0.0
        self._objective = 0.0

    @property
    def finalised(self) -> bool:
        """Whether equations have been built."""
        return self._step_equations is not None

    def _start_step_equations(self) -> None:
        self._step_equations = normal_eqns.ext.linear_ls(self.n_parameters)

    def step_equations(self) -> Any:
        """The equations of the next step, which a driver may damp."""
        return self._step_equations

    def sum_w_yo_sq(self) -> float:
        """Σ w I_obs², the normalisation of the objective."""
        return self._sum_w_yo_sq

    def objective(self) -> float:
        """Half of Σ w (I_obs − k I_calc)²/Σ w I_obs², restraints added."""
        return self._objective

    def optimal_scale_factor(self) -> float:
        """1: every frame has a scale of its own, and ``fc_sq`` is scaled."""
        return 1.0
