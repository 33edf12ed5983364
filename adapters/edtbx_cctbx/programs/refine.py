"""edtbx.refine: a structure refined kinematically and dynamically from the same start, R-factors side by side."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor
from pathlib import Path

from cctbx import xray
from libtbx.utils import Sorry

from edtbx.measurement.experiment import Experiment
from edtbx_cctbx.command_line.progress import ProgramReporter
from edtbx_cctbx.constraints.occupancies import parse_occupancies
from edtbx_cctbx.io.checkpoint import Checkpoint
from edtbx_cctbx.io.output_files import OutputFiles, output_base
from edtbx_cctbx.programs import running as command_line
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.programs.dry_run import reserving_outputs, show_outputs, show_target, show_workers
from edtbx_cctbx.programs.faces import Refine
from edtbx_cctbx.programs.inputs import read_inputs
from edtbx_cctbx.programs.parameters import fit_settings, word
from edtbx_cctbx.refinement.model import RefinementModel
from edtbx_cctbx.refinement.preparation import prepared
from edtbx_cctbx.refinement.refine import refine, without_free_rows
from edtbx_cctbx.refinement.results import Comparison
from edtbx_cctbx.refinement.settings import Refined, RefinementSettings
from edtbx_cctbx.refinement.shelx_instructions import shelx_model, with_instructions
from edtbx_cctbx.report.csv_json import versions
from edtbx_cctbx.report.tables import show_comparison, show_structure, write_outputs
from edtbx_launch.signals import finishing

_MAY_CHANGE = ("input.model", "input.data", "nproc", "cluster", "output.", "restart")
"""Parameters on which the result does not depend; of the files, the contents count."""


class Program(Refine):
    """Sites, displacements and nuisance parameters in turn, for each theory on its own."""

    def validate(self) -> None:
        """Fail early on contradictory parameters."""
        self._settings()
        path = self._checkpoint_path()
        self.outputs = OutputFiles.of(self.program_name, self.params, self.data_manager, goes_on=path.exists())
        if path.exists() and not (self.params.restart or self.params.output.overwrite):
            raise Sorry(
                f"{path} is there, of a run that did not come to its end: restart=True goes on with it, "
                "output.overwrite=True starts anew"
            )

    def plan(self) -> None:
        """Read and check everything, and say what would be done."""
        model, experiment = self._read()
        settings = self._settings()
        settings.check_derivatives("refinement needs")
        settings.check_method(model.structure if isinstance(model, RefinementModel) else model)
        if not isinstance(model, RefinementModel):
            model = with_instructions(RefinementModel.of(model, settings.riding), settings.instructions)
        start = prepared(model, settings, ProgramReporter.of(self.logger))
        parameters = start.reparametrisation(settings.refined).n_independents
        placed = ", and those of hydrogen to be placed" if settings.place_hydrogens else ""
        print(
            f"Would refine {start.structure.scatterers().size()} atoms with both theories, kinematical and dynamical: "
            f"{parameters} parameters at the start{placed}, method {settings.method}, at most {settings.cycles} cycles "
            "at the fine level:",
            file=self.logger,
        )
        used, left_out = without_free_rows(experiment, start.structure, settings)
        show_target(used, start.structure, settings, self.logger)
        if left_out is not None:
            rows, frames = len(left_out.reflections), len(left_out.frames)
            print(f"  left out for R(free): {rows} reflections of {frames} frames", file=self.logger)
        if self.params.restart and self._checkpoint_path().exists():
            print(f"  would go on from {self._checkpoint_path()}", file=self.logger)
        show_workers(self.params, self.logger)
        show_outputs(self.outputs, self.logger)

    @reserving_outputs
    def run(self) -> None:
        """Refine, print, write."""
        model, experiment = self._read()
        checkpoint = self._checkpoint()
        with workers_of(self.params.cluster, self.logger) as executor, ProgramReporter.of(self.logger) as reporter:
            reporter.announce_compilation(rows=True)
            try:
                self.comparison = refine(
                    experiment,
                    model,
                    self._settings(executor),
                    reporter,
                    command_line.flat(self.params),
                    checkpoint,
                )
            except KeyboardInterrupt:
                if self._checkpoint_path().exists():
                    self._show_how_to_go_on()
                raise
        with finishing():
            show_comparison(self.comparison, self.logger)
            show_structure(self.comparison, self.logger)
            with reporter.stage("writing"):
                paths = write_outputs(self.outputs.base, self.comparison)
            for path in paths:
                print(f"  wrote {path}", file=self.logger)
            if self.comparison.interrupted is None:
                checkpoint.remove()
            else:
                self._show_how_to_go_on()
            command_line.end_if_interrupted(self.comparison.interrupted)

    def _show_how_to_go_on(self) -> None:
        print(f"  to go on from {self._checkpoint_path()}: the same command with restart=True", file=self.logger)

    def _checkpoint_path(self) -> Path:
        base = output_base(self.params.output.prefix)
        return base.with_name(f"{base.name}.checkpoint")

    def _checkpoint(self) -> Checkpoint:
        """A new one, or that of a run to go on with."""
        path = self._checkpoint_path()
        parameters = command_line.flat(self.params)
        depends = {
            **{name: str(value) for name, value in parameters.items() if not name.startswith(_MAY_CHANGE)},
            **{f"content of {name}": _digest(parameters[name]) for name in ("input.model", "input.data")},
            **{f"version of {name}": version for name, version in versions().items()},
        }
        if self.params.restart and path.exists():
            print(f"  going on from {path}", file=self.logger)
            return Checkpoint.read(path, depends)
        if self.params.restart:
            print(f"  there is no {path} to go on from: starting anew", file=self.logger)
        return Checkpoint(path, depends)

    def get_results(self) -> Comparison:
        """The comparison, for callers from Python."""
        return self.comparison

    def _read(self) -> tuple[xray.structure | RefinementModel, Experiment]:
        """The structure, with what its SHELX file says of it, and the data."""
        structure, experiment = read_inputs(self.params, self.logger)
        riding = word(self.params.refinement.hydrogens) == "riding"
        model = shelx_model(self.params.input.model, structure, self._instructions(), riding, self.logger)
        if model is None:
            return structure, experiment
        if self.params.refinement.place_hydrogens:
            raise Sorry("the model has constraints or restraints of its own: place hydrogen there, or leave them out")
        restrained = "none" if model.restraints is None else "read"
        print(f"Constraints of the model: {len(model.constraints)}; restraints: {restrained}", file=self.logger)
        return model, experiment

    def _instructions(self) -> list[str]:
        return [line for line in self.params.refinement.instruction if line]

    def _settings(self, executor: Executor | None = None) -> RefinementSettings:
        asked = self.params.refinement
        return RefinementSettings(
            **fit_settings(self.params, executor),
            learn=self.params.learn,
            refined=Refined(
                sites=asked.sites,
                displacements=asked.displacements,
                occupancies=parse_occupancies(asked.occupancies),
            ),
            method=word(asked.method),
            anisotropic=word(asked.anisotropic),
            cycles=asked.cycles,
            shift_over_su=asked.shift_over_su,
            weighting=asked.weighting,
            loss=word(asked.loss),
            place_hydrogens=asked.place_hydrogens,
            riding=word(asked.hydrogens) == "riding",
            instructions=tuple(self._instructions()),
            free_frames=asked.free_frames,
            free_fraction=asked.free_fraction,
        )


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def run(arguments: list[str] | None = None) -> None:
    """Entry point."""
    command_line.run(Program, arguments)
