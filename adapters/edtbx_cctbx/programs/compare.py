"""edtbx.compare: kinematical and dynamical R-factors of a structure, side by side on the same reflections."""

from __future__ import annotations

from edtbx_cctbx.command_line.progress import ProgramReporter
from edtbx_cctbx.io.output_files import OutputFiles
from edtbx_cctbx.programs import running as command_line
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.programs.dry_run import reserving_outputs, show_outputs, show_target, show_workers
from edtbx_cctbx.programs.faces import Compare
from edtbx_cctbx.programs.inputs import read_inputs
from edtbx_cctbx.programs.parameters import fit_settings
from edtbx_cctbx.refinement.compare import compare
from edtbx_cctbx.refinement.results import Comparison
from edtbx_cctbx.refinement.settings import Settings
from edtbx_cctbx.report.tables import show_comparison, write_outputs
from edtbx_launch.signals import finishing


class Program(Compare):
    """Scales, thickness, orientation spread and centres are fitted for each theory; the structure stays as it is."""

    def validate(self) -> None:
        """Fail early on contradictory parameters."""
        Settings(**fit_settings(self.params), learn=self.params.learn)
        self.outputs = OutputFiles.of(self.program_name, self.params, self.data_manager)

    def plan(self) -> None:
        """Read and check everything, and say what would be done."""
        structure, experiment = read_inputs(self.params, self.logger)
        settings = Settings(**fit_settings(self.params), learn=self.params.learn)
        print("Would fit both theories, kinematical and dynamical, to the structure as it is:", file=self.logger)
        show_target(experiment, structure, settings, self.logger)
        if self.params.cross_validate is not None:
            print(f"  indices left out for R(free): in {self.params.cross_validate} parts", file=self.logger)
        show_workers(self.params, self.logger)
        show_outputs(self.outputs, self.logger)

    @reserving_outputs
    def run(self) -> None:
        """Fit, print, write."""
        structure, experiment = read_inputs(self.params, self.logger)
        with workers_of(self.params.cluster, self.logger) as executor, ProgramReporter.of(self.logger) as reporter:
            reporter.announce_compilation()
            self.comparison = compare(
                experiment,
                structure,
                Settings(**fit_settings(self.params, executor), learn=self.params.learn),
                reporter,
                command_line.flat(self.params),
                cross_validate=self.params.cross_validate,
            )
        with finishing():
            show_comparison(self.comparison, self.logger)
            with reporter.stage("writing"):
                paths = write_outputs(self.outputs.base, self.comparison)
            for path in paths:
                print(f"  wrote {path}", file=self.logger)
            command_line.end_if_interrupted(self.comparison.interrupted)

    def get_results(self) -> Comparison:
        """The comparison, for callers from Python."""
        return self.comparison


def run(arguments: list[str] | None = None) -> None:
    """Entry point."""
    command_line.run(Program, arguments)
