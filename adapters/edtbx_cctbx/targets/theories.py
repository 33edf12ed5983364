"""Refinement targets of dynamical and of kinematical diffraction."""

from __future__ import annotations

from edtbx_cctbx.targets.target import Target


class DynamicalTarget(Target):
    """T = Σ w (I_obs − k I_calc)²/Σ w I_obs² over the rows of an experiment, negative intensities included.

    Construction computes no waves. Nuisance parameters are fitted when first needed; unless a sampling is given, the
    coarsest one that keeps the tolerance is chosen then, too.

    Parameters
    ----------
    experiment
        What :func:`edtbx_cctbx.read_experiment` returned; it takes the cell of the model.
    xray_structure
        The model at the start: its symmetry counts, and the nuisance parameters are fitted to it. Electron form
        factors are put in where others stand.
    solver
        Name of a registered solver.
    tolerance
        Numerical error of intensities allowed, as a part of the misfit, or of max(σ, 0.01 I_obs) where that is less; 0.1 by
        default.
    bounds
        Which nuisance parameters are fitted, and in which bounds.
    rules, g_max
        Selection of rows, and greatest |g| of the beams in Å⁻¹ (None: a little beyond the data).
    sampling
        Sampling of orientations and thickness, in place of that which the tolerance asks for.
    nproc
        Threads, one frame each at a time; None takes all cores.
    executor
        Computes the frames in place of threads, one task each: the workers of a ``ProcessPoolExecutor`` (method spawn), of a
        Dask client (``client.get_executor(pure=False)``) or of any other ``concurrent.futures.Executor``. Whoever made it
        shuts it down. A copy (``copy.deepcopy``) or a pickle of the target has threads of its own in its place.
    nuisance
        Nuisance parameters, in place of those fitted.

    Raises
    ------
    TypeError, ValueError, Sorry
        An argument is of the wrong kind or out of range, or no reflection is left.
    TooLarge
        The memory does not hold the calculation.

    Warns
    -----
    InexactStructureFactors
        The first structure factors that the target is given come from the FFT, the default of
        ``xray.minimization.lbfgs``: pass it ``structure_factor_algorithm="direct", cos_sin_table=False``, or call
        :func:`edtbx_cctbx.minimise_with_lbfgs`, which does. Tables of sines and cosines go unnoticed (errors of 0.4 %).

    References
    ----------
    L. Palatinus, V. Petříček & C. A. Corrêa, Acta Cryst. A71, 235 (2015), doi:10.1107/S2053273315001266.
    """

    default_solver = "auto"


class KinematicalTarget(Target):
    """The target of :class:`DynamicalTarget` with single scattering: same rows and kinds of nuisance parameters."""

    default_solver = "kinematical"
