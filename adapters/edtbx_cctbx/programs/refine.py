"""edtbx.refine: a structure refined kinematically and dynamically from the same start, R-factors side by side."""

from __future__ import annotations

from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from edtbx_cctbx.output_files import output_base
from edtbx_cctbx.programs import command_line
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.programs.parameters import INPUT, OUTPUT, REFINEMENT, SHARED, WORKERS, settings_from, word
from edtbx_cctbx.refinement import refine
from edtbx_cctbx.refinement_model import Refined, Schedule
from edtbx_cctbx.report import show_comparison, show_structure, write_outputs
from edtbx_cctbx.shelx_model import shelx_model


class Program(ProgramTemplate):
    """Sites, displacements and nuisance parameters in turn, for each theory on its own."""

    program_name = "edtbx.refine"
    description = """
edtbx.refine MODEL DATA: refine sites, displacements (isotropic first, then anisotropic where the data allow) and, when
asked, occupancies, together with scales, thickness, its law, orientation spread and the orientation of each frame.
Both theories are refined from the same start, so that their R-factors can be compared. Ctrl-C ends a refinement early
and writes what is there.

Example: edtbx.refine quartz.cif quartz.cif_pets output.prefix=quartz
"""
    datatypes = ["phil"]  # noqa: RUF012
    master_phil_str = INPUT + SHARED + REFINEMENT + WORKERS + OUTPUT

    def validate(self) -> None:
        """Fail early on contradictory parameters."""
        settings_from(self.params)
        output_base(self.params.output.prefix)

    def run(self) -> None:
        """Refine, print, write."""
        structure, experiment = command_line.read_inputs(self.params, self.logger)
        asked = self.params.refinement
        instructions = [line for line in asked.instruction if line]
        model = shelx_model(self.params.input.model, structure, instructions)
        if model is not None and asked.place_hydrogens:
            raise Sorry("the model has constraints or restraints of its own: place hydrogen there, or leave them out")
        if model is not None:
            restrained = "none" if model.restraints is None else "read"
            print(f"Constraints of the model: {len(model.constraints)}; restraints: {restrained}", file=self.logger)
        with workers_of(self.params.cluster, self.logger) as executor:
            self.comparison = refine(
                experiment,
                structure if model is None else model,
                settings_from(self.params, executor),
                Schedule(
                    refined=Refined(
                        sites=asked.sites, displacements=asked.displacements, occupancies=asked.occupancies
                    ),
                    method=word(asked.method),
                    anisotropic=word(asked.anisotropic),
                    cycles=asked.cycles,
                    shift_over_su=asked.shift_over_su,
                    weighting=asked.weighting,
                    loss=word(asked.loss),
                    place_hydrogens=asked.place_hydrogens,
                    riding=word(asked.hydrogens) == "riding",
                    instructions=instructions,
                    free_frames=asked.free_frames,
                ),
                command_line.progress_bar,
                lambda line: print("  " + line, file=self.logger, flush=True),
                command_line.flat(self.params),
            )
        show_comparison(self.comparison, self.logger)
        show_structure(self.comparison, self.logger)
        for path in write_outputs(self.params.output.prefix, self.comparison):
            print(f"  wrote {path}", file=self.logger)

    def get_results(self):
        """The comparison, for callers from Python."""
        return self.comparison


def run(arguments: list[str] | None = None) -> None:
    """Entry point."""
    command_line.run(Program, arguments)
