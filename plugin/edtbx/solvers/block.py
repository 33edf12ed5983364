"""What every solver is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from edtbx.experiment import ComplexArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Block:
    """B orientations that share N beams and their coupling.

    Attributes
    ----------
    u : (N, N) complex, Å⁻²
        ``u[g, h] = U(h − g)``, the order that ``exp(+2πi h·x)`` structure factors ask for; its diagonal is not used.
    s_g : (B, N), Å⁻¹
        Excitation errors; beam 0 is the incident one.
    surface : (B, N)
        M_g of the inclined exit wave, 1 for beam 0.
    weights : (B,)
        Weight of each orientation in the sum of intensities.
    wanted : (M,) int
        The beams whose intensities are asked for.
    thickness : (T,), Å
        Thicknesses at which they are asked for.
    wavenumber : float, Å⁻¹
        K inside the crystal.
    s_max : float, Å⁻¹
        Beams with a larger |S_g| may be left out of the wave of an orientation.
    """

    u: ComplexArray
    s_g: FloatArray
    surface: FloatArray
    weights: FloatArray
    wanted: IntArray
    thickness: FloatArray
    wavenumber: float
    s_max: float


class Solver(Protocol):
    """Intensities of a block, and their derivatives.

    A solver is stateless and may be called from several threads at once.
    """

    def intensities(self, block: Block) -> FloatArray:
        """Σ_b w_b I_h(b, t), shape (M, T): the flux of each wanted beam for unit incident flux."""
        ...

    def adjoint(self, block: Block, seed: FloatArray) -> ComplexArray:
        """∂T/∂Re u + i ∂T/∂Im u, shape (N, N), of ``T = Σ seed · intensities`` for a seed (M, T).

        Every element of u counts as independent: the caller sums over equal differences.
        """
        ...


SolverFactory: TypeAlias = Callable[[], Solver]
