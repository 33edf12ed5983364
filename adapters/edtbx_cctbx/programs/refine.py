"""edtbx.refine: a structure refined kinematically and dynamically from the same start, R-factors side by side."""

from __future__ import annotations

import hashlib
from pathlib import Path

from libtbx.utils import Sorry

from edtbx_cctbx.checkpoint import Checkpoint
from edtbx_cctbx.constraints.occupancies import parse_occupancies
from edtbx_cctbx.output_files import output_base
from edtbx_cctbx.programs import command_line
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.programs.parameters import INPUT, OUTPUT, REFINEMENT, SHARED, WORKERS, settings_from, word
from edtbx_cctbx.programs.progress import Reporter
from edtbx_cctbx.programs.template import EdtbxProgram
from edtbx_cctbx.refinement import refine
from edtbx_cctbx.refinement_model import Refined, Schedule
from edtbx_cctbx.report import show_comparison, show_structure, write_outputs
from edtbx_cctbx.report_files import versions
from edtbx_cctbx.shelx_model import shelx_model

_RESTART = """
restart = False
  .type = bool
  .help = "Go on where a run of the same command was killed or interrupted, from PREFIX.checkpoint; the end is the same \\
    as if it had not been."
"""

_MAY_CHANGE = ("input.model", "input.data", "nproc", "cluster", "output.", "restart")
"""Parameters on which the result does not depend; of the files, the contents count."""


class Program(EdtbxProgram):
    """Sites, displacements and nuisance parameters in turn, for each theory on its own."""

    program_name = "edtbx.refine"
    description = """
edtbx.refine MODEL DATA: refine sites, displacements (isotropic first, then anisotropic where the data allow) and, when
asked, occupancies, together with scales, thickness, its law, orientation spread and the orientation of each frame.
Both theories are refined from the same start, so that their R-factors can be compared. Ctrl-C (or SIGTERM) ends a refinement
early and writes what is there; PREFIX.checkpoint keeps it, and restart=True goes on from there, also after a crash.

Example: edtbx.refine quartz.cif quartz.cif_pets output.prefix=quartz
"""
    master_phil_str = INPUT + SHARED + REFINEMENT + _RESTART + WORKERS + OUTPUT

    def validate(self) -> None:
        """Fail early on contradictory parameters."""
        settings_from(self.params)
        path = self._checkpoint_path()
        if path.exists() and not (self.params.restart or self.params.output.overwrite):
            raise Sorry(
                f"{path} is there, of a run that did not come to its end: restart=True goes on with it, "
                "output.overwrite=True starts anew"
            )
        parse_occupancies(self.params.refinement.occupancies)

    def run(self) -> None:
        """Refine, print, write."""
        structure, experiment = command_line.read_inputs(self.params, self.logger)
        asked = self.params.refinement
        instructions = [line for line in asked.instruction if line]
        riding = word(asked.hydrogens) == "riding"
        model = shelx_model(self.params.input.model, structure, instructions, riding, self.logger)
        if model is not None and asked.place_hydrogens:
            raise Sorry("the model has constraints or restraints of its own: place hydrogen there, or leave them out")
        if model is not None:
            restrained = "none" if model.restraints is None else "read"
            print(f"Constraints of the model: {len(model.constraints)}; restraints: {restrained}", file=self.logger)
        occupancies = parse_occupancies(asked.occupancies)
        checkpoint = self._checkpoint()
        with workers_of(self.params.cluster, self.logger) as executor, Reporter.of(self.logger) as reporter:
            reporter.announce_compilation(rows=True)
            self.comparison = refine(
                experiment,
                structure if model is None else model,
                settings_from(self.params, executor),
                Schedule(
                    refined=Refined(sites=asked.sites, displacements=asked.displacements, occupancies=occupancies),
                    method=word(asked.method),
                    anisotropic=word(asked.anisotropic),
                    cycles=asked.cycles,
                    shift_over_su=asked.shift_over_su,
                    weighting=asked.weighting,
                    loss=word(asked.loss),
                    place_hydrogens=asked.place_hydrogens,
                    riding=riding,
                    instructions=instructions,
                    free_frames=asked.free_frames,
                ),
                reporter.progress,
                reporter.say,
                command_line.flat(self.params),
                checkpoint,
            )
        show_comparison(self.comparison, self.logger)
        show_structure(self.comparison, self.logger)
        with reporter.stage("writing"):
            paths = write_outputs(self.params.output.prefix, self.comparison)
        for path in paths:
            print(f"  wrote {path}", file=self.logger)
        if self.comparison.interrupted is None:
            checkpoint.remove()
        else:
            print(f"  to go on from {self._checkpoint_path()}: the same command with restart=True", file=self.logger)
        command_line.end_if_interrupted(self.comparison.interrupted)

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

    def get_results(self):
        """The comparison, for callers from Python."""
        return self.comparison


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def run(arguments: list[str] | None = None) -> None:
    """Entry point."""
    command_line.run(Program, arguments)
