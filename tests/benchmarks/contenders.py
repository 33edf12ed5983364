"""What is timed: our solvers, and what one would write with scipy, abTEM or torch."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from scipy.linalg import eigh

from edtbx.arrays import ComplexArray, FloatArray
from edtbx.solvers.block import Block
from edtbx.solvers.registry import installed_solvers


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way to the intensities (J, M, T) of a block, and one to value and gradient for a seed, if there is any."""

    name: str
    needs: str | None = None
    folds: bool = False
    intensities: Callable[[Block], FloatArray]
    gradient: Callable[[Block, FloatArray], ComplexArray] | None = None

    @property
    def importable(self) -> bool:
        """Whether the package that it needs is there."""
        return self.needs is None or find_spec(self.needs) is not None


def _ours(name: str) -> Contender:
    solver = installed_solvers().create(name)
    return Contender(
        name=name,
        folds=getattr(solver, "folds", False),
        intensities=solver.intensities,
        gradient=lambda block, seed: solver.pullback(block)[1](seed).u,
    )


def _matrices(block: Block):
    """Weights (J,), places of the beams near the Ewald sphere, and their matrix A, of one orientation after another."""
    for s_g, m, weights in zip(block.s_g, block.surface, block.weights.T, strict=True):
        near = np.flatnonzero((np.abs(s_g) <= block.accuracy.s_max) | (np.arange(len(s_g)) == 0))
        a = block.u[np.ix_(near, near)] * np.outer(m[near], m[near])
        np.fill_diagonal(a, 2.0 * block.wavenumber * s_g[near] * m[near] ** 2)
        yield weights, near, a


def _scipy(block: Block) -> FloatArray:
    """LAPACK's divide and conquer through scipy."""
    total = np.zeros((len(block.weights), len(block.wanted), len(block.thickness)))
    for weights, near, a in _matrices(block):
        values, vectors = eigh(a, driver="evd")
        phases = np.exp(1j * np.pi / block.wavenumber * np.outer(values, block.thickness))
        flux = np.zeros((len(block.u), len(block.thickness)))
        flux[near] = np.abs((vectors * vectors[0].conj()) @ phases) ** 2
        total += weights[:, None, None] * flux[block.wanted]
    return total


def _torch(block: Block, u):
    """matrix_exp of the first thickness, and products for the others, which are its multiples; u is a tensor."""
    import torch

    place = np.full(len(block.u), -1)
    sums = []
    for b, (weights, near, a) in enumerate(_matrices(block)):
        place[:] = -1
        place[near] = np.arange(len(near))
        m = torch.from_numpy(block.surface[b, near])
        here = torch.from_numpy(near)
        off = 1.0 - torch.eye(len(near), dtype=torch.float64)
        matrix = u[here[:, None], here] * (off * m[:, None] * m) + torch.diag(torch.from_numpy(a.diagonal().copy()))
        step = torch.linalg.matrix_exp(1j * np.pi * block.thickness[0] / block.wavenumber * matrix)
        waves = [step[:, 0]]
        for _ in block.thickness[1:]:
            waves.append(step @ waves[-1])
        asked = torch.from_numpy(place[block.wanted])
        flux = (torch.stack(waves, dim=1).abs() ** 2)[asked.clamp(min=0)] * (asked >= 0)[:, None]
        sums.append(torch.from_numpy(weights)[:, None, None] * flux)
    return torch.stack(sums).sum(dim=0)


def _torch_intensities(block: Block) -> FloatArray:
    import torch

    with torch.no_grad():
        return _torch(block, torch.from_numpy(block.u)).numpy()


def _torch_gradient(block: Block, seed: FloatArray) -> ComplexArray:
    """By automatic differentiation: ∂T/∂Re u + i ∂T/∂Im u."""
    import torch

    u = torch.from_numpy(block.u).requires_grad_()
    (torch.from_numpy(seed) * _torch(block, u)).sum().backward()
    return u.grad.numpy()


def _abtem(block: Block) -> FloatArray:
    return installed_solvers().create("abtem").intensities(block)


PROPAGATOR, EIGEN = _ours("propagator"), _ours("eigen")
OTHERS = (
    Contender(name="scipy eigh (evd)", intensities=_scipy),
    Contender(name="abTEM Bloch", needs="abtem", intensities=_abtem),
    Contender(name="torch matrix_exp", needs="torch", intensities=_torch_intensities, gradient=_torch_gradient),
)
