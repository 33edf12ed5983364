"""What must hold for the intensities of every solver; :mod:`edtbx.testing.derivatives` for those of its adjoint.

Each check gives its findings, one for each block that it tried, or none where the property does not apply.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.solvers.block import Block
from edtbx.testing.crystal import copied, incident_flux, random_block, two_beam_block
from edtbx.testing.reference import kinematical, one_by_one, relative, two_beam, weighted
from edtbx.testing.solver_under_test import Finding, Subject


def shape_and_type(subject: Subject) -> Iterator[Finding]:
    """The result is a float64 array (J, M, T) of finite numbers, whatever may be left out."""
    block = subject.block(tilts=4)
    small = replace(
        block, s_g=block.s_g[:1], surface=block.surface[:1], weights=np.ones((1, 1)), thickness=block.thickness[1:2]
    )
    coarse = replace(block.accuracy, s_max=0.01, s_strong=0.003)
    for case in (replace(block, wanted=block.wanted[3:8]), small, replace(block, accuracy=coarse)):
        intensities = subject.solver.intensities(copied(case))
        yield _array(intensities, (len(case.weights), len(case.wanted), len(case.thickness)))


def _array(intensities: object, shape: tuple[int, ...]) -> Finding:
    if not isinstance(intensities, np.ndarray):
        return Finding.wrong(f"a {type(intensities).__name__} is returned, a numpy array is asked for")
    if intensities.shape != shape:
        return Finding.wrong(f"the shape is {intensities.shape}, (J, M, T) = {shape} is asked for")
    if intensities.dtype != np.float64:
        return Finding.wrong(f"the type is {intensities.dtype}, float64 is asked for, whatever the precision inside")
    if not np.all(np.isfinite(intensities)):
        return Finding.wrong(
            "there are numbers that are not finite; the usual cause: a division by a difference that is zero"
        )
    return Finding()


def nothing_to_scatter(subject: Subject) -> Iterator[Finding]:
    """At zero thickness, or without potential, there is the incident beam alone."""
    block = subject.block()
    thin = replace(block, thickness=np.array([0.0, 0.0]))
    empty = replace(block, u=np.zeros_like(block.u))
    for case, cause in (
        (thin, "the wave does not start as e_0, or the thickness is clipped"),
        (empty, "something divides by U, or by the difference of two eigenvalues"),
    ):
        intensities = subject.intensities(case)
        expected = np.zeros_like(intensities)
        expected[:, case.wanted == 0] = incident_flux(case)
        yield subject.compared(case, intensities, expected, cause)


def two_beam_closed_form(subject: Subject) -> Iterator[Finding]:
    """Two beams: I_g = |u|² sin²(πt √(s² + |u|²)/K)/(s² + |u|²), u = U_g M_g, s = K S_g M_g², on and off Bragg."""
    if subject.approximation != "kinematical":
        block = subject.asked(two_beam_block(subject.tolerance))
        expected = two_beam(block)
        expected[:, block.wanted == 0] = incident_flux(block) - expected[:, block.wanted == 1]
        yield subject.compared(
            block, subject.intensities(block), expected, "the phase π t A/K (a factor 2, a π), or the scale of S_g"
        )


def kinematical_limit(subject: Subject) -> Iterator[Finding]:
    """In a weak potential I_g → |π t U_g M_g/K|² sinc²(t S_g M_g²); u and −u together cancel the next order."""
    block = subject.block(1, inclined=True)
    block = replace(block, wanted=np.arange(1, len(block.u)), thickness=np.array([100.0, 200.0]))
    # the strongest intensity is some phase²/100: scattering thrice and the tolerance then count alike
    phase = (200.0 * subject.tolerance) ** 0.25
    weaker = phase * block.wavenumber / (np.pi * block.thickness[-1] * np.linalg.norm(block.u, 2))
    weak = replace(block, u=block.u * weaker)
    intensities = 0.5 * (subject.intensities(weak) + subject.intensities(replace(weak, u=-weak.u)))
    expected = kinematical(weak)
    strongest = float(np.max(expected / incident_flux(weak)))
    yield Finding.measured(
        relative(intensities, expected, weak) / strongest,
        phase**2 + 2.0 * subject.tolerance / strongest,
        unit="the strongest reflection",
        limit="what scattering thrice and the tolerance add",
        cause="the usual cause: the phase π t U/K (a factor 2, a π), the scale of S_g, or M_g",
    )


def flux(subject: Subject) -> Iterator[Finding]:
    """Without absorption, the intensities of all beams add up to the incident one."""
    if subject.approximation is None:
        for block in (subject.block(2), subject.block(3, inclined=True), subject.block(4, centric=True)):
            total = subject.intensities(block).sum(axis=1, keepdims=True)
            yield Finding.measured(
                relative(total, np.broadcast_to(incident_flux(block), total.shape), block),
                subject.tolerance * len(block.u),
                unit="the incident flux",
                limit="the tolerance for each beam",
                cause="the usual cause: |ψ_g|² instead of |ψ_g|²/M_g², weights that are normalised, or a short series",
            )


def agreement_complex_u(subject: Subject) -> Iterator[Finding]:
    """Agreement with ``eigen`` (or with the formula of a declared approximation), complex u, both hands."""
    for seed in range(4):
        block = subject.block(10 + seed, inclined=seed % 2 == 1)
        for hand in (block, replace(block, u=block.u.T.copy())):
            yield subject.as_expected(hand, "the matrix A_gh = U(h − g) M_g M_h, A_gg = 2 K S_g M_g²")


def agreement_real_u(subject: Subject) -> Iterator[Finding]:
    """The same for centrosymmetric crystals, whose u is real in value and type."""
    for seed in range(4):
        block = subject.block(20 + seed, inclined=seed % 2 == 1, centric=True)
        yield subject.as_expected(block, "a path of its own for a real u, or an array of waves that is made as real")


def no_beam_left_out(subject: Subject) -> Iterator[Finding]:
    """Where s_max exceeds every |S_g| no beam is left out, however far from the Ewald sphere."""
    block = subject.asked(random_block(30, strength=1.0, nearest=False, tolerance=subject.tolerance))
    cause = "beams are left out by a limit that is not accuracy.s_max, or folded though accuracy.s_strong is infinite"
    yield subject.as_expected(replace(block, thickness=block.thickness[:2]), cause)


def weights(subject: Subject) -> Iterator[Finding]:
    """A batch is the weighted sum of its orientations, for each of several sums; a weight may be zero, too."""
    block = subject.block(40, tilts=5)
    given = np.concatenate([block.weights, [[0.0, 3.0, 0.0, 0.0, 0.0]]])
    block = replace(block, weights=given)
    parts = one_by_one(subject.intensities, block)
    cause = "weights (J, B): row j gives sum j, I_j = Σ_b w_jb I(b); or orientations that are not independent"
    yield subject.compared(block, subject.intensities(block), weighted(block, parts), cause)


def wanted_in_any_order(subject: Subject) -> Iterator[Finding]:
    """Wanted beams come in any order, some twice, each where it was asked for."""
    block = subject.block(41)
    intensities = subject.intensities(block)
    for order in (np.arange(len(block.wanted))[::-1], np.array([5, 2, 5, 0, 17]), np.array([7])):
        part = replace(block, wanted=block.wanted[order].copy())
        cause = "rows are taken sorted, or once each, or without looking at wanted"
        yield subject.compared(part, subject.intensities(part), intensities[:, order], cause)


def thickness_in_any_order(subject: Subject) -> Iterator[Finding]:
    """Thicknesses come in any order, some twice, zero among them."""
    block = subject.block(42)
    block = replace(block, thickness=np.array([0.0, 100.0, 450.0, 1000.0]))
    intensities = subject.intensities(block)
    for order in (np.array([2, 0, 3, 1, 2]), np.array([1])):
        part = replace(block, thickness=block.thickness[order])
        cause = "thicknesses are taken as rising or as evenly spaced, or the last as the greatest"
        yield subject.compared(part, subject.intensities(part), intensities[..., order], cause)


def inverted_structure(subject: Subject) -> Iterator[Finding]:
    """The inverted structure transposes S: from 0 to g in one hand is as from g to 0 in the other."""
    block = subject.block(43)
    block = replace(block, surface=np.ones_like(block.surface))
    for beam in (1, 6, 13):
        inverted = replace(block, wanted=np.array([beam]), u=block.u.T.copy())
        order = np.concatenate([[beam], np.delete(np.arange(len(block.u)), beam)])
        reversed_path = replace(
            block,
            u=block.u[np.ix_(order, order)],
            s_g=block.s_g[:, order] - block.s_g[:, [beam]],
            wanted=np.array([1]),
        )
        cause = "beams chosen by their coupling to the incident one, a part of u that is not read, or an incident beam not 0"
        yield subject.compared(inverted, subject.intensities(inverted), subject.intensities(reversed_path), cause)


def origin_shift(subject: Subject) -> Iterator[Finding]:
    """A shift of the origin turns the phases of u, and changes nothing."""
    block = subject.block(44)
    phase = np.exp(2j * np.pi * np.random.default_rng(44).uniform(size=len(block.u)))
    shifted = replace(block, u=block.u * phase[None, :] * phase[:, None].conj())
    cause = "a part of u is lost (.real?), or it is conjugated in one place and not in another"
    yield subject.compared(block, subject.intensities(shifted), subject.intensities(block), cause)


def input_and_results_kept(subject: Subject) -> Iterator[Finding]:
    """The input stays as it was, and so does an earlier result."""
    block, second = subject.block(45), subject.block(46)
    seed = np.ones((len(block.weights), len(block.wanted), len(block.thickness)))
    given, given_seed = copied(block), seed.copy()
    first = subject.solver.intensities(given)
    before = np.array(first)
    if subject.solver.gives_derivatives:
        subject.solver.adjoint(given, given_seed)
    for field in fields(block):
        if not np.array_equal(getattr(given, field.name), getattr(block, field.name)):
            yield Finding.wrong(f"block.{field.name} was changed; it is the caller's, work on a copy")
    if not np.array_equal(seed, given_seed):
        yield Finding.wrong("the seed of the adjoint was changed; it is the caller's, work on a copy")
    subject.solver.intensities(copied(second))
    if not np.array_equal(first, before):
        yield Finding.wrong("a later call changed an earlier result: both lie in the same memory; return a new array")
    yield Finding()


def two_threads(subject: Subject) -> Iterator[Finding]:
    """Two threads at once get what one gets."""
    blocks = (subject.block(47), subject.block(48, inclined=True, tilts=4))
    alone = [subject.intensities(block) for block in blocks]
    together = threading.Barrier(2)

    def repeatedly(block: Block) -> list[FloatArray]:
        together.wait(timeout=60.0)
        return [subject.intensities(block) for _ in range(5)]

    with ThreadPoolExecutor(2) as pool:
        together_results = list(pool.map(repeatedly, blocks))
    cause = "the solver keeps what it works on in itself or in its module: another thread overwrites it"
    for block, expected, results in zip(blocks, alone, together_results, strict=True):
        for result in results:
            yield subject.compared(block, result, expected, cause)
