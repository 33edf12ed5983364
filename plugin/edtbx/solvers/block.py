"""What every solver is given and what it gives back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeAlias

from numpy.typing import NDArray

from edtbx.arrays import FloatArray, IntArray

Coupling: TypeAlias = NDArray[Any]
"""A matrix (N, N), complex or, for a centrosymmetric crystal, real."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What a solver may leave out to save time.

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
        """Whether single precision does: its rounding over some hundred terms stays below 1e-6 of the beam."""
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
    """Derivatives of a number T that depends on the intensities of a block.

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
"""Takes a seed (J, M, T) of the intensities to the derivatives of a block."""


class Solver(ABC):
    """Intensities of a block, and their derivatives: what every solver derives from.

    ``intensities`` must be there, ``adjoint`` is what refinement and maps need, and the others have defaults, which a solver
    may do better. A solver is stateless and may be called from several threads at once.

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
        """Σ_b w_jb I_h(b, t), shape (J, M, T): the flux of each wanted beam for unit incident flux."""

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
        """The intensities (J, M, T), and what leads from a seed of them to derivatives."""
        return self.intensities(block), partial(self.adjoint, block)

    def jacobian_rows(self, block: Block, seed: FloatArray) -> Iterator[tuple[int, Coupling]]:
        """∂/∂u (N, N), as in :class:`Adjoint`, of Σ_jt seed_jt I_m(j, t) for each wanted beam m: its place, and the row.

        The seed (J, T) is one for all. Beams come in any order, one row at a time, for M of them may not fit the memory.
        """
        for place in range(len(block.wanted)):
            single = replace(block, wanted=block.wanted[place : place + 1])
            yield place, self.adjoint(single, seed[:, None, :]).u


SolverFactory: TypeAlias = Callable[[], Solver]
