"""What must hold for the adjoint of a solver: it is that of its intensities, by finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.solvers.block import Adjoint, Block, Coupling, Solver
from edtbx.testing.crystal import copied, degenerate_block
from edtbx.testing.solver_under_test import Finding, Subject

_DIRECTIONS = 4

_MISTAKES: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "of the wrong sign": lambda along, _: -along,
    "half of what it should be: I = |ψ|² gives 2 Re ψ* dψ": lambda along, _: 2.0 * along,
    "twice what it should be": lambda along, _: 0.5 * along,
    "conjugated or transposed: ∂T/∂Re u + i ∂T/∂Im u, in the order of u": lambda _, conjugate: conjugate,
}
"""What the adjoint may be by mistake: the true slopes from those along it, and along its conjugate."""


def derivative_by_u(subject: Subject) -> Iterator[Finding]:
    """The adjoint gives ∂T/∂u, complex u."""
    yield from _by_u(subject, _shuffled(subject.block(50)))
    yield from _by_u(subject, _shuffled(subject.block(51, inclined=True)))


def derivative_by_real_u(subject: Subject) -> Iterator[Finding]:
    """The adjoint gives ∂T/∂u, real u."""
    yield from _by_u(subject, _shuffled(subject.block(52, centric=True)))
    yield from _by_u(subject, _shuffled(subject.block(53, inclined=True, centric=True)))


def derivative_at_equal_eigenvalues(subject: Subject) -> Iterator[Finding]:
    """The adjoint gives ∂T/∂u where eigenvalues are equal."""
    yield from _by_u(subject, subject.asked(degenerate_block(subject.tolerance)))


def derivative_by_s_g(subject: Subject) -> Iterator[Finding]:
    """The adjoint gives ∂T/∂S_g of every orientation, the surface terms held."""
    for block in (subject.block(54), subject.block(55, inclined=True), subject.block(56, centric=True)):
        if subject.solver.gives_derivatives:
            yield _by_s_g(subject, _shuffled(block))


def derivative_rows(subject: Subject) -> Iterator[Finding]:
    """Rows of the Jacobian are the adjoints of single beams."""
    solver = subject.solver
    if not solver.gives_derivatives:
        return
    for block in (_shuffled(subject.block(57)), _shuffled(subject.block(58, inclined=True, centric=True))):
        seed = _seed(block)[:, 0]
        rows = dict(solver.jacobian_rows(copied(block), seed))
        if sorted(rows) != list(range(len(block.wanted))):
            yield Finding.wrong(
                f"rows of the places {sorted(rows)}; one for each of the {len(block.wanted)} wanted beams"
            )
            return
        for place, row in rows.items():
            alone = np.zeros_like(_seed(block))
            alone[:, place] = seed
            expected = solver.adjoint(copied(block), alone).u
            problem = _misshapen("u", row, block.u)
            if problem:
                yield Finding.wrong(problem)
                return
            yield Finding.measured(
                float(np.max(np.abs(row - expected)) / max(np.max(np.abs(expected)), 1e-300)),
                max(100.0 * subject.tolerance, 1e-9),
                unit="the largest element",
                limit="rounding",
                cause="the usual cause: the seed (J, T), or rows that do not follow the order of the wanted beams",
            )


def _by_u(subject: Subject, block: Block) -> Iterator[Finding]:
    """Along Hermitian directions, the only ones that a structure can take."""
    if subject.solver.gives_derivatives:
        by_u = _adjoint(subject.solver, block).u
        problem = _misshapen("u", by_u, block.u)
        if not problem and np.any(np.diag(by_u)):
            problem = "the diagonal of adjoint.u is not 0: that of u is not used, and that of A belongs to adjoint.s_g"
        if problem:
            yield Finding.wrong(problem)
            return
        directions = [_hermitian(block.u, number) for number in range(_DIRECTIONS)]
        phase_per_unit = np.pi * block.thickness.max() / block.wavenumber
        numerical = _slopes(subject, [_moved_u(block, direction) for direction in directions], phase_per_unit)
        along = np.array([np.sum((by_u.conj() * direction).real) for direction in directions])
        conjugate = np.array([np.sum((by_u * direction).real) for direction in directions])
        cause = "a beam wanted twice counts once, M_g M_h, the weights (J, B), or the seed (J, M, T)"
        yield _judged(subject, along, conjugate, numerical, cause)


def _by_s_g(subject: Subject, block: Block) -> Finding:
    by_s_g = _adjoint(subject.solver, block).s_g
    problem = _misshapen("s_g", by_s_g, block.s_g)
    if problem:
        return Finding.wrong(problem)
    rng = np.random.default_rng(5)
    directions = rng.uniform(-1.0, 1.0, size=(_DIRECTIONS, *block.s_g.shape))
    moved = [_moved_s_g(block, direction) for direction in directions]
    numerical = _slopes(subject, moved, 2.0 * np.pi * block.thickness.max())
    along = np.array([np.sum(by_s_g * direction) for direction in directions])
    return _judged(
        subject, along, along, numerical, "the factor 2 K M_g², the weights (J, B), or a beam without its S_g"
    )


def _judged(subject: Subject, along: FloatArray, conjugate: FloatArray, numerical: FloatArray, cause: str) -> Finding:
    """Slopes of the adjoint along some directions against those by finite differences."""
    largest = float(np.max(np.abs(numerical)))

    def error_of(slopes: FloatArray) -> float:
        return float(np.max(np.abs(slopes - numerical))) / largest

    error = error_of(along)
    fitting = [name for name, true in _MISTAKES.items() if error_of(true(along, conjugate)) < 0.01 * error]
    return Finding.measured(
        error,
        _allowed(subject),
        unit="the largest slope",
        limit="the error of finite differences",
        cause=f"it is {fitting[0]}" if fitting else f"the usual cause: {cause}",
    )


def _allowed(subject: Subject) -> float:
    """With the step of :func:`_slopes`, rounding and the formula each leave tolerance^(4/5); T has some 100 terms."""
    return float(100.0 * subject.tolerance**0.8)


def _slopes(subject: Subject, moved: list[Callable[[float], Block]], phase_per_unit: float) -> FloatArray:
    """dT/dx at 0 along each direction by the five-point formula; ``moved(x)`` turns phases by ``x · phase_per_unit``."""
    step = subject.tolerance**0.2 / phase_per_unit

    def target(block: Block) -> float:
        return float(np.sum(_seed(block) * subject.intensities(block)))

    values = np.array([[target(at(n * step)) for n in (-2.0, -1.0, 1.0, 2.0)] for at in moved])
    return np.asarray(values @ np.array([1.0, -8.0, 8.0, -1.0]) / (12.0 * step))


def _adjoint(solver: Solver, block: Block) -> Adjoint:
    return solver.adjoint(copied(block), _seed(block))


def _misshapen(name: str, derivative: object, like: Coupling) -> str:
    if not isinstance(derivative, np.ndarray) or derivative.shape != like.shape or derivative.dtype != like.dtype:
        kind = (
            f"{derivative.dtype} {derivative.shape}"
            if isinstance(derivative, np.ndarray)
            else type(derivative).__name__
        )
        return f"adjoint.{name} is {kind}; {like.dtype} {like.shape}, as in the block, is asked for"
    if not np.all(np.isfinite(derivative)):
        return f"adjoint.{name} is not finite; the usual cause: a division by the difference of equal eigenvalues"
    return ""


def _shuffled(block: Block) -> Block:
    """The same with wanted beams and thicknesses in no order, one beam twice."""
    wanted = np.append(block.wanted[::-1], block.wanted[3])
    return replace(block, wanted=wanted, thickness=np.roll(block.thickness, 1))


def _moved_u(block: Block, direction: Coupling) -> Callable[[float], Block]:
    return lambda x: replace(block, u=block.u + x * direction)


def _moved_s_g(block: Block, direction: FloatArray) -> Callable[[float], Block]:
    return lambda x: replace(block, s_g=block.s_g + x * direction)


def _seed(block: Block) -> FloatArray:
    shape = (len(block.weights), len(block.wanted), len(block.thickness))
    return np.random.default_rng(3).normal(size=shape)


def _hermitian(like: Coupling, number: int) -> Coupling:
    """A Hermitian matrix (N, N) of norm 1 with a zero diagonal, real where ``like`` is."""
    rng = np.random.default_rng(number)
    matrix = rng.normal(size=like.shape).astype(like.dtype)
    if np.iscomplexobj(like):
        matrix += 1j * rng.normal(size=like.shape)
    matrix = matrix + matrix.conj().T
    np.fill_diagonal(matrix, 0.0)
    return np.asarray(matrix / np.linalg.norm(matrix, 2))
