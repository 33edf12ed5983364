"""edtbx.compare: kinematical and dynamical R-factors of a structure, side by side on the same reflections."""

from __future__ import annotations

from edtbx_cctbx.comparison import compare
from edtbx_cctbx.output_files import output_base
from edtbx_cctbx.programs import command_line
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.programs.parameters import INPUT, OUTPUT, SHARED, WORKERS, settings_from
from edtbx_cctbx.programs.progress import Reporter
from edtbx_cctbx.programs.template import EdtbxProgram
from edtbx_cctbx.report import show_comparison, write_outputs


class Program(EdtbxProgram):
    """Scales, thickness, orientation spread and centres are fitted for each theory; the structure stays as it is."""

    program_name = "edtbx.compare"
    description = """
edtbx.compare MODEL DATA: kinematical and dynamical R-factors of a structure against 3D electron diffraction data,
side by side on the same reflections. Scales, thickness, its law, orientation spread and the orientation of each frame
are fitted for each theory; the structure stays as it is.

Example: edtbx.compare urea.cif urea.cif_pets output.prefix=urea
"""
    master_phil_str = INPUT + SHARED + WORKERS + OUTPUT

    def validate(self) -> None:
        """Fail early on contradictory parameters."""
        settings_from(self.params)
        output_base(self.params.output.prefix)

    def run(self) -> None:
        """Fit, print, write."""
        structure, experiment = command_line.read_inputs(self.params, self.logger)
        with workers_of(self.params.cluster, self.logger) as executor, Reporter.of(self.logger) as reporter:
            reporter.announce_compilation()
            self.comparison = compare(
                experiment,
                structure,
                settings_from(self.params, executor),
                reporter.progress,
                command_line.flat(self.params),
            )
        show_comparison(self.comparison, self.logger)
        with reporter.stage("writing"):
            paths = write_outputs(self.params.output.prefix, self.comparison)
        for path in paths:
            print(f"  wrote {path}", file=self.logger)
        command_line.end_if_interrupted(self.comparison.interrupted)

    def get_results(self):
        """The comparison, for callers from Python."""
        return self.comparison


def run(arguments: list[str] | None = None) -> None:
    """Entry point."""
    command_line.run(Program, arguments)
