"""Interface of solvers: the block that they are given, its intensities, and their derivatives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edtbx.arrays import FloatArray, IntArray

Coupling: TypeAlias = NDArray[Any]
"""Matrix (N, N) of Fourier coefficients U in Å⁻², complex or, for a centrosymmetric crystal, real."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Limits on the beams and the error of a solver, which trade time for accuracy.

    Attributes
    ----------
    s_max : float, Å⁻¹
        Beams with a larger |S_g| may be left out of the wave of an orientation.
    s_strong : float, Å⁻¹
        Beams with a larger |S_g| may be folded into the others by perturbation; infinite: none may.
    tolerance : float
        Error of an intensity, as a part of the incident one, that rounding and cut series may add.
    """

    s_max: float = 0.02
    s_strong: float = math.inf
    tolerance: float = 1e-10

    @property
    def single(self) -> bool:
        """Whether single precision suffices: its rounding over some hundred terms stays below 1e-6 of the beam."""
        return self.tolerance > 3e-7


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Block:
    """B orientations that share N beams and their coupling.

    Attributes
    ----------
    u : (N, N) complex or real, Å⁻²
        ``u[g, h] = U(h − g)``, the order that ``exp(+2πi h·x)`` structure factors ask for; its diagonal is not used.
        Real for a centrosymmetric crystal whose centre is the origin.
    s_g : (B, N), Å⁻¹
        Excitation errors; beam 0 is the incident one.
    surface : (B, N)
        M_g of the inclined exit wave, 1 for beam 0.
    weights : (J, B)
        Weights of the orientations in each of J sums of intensities.
    wanted : (M,) int
        The beams whose intensities are asked for.
    thickness : (T,), Å
        Thicknesses at which they are asked for.
    wavenumber : float, Å⁻¹
        K inside the crystal.
    accuracy : Accuracy
        What may be left out.
    """

    u: Coupling
    s_g: FloatArray
    surface: FloatArray
    weights: FloatArray
    wanted: IntArray
    thickness: FloatArray
    wavenumber: float
    accuracy: Accuracy


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Adjoint:
    """Derivatives of a function T of the intensities of a block.

    Attributes
    ----------
    u : (N, N), complex or real as the coupling of the block
        ∂T/∂Re u + i ∂T/∂Im u, every element of u independent: the caller sums over equal differences. Its diagonal is 0.
    s_g : (B, N)
        ∂T/∂S_g, the surface terms held.
    """

    u: Coupling
    s_g: FloatArray


Pullback: TypeAlias = Callable[[FloatArray], Adjoint]
"""Function from a seed ∂T/∂intensities (J, M, T) to the derivatives of a block."""


class Solver(ABC):
    """Base class of solvers: intensities of a block, and their derivatives.

    ``intensities`` is required, ``adjoint`` is needed for refinement and maps, and the other methods have defaults that a
    solver may improve on. A solver is stateless and may be called from several threads at once.

    Attributes
    ----------
    approximation : str or None
        "two_beam" or "kinematical" for one that is an approximation on purpose: :func:`edtbx.testing.check_solver` then
        holds it to that formula, for the diffracted beams; None for one that couples all beams.
    folds : bool
        Whether it folds the beams beyond ``accuracy.s_strong`` into the others; it is then given more of them.
    """

    approximation: ClassVar[str | None] = None
    folds: ClassVar[bool] = False

    @abstractmethod
    def intensities(self, block: Block) -> FloatArray:
        """Intensities Σ_b w_jb I_h(b, t) (J, M, T): the flux of each wanted beam for unit incident flux."""

    @property
    def gives_derivatives(self) -> bool:
        """Whether there is an ``adjoint``."""
        return type(self).adjoint is not Solver.adjoint

    def adjoint(self, block: Block, seed: FloatArray) -> Adjoint:
        """Derivatives of ``T = Σ seed · intensities`` for a seed (J, M, T).

        Raises
        ------
        ValueError
            The solver gives none.
        """
        raise ValueError(f"the solver {type(self).__name__} gives no derivatives: take another one to refine")

    def pullback(self, block: Block) -> tuple[FloatArray, Pullback]:
        """Intensities (J, M, T), and the function from a seed of them to derivatives.

        Raises
        ------
        ValueError
            The solver gives no derivatives (raised by that function).
        """
        return self.intensities(block), partial(self.adjoint, block)

    def jacobian_rows(self, block: Block, seed: FloatArray) -> Iterator[tuple[int, Coupling]]:
        """Rows ∂/∂u (N, N), as in :class:`Adjoint`, of Σ_jt seed_jt I_m(j, t): the place of the wanted beam m, and its row.

        All share the seed (J, T). Beams come in any order, one row at a time, for M of them may not fit the memory. Costs an
        adjoint for each.

        Raises
        ------
        ValueError
            The solver gives no derivatives.
        """
        _, pullback = self.pullback(block)
        for place in range(len(block.wanted)):
            alone = np.zeros((len(seed), len(block.wanted), seed.shape[1]))
            alone[:, place] = seed
            yield place, pullback(alone).u


SolverFactory: TypeAlias = Callable[[], Solver]
"""Makes a solver: its class, where that takes no arguments."""
