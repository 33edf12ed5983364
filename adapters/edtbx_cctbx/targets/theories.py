"""The targets of both theories."""

from __future__ import annotations

from edtbx_cctbx.targets.target import Target


class DynamicalTarget(Target):
    """T = Σ w (I_obs − k I_calc)²/Σ w I_obs² over the rows of an experiment, negative intensities included.

    Making one computes no wave. The nuisance parameters are fitted when they are first needed, and with them, unless a
    sampling is given, the fineness of sampling is chosen that keeps the tolerance.

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
        Numerical error of intensities allowed, in units of max(σ, 0.01 I_obs); 0.15 by default.
    bounds
        What of the nuisance parameters may be fitted, and in which bounds.
    rules, g_max
        Rows used, and reach of the beams in Å⁻¹ (None: a little beyond the data).
    sampling
        Fineness of the sampling, in place of that which the tolerance asks for.
    nproc
        Threads, one frame each at a time; None takes all cores.
    executor
        What takes the frames in place of threads, one each: the workers of a ``ProcessPoolExecutor`` (method spawn), of a
        Dask client (``client.get_executor(pure=False)``) or of any other ``concurrent.futures.Executor``. Whoever made it
        shuts it down. A copy (``copy.deepcopy``) or a pickle of the target has threads of its own in its place.
    nuisance
        Nuisance parameters, in place of those fitted.

    Raises
    ------
    TypeError, ValueError, Sorry
        An argument is of the wrong kind or out of range, or no reflection is left.
    TooLarge
        The memory does not hold what it takes.

    Warns
    -----
    InexactStructureFactors
        The first structure factors that the target is given come from the FFT, the default of
        ``xray.minimization.lbfgs``: pass it ``structure_factor_algorithm="direct", cos_sin_table=False``, or call
        :func:`edtbx_cctbx.minimise_with_lbfgs`, which does. Tables of sines and cosines go unnoticed (errors of 0.4 %).
    """

    default_solver = "auto"


class KinematicalTarget(Target):
    """The same target with single scattering, for a fair comparison: same rows, same nuisance parameters."""

    default_solver = "kinematical"
