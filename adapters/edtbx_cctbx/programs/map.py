"""edtbx.map: difference potentials of a structure from dynamical intensities, with their peaks and the hydrogen in them."""

from __future__ import annotations

from concurrent.futures import Executor

from edtbx_cctbx.command_line.progress import ProgramReporter
from edtbx_cctbx.io.output_files import OutputFiles
from edtbx_cctbx.maps.make_maps import Maps, MapSettings, chosen_atoms, make_maps
from edtbx_cctbx.programs import running as command_line
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.programs.dry_run import reserving_outputs, show_outputs, show_target, show_workers
from edtbx_cctbx.programs.faces import Map
from edtbx_cctbx.programs.inputs import read_inputs
from edtbx_cctbx.programs.parameters import fit_settings, word
from edtbx_cctbx.report.map_tables import show_maps, write_maps
from edtbx_cctbx.structure.form_factors import form_factor
from edtbx_launch.signals import finishing


class Program(Map):
    """Maps of a structure that stays as it is, but for atoms left out."""

    def validate(self) -> None:
        """Fail early on contradictory parameters."""
        self._settings()
        self.outputs = OutputFiles.of(self.program_name, self.params, self.data_manager)
        form_factor(self.params.map.scattering_type)

    def plan(self) -> None:
        """Read and check everything, and say what would be done."""
        structure, experiment = read_inputs(self.params, self.logger)
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
        structure, experiment = read_inputs(self.params, self.logger)
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
