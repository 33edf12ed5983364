"""The conformance kit: good solvers pass, and each mistake is found and named."""

import time
from dataclasses import replace

import numpy as np
import pytest

from edtbx.solvers.block import Accuracy, Adjoint, Solver
from edtbx.solvers.eigen import EigenSolver
from edtbx.solvers.kinematical import KinematicalSolver
from edtbx.solvers.propagator import PropagatorSolver
from edtbx.solvers.registry import installed_solvers
from edtbx.solvers.two_beam import TwoBeamSolver
from edtbx.testing import ConformanceError, check_solver, conformance, random_block
from edtbx.testing.conformance import CHECKS
from edtbx.testing.crystal import two_beam_block
from edtbx.testing.reference import MISTAKES, many_beam

BUILT_IN = sorted(name for name, origin in installed_solvers().origins.items() if origin == "edtbx")
EIGEN = EigenSolver()


class Forward(Solver):
    """``eigen`` without its adjoint; subclasses spoil the block or the result."""

    def intensities(self, block):
        return self.after(block, EIGEN.intensities(self.before(block)))

    def before(self, block):
        return block

    def after(self, block, found):
        return found


class Backward(EigenSolver):
    """``eigen`` with an adjoint that subclasses spoil."""

    def adjoint(self, block, seed):
        return self.spoilt(block, EIGEN.adjoint(block, seed))


def spoilt_block(change):
    """A solver that gives ``eigen`` another block."""
    return type("Spoilt", (Forward,), {"before": lambda self, block: change(block)})()


def spoilt_result(change):
    """A solver that changes the result of ``eigen``."""
    return type("Spoilt", (Forward,), {"after": lambda self, block, found: change(block, found)})()


def spoilt_adjoint(change):
    """A solver that changes the adjoint of ``eigen``."""
    return type("Spoilt", (Backward,), {"spoilt": lambda self, block, found: change(block, found)})()


def failure(solver, *only, tolerance=None):
    """What is said of a solver that must fail: by check, the lines about it; ``only`` some checks, to save time."""
    with pytest.MonkeyPatch.context() as patch:
        if only:
            patch.setattr(conformance, "CHECKS", [check for check in CHECKS if check.__name__ in only])
        with pytest.raises(ConformanceError) as raised:
            check_solver(solver, tolerance=tolerance)
    report = raised.value.report
    assert str(raised.value) == str(report)
    return {result.check: str(result) for result in report.results if result.check in report.failed}


# ---- solvers that conform -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_solvers_conform(name):
    report = check_solver(name)
    assert report.failed == ()
    assert len(report.results) == len(CHECKS)
    skipped = {result.check for result in report.results if result.finding is None}
    assert skipped == {"two_beam": {"flux"}, "kinematical": {"flux", "two_beam_closed_form"}}.get(name, set())
    assert "all is well" in str(report)


def test_a_solver_need_not_give_derivatives():
    report = check_solver(Forward())
    skipped = [result.check for result in report.results if result.finding is None]
    assert skipped == [check.__name__ for check in CHECKS if check.__name__.startswith("derivative")]


def test_single_precision_conforms_to_a_tolerance_that_suits_it():
    assert check_solver(PropagatorSolver(precision="single"), tolerance=1e-5).tolerance == 1e-5
    assert "agreement_complex_u" in failure(PropagatorSolver(precision="single"), "agreement_complex_u")


def test_a_loose_tolerance_lets_no_mistake_through():
    twice = spoilt_block(lambda block: replace(block, thickness=2.0 * block.thickness))
    loose = {"two_beam_closed_form", "kinematical_limit", "agreement_complex_u", "agreement_real_u"}
    assert set(failure(twice, *loose, tolerance=1e-5)) == loose
    assert set(failure(gradient(lambda block, u: 1.1 * u), "derivative_by_u", tolerance=1e-5)) == {"derivative_by_u"}


def test_the_tolerance_reaches_the_solver():
    asked = set()

    class Listening(Forward):
        def before(self, block):
            asked.add(block.accuracy.tolerance)
            return block

    check_solver(Listening(), tolerance=1e-7)
    assert asked == {1e-7}


def test_an_unknown_name_or_approximation_is_told():
    with pytest.raises(ValueError, match="unknown solver 'eigne'"):
        check_solver("eigne")
    solver = Forward()
    solver.approximation = "paraxial"
    with pytest.raises(ValueError, match=r"'two_beam', 'kinematical' or None, got 'paraxial'"):
        check_solver(solver)


@pytest.mark.parametrize("solver", [TwoBeamSolver, KinematicalSolver])
def test_an_approximation_that_does_not_say_so_fails(solver):
    failed = failure(type("Silent", (solver,), {"approximation": None})())
    assert {"two_beam_closed_form", "flux", "agreement_complex_u", "agreement_real_u"} <= set(failed)


def test_an_approximation_is_held_to_its_formula():
    class Thick(TwoBeamSolver):
        def intensities(self, block):
            return super().intensities(replace(block, thickness=2.0 * block.thickness))

    assert "the phase is twice π t A/K" in failure(Thick())["agreement_complex_u"]


# ---- mistakes of the matrix, by name --------------------------------------------------------------------------------

MATRIX = {
    "the hand: u is used transposed": lambda b: replace(b, u=b.u.T.copy()),
    "the surface terms M_g are left out": lambda b: replace(b, surface=np.ones_like(b.surface)),
    "M_g acts on the diagonal only": lambda b: replace(b, s_g=b.s_g * b.surface**2, surface=np.ones_like(b.s_g)),
    "M_g acts off the diagonal only": lambda b: replace(b, s_g=b.s_g / b.surface**2),
    "the phase is half of π t A/K": lambda b: replace(b, wavenumber=2 * b.wavenumber, s_g=0.5 * b.s_g),
    "the phase is twice π t A/K": lambda b: replace(b, thickness=2 * b.thickness),
    "lacks its π": lambda b: replace(b, thickness=b.thickness / np.pi),
    "S_g has the other sign": lambda b: replace(b, s_g=-b.s_g),
    "the diagonal of A is half": lambda b: replace(b, s_g=b.s_g / 2),
    "the diagonal of A is twice": lambda b: replace(b, s_g=b.s_g * 2),
    "the diagonal of u is used": lambda b: replace(b, s_g=b.s_g + np.diag(b.u).real / (2 * b.wavenumber)),
    "the weights are not used": lambda b: replace(b, weights=np.ones_like(b.weights)),
}
RESULT = {
    "|ψ_g|² is returned": lambda b, found: many_beam_amplitudes(b),
    "the weights are divided by their sum": lambda b, found: found / b.weights.sum(axis=1)[:, None, None],
}


def many_beam_amplitudes(block):
    """Σ_b w_jb |ψ_h(b, t)|², by a loop."""
    total = 0.0
    for b in range(len(block.s_g)):
        one = slice(b, b + 1)
        part = replace(block, s_g=block.s_g[one], surface=block.surface[one], weights=block.weights[:, one])
        total = total + EIGEN.intensities(part) * block.surface[b, block.wanted][None, :, None] ** 2
    return total


@pytest.mark.parametrize("mistake", [*MATRIX, *RESULT])
def test_a_mistake_is_called_by_its_name(mistake):
    solver = spoilt_block(MATRIX[mistake]) if mistake in MATRIX else spoilt_result(RESULT[mistake])
    said = failure(solver, "agreement_complex_u")["agreement_complex_u"]
    assert mistake in said
    assert "just what this mistake gives" in said
    assert "allowed are 2.0e-10" in said


def test_every_mistake_that_has_a_name_is_tried_here():
    for sentence in MISTAKES:
        assert sum(sentence.find(known) >= 0 for known in [*MATRIX, *RESULT]) == 1, sentence


def test_mistakes_differ_in_the_blocks_of_the_kit():
    """Or a name could be given to the wrong one."""
    block = random_block(wavenumber=9.0)
    results = [mistaken(many_beam, block) for mistaken in MISTAKES.values()] + [many_beam(block)]
    for n, one in enumerate(results):
        for other in results[:n]:
            assert np.max(np.abs(one - other)) > 1e-3


# ---- every property -------------------------------------------------------------------------------------------------


class Clipping(Forward):
    def before(self, block):
        return replace(block, thickness=np.maximum(block.thickness, 50.0))


class Dividing(Forward):
    """0/0 without a potential."""

    def after(self, block, found):
        norm = np.linalg.norm(block.u)
        return found * (norm / norm) if norm else np.full_like(found, np.nan)


class Mutating(Forward):
    def before(self, block):
        np.fill_diagonal(block.u, 0.0)
        return block


class MutatingSeed(EigenSolver):
    def adjoint(self, block, seed):
        seed *= 2.0
        return super().adjoint(block, 0.5 * seed)


class OneBuffer(Forward):
    """The result lies in memory that the next call uses again."""

    def __init__(self):
        self.buffers = {}

    def after(self, block, found):
        buffer = self.buffers.setdefault(found.shape, found)
        buffer[:] = found
        return buffer


class Remembering(Forward):
    """The block at work is kept in the solver."""

    def before(self, block):
        self.block = block
        time.sleep(1e-3)
        return self.block


class ForgettingSums(Forward):
    def before(self, block):
        return replace(block, weights=np.repeat(block.weights[:1], len(block.weights), axis=0))


class RealOnly(Forward):
    """Complex u loses its imaginary part."""

    def before(self, block):
        return replace(block, u=block.u.real.copy())


class Choosing(Forward):
    """Beams that couple weakly to the incident one are left out, however much they couple to others."""

    def before(self, block):
        weak = np.abs(block.u[:, 0]) < 2e-3
        u = np.where(weak[:, None] | weak[None, :], 0.0, block.u)
        return replace(block, u=u.astype(block.u.dtype))


class OwnLimit(Forward):
    def before(self, block):
        return replace(block, accuracy=replace(block.accuracy, s_max=0.1))


class Sorting(Forward):
    def before(self, block):
        return replace(block, wanted=np.sort(block.wanted))


class SortingThickness(Forward):
    def before(self, block):
        return replace(block, thickness=np.sort(block.thickness))


class ComplexFromReal(Forward):
    """Real u is taken in single precision."""

    def before(self, block):
        return block if np.iscomplexobj(block.u) else replace(block, u=block.u.astype(np.float32).astype(float))


class Lossy(Forward):
    def before(self, block):
        return replace(block, thickness=block.thickness * (1 + 1e-9))

    def after(self, block, found):
        return found * (1 - 1e-8)


def broken_two_beam(block, found):
    """Right for many beams, wrong for two."""
    return found if len(block.u) > 2 else 1.01 * found


def not_weak(block, found):
    """Weak reflections come out one per cent too strong."""
    return np.where(found < 1e-3, 1.01 * found, found)


def gradient(change):
    return spoilt_adjoint(lambda block, found: replace(found, u=change(block, found.u)))


def by_s_g(change):
    return spoilt_adjoint(lambda block, found: replace(found, s_g=change(block, found.s_g)))


def only_real(change):
    return gradient(lambda block, u: u if np.iscomplexobj(block.u) else change(u))


class CountingOnce(EigenSolver):
    """The seed of a beam that is wanted twice is written over."""

    def adjoint(self, block, seed):
        beams = np.unique(block.wanted)
        kept = np.zeros((len(seed), len(beams), seed.shape[2]))
        kept[:, np.searchsorted(beams, block.wanted)] = seed
        return super().adjoint(replace(block, wanted=beams), kept)


class DividingAdjoint(EigenSolver):
    def adjoint(self, block, seed):
        found = super().adjoint(block, seed)
        return replace(found, u=found.u * np.nan) if not np.any(block.s_g) else found


class Rows(EigenSolver):
    """Rows of the Jacobian as they should be, then spoilt."""

    def __init__(self, spoil):
        self.spoil = spoil

    def jacobian_rows(self, block, seed):
        yield from self.spoil(block, list(EIGEN.jacobian_rows(block, seed)))


class Raising(Forward):
    def after(self, block, found):
        if len(block.u) == 2:
            raise ZeroDivisionError("no third beam")
        return found


BROKEN = [
    ("shape_and_type", spoilt_result(lambda b, i: np.moveaxis(i, 2, 0)), "(J, M, T) = (2, 5, 3)"),
    ("shape_and_type", spoilt_result(lambda b, i: i[0]), "the shape is (5, 3)"),
    ("shape_and_type", spoilt_result(lambda b, i: i.astype(np.float32)), "the type is float32, float64 is asked for"),
    ("shape_and_type", spoilt_result(lambda b, i: i.tolist()), "a list is returned"),
    ("shape_and_type", spoilt_result(lambda b, i: i * np.nan), "not finite"),
    ("nothing_to_scatter", Clipping(), "the thickness is clipped"),
    ("nothing_to_scatter", Dividing(), "divides by U"),
    ("two_beam_closed_form", spoilt_result(broken_two_beam), "the scale of S_g"),
    ("two_beam_closed_form", Raising(), "the solver raised ZeroDivisionError: no third beam"),
    ("kinematical_limit", spoilt_result(not_weak), "of the strongest reflection"),
    ("flux", Lossy(), "|ψ_g|² instead of |ψ_g|²/M_g²"),
    ("agreement_complex_u", Lossy(), "usual cause: the matrix A_gh"),
    ("agreement_real_u", ComplexFromReal(), "a path of its own for a real u"),
    ("no_beam_left_out", OwnLimit(), "a limit that is not accuracy.s_max"),
    ("weights", ForgettingSums(), "row j gives sum j"),
    ("wanted_in_any_order", Sorting(), "rows are taken sorted"),
    ("wanted_in_any_order", spoilt_block(lambda b: replace(b, wanted=np.arange(len(b.wanted)))), "looking at wanted"),
    ("thickness_in_any_order", SortingThickness(), "thicknesses are taken as rising"),
    ("inverted_structure", Choosing(), "beams chosen by their coupling"),
    ("origin_shift", RealOnly(), "a part of u is lost"),
    ("input_and_results_kept", Mutating(), "block.u was changed"),
    ("input_and_results_kept", MutatingSeed(), "the seed of the adjoint was changed"),
    ("input_and_results_kept", OneBuffer(), "changed an earlier result"),
    ("two_threads", Remembering(), "another thread overwrites it"),
    ("derivative_by_u", gradient(lambda b, u: -u), "of the wrong sign"),
    ("derivative_by_u", gradient(lambda b, u: u / 2), "half of what it should be"),
    ("derivative_by_u", gradient(lambda b, u: u * 2), "twice what it should be"),
    ("derivative_by_u", gradient(lambda b, u: u.conj()), "conjugated or transposed"),
    ("derivative_by_u", gradient(lambda b, u: u.T), "conjugated or transposed"),
    ("derivative_by_u", gradient(lambda b, u: u.real), "float64 (20, 20); complex128 (20, 20)"),
    ("derivative_by_u", gradient(lambda b, u: u + np.eye(len(u))), "the diagonal of adjoint.u is not 0"),
    ("derivative_by_u", CountingOnce(), "a beam wanted twice counts once"),
    ("derivative_by_u", gradient(lambda b, u: u * b.weights.sum()), "the weights (J, B)"),
    ("derivative_by_real_u", only_real(lambda u: u.astype(complex)), "complex128 (20, 20); float64 (20, 20)"),
    ("derivative_by_real_u", only_real(lambda u: -u), "of the wrong sign"),
    ("derivative_at_equal_eigenvalues", DividingAdjoint(), "the difference of equal eigenvalues"),
    ("derivative_by_s_g", by_s_g(lambda b, s: -s), "of the wrong sign"),
    ("derivative_by_s_g", by_s_g(lambda b, s: s / b.surface**2), "the factor 2 K M_g²"),
    ("derivative_by_s_g", by_s_g(lambda b, s: s.T), "adjoint.s_g is float64 (20, 3)"),
    ("derivative_rows", Rows(lambda b, rows: rows[1:]), "one for each of the 21 wanted beams"),
    (
        "derivative_rows",
        Rows(lambda b, rows: zip(range(21), [u for _, u in rows][::-1], strict=True)),
        "the order of",
    ),
    (
        "derivative_rows",
        Rows(lambda b, rows: ((m, u[0]) for m, u in rows)),
        "complex128 (20,); complex128 (20, 20)",
    ),
    ("derivative_by_s_g", by_s_g(lambda b, s: np.column_stack([0 * s[:, :1], s[:, 1:]])), "a beam without its S_g"),
]


@pytest.mark.parametrize(("check", "solver", "said"), BROKEN)
def test_what_is_broken_is_found_and_named(check, solver, said):
    assert said in failure(solver, check)[check]


def test_every_check_is_seen_to_fail():
    assert {check for check, _, _ in BROKEN} == {check.__name__ for check in CHECKS}


def test_one_mistake_does_not_drag_the_rest_along():
    """What is right with a solver is said to be right, although it changes its input."""
    assert set(failure(Mutating())) == {"input_and_results_kept"}
    assert set(failure(Raising())) == {"two_beam_closed_form"}


# ---- the blocks are hard enough -------------------------------------------------------------------------------------


def test_blocks_hold_what_a_solver_may_get_wrong():
    block, inclined = random_block(), random_block(wavenumber=9.0)
    assert np.max(np.abs(block.surface - 1.0)) > 1e-4
    assert np.max(np.abs(inclined.surface - 1.0)) > 5e-3
    assert np.max(np.abs(block.u.imag)) > 0.3 * np.max(np.abs(block.u.real - np.diag(np.diag(block.u.real))))
    np.testing.assert_allclose(block.u, block.u.conj().T, atol=1e-15)
    assert np.all(np.diag(block.u) != 0.0)
    assert random_block(centric=True).u.dtype == float
    hand = replace(block, u=block.u.T.copy())
    assert np.max(np.abs(EIGEN.intensities(hand) - EIGEN.intensities(block))) > 0.01
    two = two_beam_block()
    transmitted = EIGEN.intensities(two)[0, 0] / two.weights[0].sum()
    assert np.sum(np.diff(np.sign(np.diff(transmitted))) != 0) >= 3  # several extinction lengths
    assert Accuracy().tolerance == block.accuracy.tolerance
    assert isinstance(EIGEN.adjoint(block, np.ones((2, 20, 3))), Adjoint)
