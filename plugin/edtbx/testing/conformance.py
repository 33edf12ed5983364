"""All checks of a solver, and what to tell its author."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edtbx.solvers.block import Accuracy, Solver
from edtbx.solvers.registry import installed_solvers
from edtbx.testing import derivatives, properties
from edtbx.testing.reference import MODELS
from edtbx.testing.solver_under_test import Finding, Subject

CHECKS: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    properties.shape_and_type,
    properties.nothing_to_scatter,
    properties.two_beam_closed_form,
    properties.kinematical_limit,
    properties.flux,
    properties.agreement_complex_u,
    properties.agreement_real_u,
    properties.no_beam_left_out,
    properties.weights,
    properties.wanted_in_any_order,
    properties.thickness_in_any_order,
    properties.inverted_structure,
    properties.origin_shift,
    properties.input_and_results_kept,
    properties.two_threads,
    derivatives.derivative_by_u,
    derivatives.derivative_by_real_u,
    derivatives.derivative_at_equal_eigenvalues,
    derivatives.derivative_by_s_g,
    derivatives.derivative_rows,
)


class ConformanceError(AssertionError):
    """A solver does not do what it should; ``report`` holds what was found."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One property: the check's name, what must hold, and the first problem or the largest error; None: does not apply."""

    check: str
    says: str
    finding: Finding | None

    def __str__(self) -> str:
        if self.finding is None:
            return f"skipped {self.check}"
        if self.finding.problem:
            return f"FAILED  {self.check}: {self.says}\n        {self.finding.problem}"
        measured = f" ({self.finding.error:.0e}, allowed {self.finding.allowed:.0e})" if self.finding.allowed else ""
        return f"passed  {self.check}{measured}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found out about a solver: what it was taken for, and one result for each property."""

    solver: str
    approximation: str | None
    tolerance: float
    results: tuple[Result, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that found a problem."""
        return tuple(result.check for result in self.results if result.finding and result.finding.problem)

    def __str__(self) -> str:
        kind = "a many-beam solver" if self.approximation is None else f"a {self.approximation} approximation"
        count = f"{len(self.failed)} of {len(self.results)} properties do not hold" if self.failed else "all is well"
        head = f"solver {self.solver}, as {kind}, tolerance {self.tolerance:.0e}: {count}"
        return "\n".join([head, *(str(result) for result in self.results)])


def check_solver(solver: str | Solver, *, tolerance: float | None = None) -> Report:
    """A report on every property that a solver must have; it fails loudly where one does not hold.

    An approximation on purpose names the model it has to agree with in its attribute ``approximation``
    (:class:`edtbx.solvers.block.Solver`). The adjoint is checked where there is one.

    Parameters
    ----------
    solver
        The name of a registered solver, or a solver.
    tolerance
        Error of an intensity, as a part of the incident flux, that the solver may make. It is handed to the solver
        in the accuracy of each block, and every limit follows from it. By default that of
        :class:`edtbx.solvers.block.Accuracy`, 1e-10; 1e-5 suits single precision.

    Raises
    ------
    ConformanceError
        If a property does not hold: which, by how much, against what limit, and what it usually comes from.
    ValueError
        If nobody registered the name, or the solver says that it is an approximation nobody knows.
    """
    backend = installed_solvers().create(solver) if isinstance(solver, str) else solver
    approximation = backend.approximation
    if approximation not in MODELS:
        known = ", ".join(f"'{name}'" for name in MODELS if name)
        raise ValueError(f"approximation must be {known} or None, got {approximation!r}")
    subject = Subject(
        solver=backend,
        approximation=approximation,
        tolerance=Accuracy().tolerance if tolerance is None else tolerance,
    )
    report = Report(
        solver=solver if isinstance(solver, str) else type(solver).__name__,
        approximation=approximation,
        tolerance=subject.tolerance,
        results=tuple(_result(check, subject) for check in CHECKS),
    )
    if report.failed:
        raise ConformanceError(report)
    return report


def _result(check: Callable[[Subject], Iterable[Finding]], subject: Subject) -> Result:
    try:
        findings = list(check(subject))
    except Exception as error:  # whatever the solver raises is a finding, and the other checks go on
        findings = [Finding.wrong(f"the solver raised {type(error).__name__}: {error}")]
    problems = [finding for finding in findings if finding.problem]
    worst = problems[0] if problems else max(findings, key=lambda finding: finding.error, default=None)
    return Result(check=check.__name__, says=(check.__doc__ or "").strip(), finding=worst)
