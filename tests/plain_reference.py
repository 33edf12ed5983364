"""Slow plain twins of the package, written from the formulas and by other means: loops, quadratures, matrix exponentials.

Nothing here imports edtbx.
"""

import itertools
import math

import numpy as np
from scipy.integrate import quad
from scipy.linalg import expm


def metric(cell):
    """Direct metric tensor (3, 3) in Å² of a cell in Å and degrees."""
    a, b, c = cell[:3]
    ca, cb, cg = (math.cos(math.radians(x)) for x in cell[3:])
    return np.array([[a * a, a * b * cg, a * c * cb], [a * b * cg, b * b, b * c * ca], [a * c * cb, b * c * ca, c * c]])


def turn(axis, angle):
    """Right-handed active rotation about a unit vector, by Rodrigues' formula."""
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=float)
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * (k @ k)


def excitation_error(g, wavenumber):
    """S_g = (K² − |k+g|²)/(2K) of one vector, k = (0, 0, −K)."""
    k = np.array([0.0, 0.0, -wavenumber])
    return float((wavenumber**2 - np.sum((k + g) ** 2)) / (2 * wavenumber))


def coupling_matrix(hkl, u_of, s_g, surface, wavenumber):
    """A_gh = U(h−g) M_g M_h, A_gg = 2 K S_g M_g²; ``u_of`` maps an index triple to U."""
    n = len(hkl)
    a = np.zeros((n, n), dtype=complex)
    hkl = [tuple(h) for h in np.asarray(hkl).tolist()]
    for i in range(n):
        for j in range(n):
            if i == j:
                a[i, i] = 2 * wavenumber * s_g[i] * surface[i] ** 2
            else:
                difference = tuple(h - g for g, h in zip(hkl[i], hkl[j], strict=True))
                a[i, j] = u_of(difference) * surface[i] * surface[j]
    return a


def scattering_matrix(a, thickness, wavenumber):
    """exp(iπ t A/K)."""
    return expm(1j * math.pi * thickness / wavenumber * a)


def fluxes(block, b, thickness):
    """Flux of every beam at orientation b, from the wave equation as it stands, before it is symmetrised.

    (1 + g_n/K) dψ_g/dt = (iπ/K) [2 K S_g ψ_g + Σ U(h−g) ψ_h] with (1 + g_n/K) = M_g^−2; the flux is |ψ_g|²(1 + g_n/K).
    """
    k, m = block.wavenumber, block.surface[b]
    a = block.u.copy()
    np.fill_diagonal(a, 2 * k * block.s_g[b])
    psi = expm(1j * math.pi * thickness / k * (m[:, None] ** 2 * a))[:, 0]
    return np.abs(psi) ** 2 / m**2


def intensities(block):
    """Σ_b w_jb I_h(b, t), shape (J, M, T), all beams in the wave."""
    total = np.zeros((len(block.weights), len(block.wanted), len(block.thickness)))
    for b in range(len(block.s_g)):
        for n, t in enumerate(block.thickness):
            flux = fluxes(block, b, t)[block.wanted]
            for j, w in enumerate(block.weights[:, b]):
                total[j, :, n] += w * flux
    return total


def derivative(function, step):
    """f'(0) by the five-point formula, whose error is O(step⁴)."""
    return (8 * (function(step) - function(-step)) - (function(2 * step) - function(-2 * step))) / (12 * step)


def spread_weights(y, centre, sigma):
    """Integral of a Gaussian against the hat function of every node; what lies beyond the ends counts at the ends."""
    step = y[1] - y[0]
    weights = []
    for j, node in enumerate(y):

        def integrand(z, j=j, node=node):
            hat = (
                1.0 if (j == 0 and z < node) or (j == len(y) - 1 and z > node) else max(0.0, 1.0 - abs(z - node) / step)
            )
            return hat * math.exp(-0.5 * ((z - centre) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))

        low, high = centre - 12 * sigma, centre + 12 * sigma
        breaks = sorted(x for x in (node - step, node, node + step, centre) if low < x < high)
        edges = [low, *breaks, high]
        weights.append(sum(quad(integrand, p, q, epsabs=1e-13)[0] for p, q in itertools.pairwise(edges)))
    return np.array(weights)


def sampled_thicknesses(shape, thickness, samples=400_000):
    """Thicknesses met by electrons that fall evenly on a crystal of that shape (stratified samples)."""
    p = (np.arange(samples) + 0.5) / samples
    if shape == "slab":
        return np.full(samples, thickness)
    if shape == "wedge":
        return thickness * p
    if shape == "cylinder":  # offset from the axis evenly in 0..1
        return thickness * np.sqrt(1 - p * p)
    if shape == "lens":  # radius in the disc with density 2r
        return thickness * np.sqrt(1 - np.sqrt(p) ** 2)
    if shape == "thin":  # the lesser of two even numbers: 1 − √(1−p)
        return thickness * (1 - np.sqrt(1 - p))
    raise KeyError(shape)


def structure_factor(structure, h):
    """F(h) in Å by the sum over every atom and every operation of the group, centring included."""
    h = np.array(h, dtype=float)
    cell = structure.unit_cell()
    s_squared = cell.d_star_sq(tuple(int(x) for x in h))
    registry = structure.scattering_type_registry()
    total = 0j
    for atom in structure.scatterers():
        amplitude = registry.gaussian(atom.scattering_type).at_d_star_sq(s_squared) * atom.weight()
        for operation in structure.space_group().all_ops():
            r = np.array(operation.r().as_double()).reshape(3, 3)
            t = np.array(operation.t().as_double())
            damping = 1.0
            if atom.flags.use_u_iso():
                damping *= math.exp(-2 * math.pi**2 * atom.u_iso * s_squared)
            if atom.flags.use_u_aniso():
                u11, u22, u33, u12, u13, u23 = atom.u_star
                u = np.array([[u11, u12, u13], [u12, u22, u23], [u13, u23, u33]])
                damping *= math.exp(-2 * math.pi**2 * (h @ r @ u @ r.T @ h))
            total += amplitude * damping * np.exp(2j * math.pi * (h @ (r @ np.array(atom.site) + t)))
    return total


def r_factors(observed, sigma, calculated):
    """R and wR of the observed and of all rows, on amplitudes: r_obs, wr_obs, r_all, wr_all."""
    sums = {"obs": [0.0] * 4, "all": [0.0] * 4}
    for i, s, c in zip(observed, sigma, calculated, strict=True):
        fo, fc = math.sqrt(max(i, 0.0)), math.sqrt(max(c, 0.0))
        sigma_f = 5 * math.sqrt(s) if i < 0.01 * s else s / (2 * fo)
        w = 1 / (sigma_f**2 + (0.01 * fo) ** 2)
        for name in ("obs", "all") if i > 3 * s else ("all",):
            for n, term in enumerate((abs(fo - fc), fo, w * (fo - fc) ** 2, w * fo * fo)):
                sums[name][n] += term
    (a, b, c, d), (e, f, g, h) = sums["obs"], sums["all"]
    return a / b, math.sqrt(c / d), e / f, math.sqrt(g / h)


def merged_r(observed, sigma, calculated, unique):
    """R of the amplitudes of intensities averaged over equal ``unique``, observed where mean I > 3 √Σσ²/n."""
    above = below = 0.0
    for number in set(unique):
        rows = [n for n, other in enumerate(unique) if other == number]
        i = sum(observed[n] for n in rows) / len(rows)
        c = sum(calculated[n] for n in rows) / len(rows)
        s = math.sqrt(sum(sigma[n] ** 2 for n in rows)) / len(rows)
        if i > 3 * s:
            above += abs(math.sqrt(i) - math.sqrt(max(c, 0.0)))
            below += math.sqrt(i)
    return above / below
