"""A driver for least squares of structures that may start far away."""

from __future__ import annotations

import numpy as np
from scitbx.lstbx import normal_eqns_solving


_NOISE = 1e-3
"""Part of the objective by which it may rise: weights follow the intensities, and what is fitted in between is not exact."""


class guarded_iterations(normal_eqns_solving.iterations):  # type: ignore[misc]
    """Gauss–Newton steps, each halved until it leads downhill; they end where no parameter moves by its s.u. any more.

    Like the drivers of ``scitbx.lstbx`` it is given the least squares and does everything when it is made. Steps that
    cctbx cannot follow (displacements far below zero) count as uphill.
    """

    n_max_iterations = 10
    convergence_as_shift_over_esd = 0.01
    n_max_halvings = 5

    def do(self) -> None:
        """Iterate."""
        ls = self.non_linear_ls
        self.n_iterations = 0
        self.max_shift_over_su = np.inf
        while self.n_iterations < self.n_max_iterations:
            ls.build_up()
            before = ls.objective()
            ls.solve()
            su = np.sqrt(ls.covariance_matrix().matrix_packed_u_diagonal().as_numpy_array())
            self.max_shift_over_su = float(np.max(np.abs(ls.step().as_numpy_array()) / su))
            if not self._goes_down(before):
                return
            self.n_iterations += 1
            if self.max_shift_over_su < self.convergence_as_shift_over_esd:
                return

    def _goes_down(self, before: float) -> bool:
        """Take the step, or a half of a half of it; none, if all lead uphill."""
        ls = self.non_linear_ls
        for _ in range(self.n_max_halvings + 1):
            ls.step_forward()
            try:
                ls.build_up(objective_only=True)
                if ls.objective() <= before * (1.0 + _NOISE):
                    return True
            except RuntimeError:
                pass
            ls.step_backward()
            step = ls.step()  # by reference
            step *= 0.5
        return False

    def __str__(self) -> str:
        return "Gauss-Newton, steps halved until they lead downhill"
