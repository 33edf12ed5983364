"""edtbx.map: difference potentials of a structure from dynamical intensities, with their peaks and the hydrogen in them."""

from __future__ import annotations

from concurrent.futures import Executor

from edtbx_cctbx.command_line.progress import ProgramReporter
from edtbx_cctbx.io.output_files import OutputFiles, output_phil
from edtbx_cctbx.maps.make_maps import Maps, MapSettings, chosen_atoms, make_maps
from edtbx_cctbx.programs import running as command_line
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.programs.dry_run import reserving_outputs, show_outputs, show_target, show_workers
from edtbx_cctbx.programs.parameters import INPUT, SHARED, WORKERS, fit_settings, word
from edtbx_cctbx.programs.template import EdtbxProgram
from edtbx_cctbx.report.map_tables import show_maps, write_maps
from edtbx_cctbx.structure.form_factors import form_factor
from edtbx_launch.signals import finishing

_MAP = r"""
map {
  kind = *newton gradient fo_fc_dynamical fo_fc_kinematical
    .type = choice
    .help = "The map whose peaks are listed and which goes to PREFIX.ccp4 and to the columns DELFWT and PHDELFWT; all of \
      them are in PREFIX.mtz. newton: the most likely change of all structure factors, measured or not. gradient: one \
      step of steepest descent. fo_fc_dynamical: the recipe of Palatinus et al. (2017), with the phases of the model. \
      fo_fc_kinematical: the same from single scattering."
  omit = None
    .type = strings
    .help = "Labels of atoms to leave out, such as H* or O1."
  atoms_follow = True
    .type = bool
    .help = "Let the atoms follow in the newton map, hydrogen riding: it shows what no shift of them explains, and atoms \
      left out do not hide in shifts of the others. Otherwise errors of the atoms show, too."
  hydrogens = False
    .type = bool
    .help = "Propose hydrogen at peaks that have its distance and angle to an atom with a bond to spare, down to where as \
      many peaks are elsewhere. The structure with it goes to PREFIX_hydrogens.cif."
  scattering_type = H
    .type = str
    .help = "Atom that is looked for: what its scattering cannot be is taken for noise."
}
"""


class Program(EdtbxProgram):
    """Maps of a structure that stays as it is, but for atoms left out."""

    program_name = "edtbx.map"
    description = """
edtbx.map MODEL DATA: difference potentials of a structure, in volts, from all frames: what the intensities ask for that the
structure does not have, hydrogen above all. Scales, thickness, its law, orientation spread and the orientation of each
frame are fitted first; the structure stays as it is.

Example: edtbx.map urea_without_h.cif urea.cif_pets map.hydrogens=True output.prefix=urea_h
"""
    master_phil_str = INPUT + SHARED + _MAP + WORKERS + output_phil(program_name)

    def validate(self) -> None:
        """Fail early on contradictory parameters."""
        self._settings()
        self.outputs = OutputFiles.of(self.program_name, self.params, self.data_manager)
        form_factor(self.params.map.scattering_type)

    def plan(self) -> None:
        """Read and check everything, and say what would be done."""
        structure, experiment = command_line.read_inputs(self.params, self.logger)
        settings = self._settings()
        settings.check_derivatives("maps need")
        left_out = chosen_atoms(structure, settings.omit)
        known = structure.select(~left_out)
        atoms = f"{known.scatterers().size()} of {structure.scatterers().size()} atoms"
        print(f"Would compute maps of {atoms}, peaks of the {settings.kind} map:", file=self.logger)
        show_target(experiment, known, settings, self.logger)
        show_workers(self.params, self.logger)
        show_outputs(self.outputs, self.logger)

    @reserving_outputs
    def run(self) -> None:
        """Compute, print, write."""
        structure, experiment = command_line.read_inputs(self.params, self.logger)
        with workers_of(self.params.cluster, self.logger) as executor, ProgramReporter.of(self.logger) as reporter:
            reporter.announce_compilation(rows=True)
            self.maps = make_maps(
                experiment,
                structure,
                self._settings(executor),
                reporter,
                command_line.flat(self.params),
            )
        with finishing():
            show_maps(self.maps, self.logger)
            with reporter.stage("writing"):
                paths = write_maps(self.outputs.base, self.maps)
            for path in paths:
                print(f"  wrote {path}", file=self.logger)

    def _settings(self, executor: Executor | None = None) -> MapSettings:
        asked = self.params.map
        return MapSettings(
            **fit_settings(self.params, executor),
            kind=word(asked.kind),
            omit=tuple(asked.omit or ()),
            atoms_follow=asked.atoms_follow,
            hydrogens=asked.hydrogens,
            scattering_type=asked.scattering_type,
        )

    def get_results(self) -> Maps:
        """The maps, for callers from Python."""
        return self.maps


def run(arguments: list[str] | None = None) -> None:
    """Entry point."""
    command_line.run(Program, arguments)
