"""Name, versions and citations of the programs."""

from __future__ import annotations

import platform
from typing import Any

import libtbx.phil
import numpy as np
from libtbx.program_template import ProgramTemplate
from libtbx.version import get_version

import edtbx

CITATIONS = libtbx.phil.parse(r"""
citation {
  article_id = palatinus_2017
  authors = Palatinus L, Brazda P, Boullay P, Perez O, Klementova M, Petit S, Eigner V, Zaarour M, Mintova S
  title = Hydrogen positions in single nanocrystals revealed by electron diffraction
  journal = Science
  volume = 355
  pages = 166-169
  year = 2017
  doi_id = "10.1126/science.aak9652"
}
citation {
  article_id = palatinus_2015
  authors = Palatinus L, Petricek V, Correa CA
  title = Structure refinement using precession electron diffraction tomography and dynamical diffraction: theory \
    and implementation
  journal = Acta Cryst. A
  volume = 71
  pages = 235-244
  year = 2015
  doi_id = "10.1107/S2053273315001266"
}
citation {
  article_id = klar_2023
  authors = Klar PB, Krysiak Y, Xu H, Steciuk G, Cho J, Zou X, Palatinus L
  title = Accurate structure models and absolute configuration determination using dynamical effects in \
    continuous-rotation 3D electron diffraction data
  journal = Nat. Chem.
  volume = 15
  pages = 848-855
  year = 2023
  doi_id = "10.1038/s41557-023-01186-1"
}
""")
"""The papers of README, in the format of ``libtbx.citations``."""


def version_line() -> str:
    """Versions of edtbx and of what it stands on, in one line."""
    return (
        f"edtbx {edtbx.__version__} (cctbx {get_version()}, Python {platform.python_version()}, NumPy {np.__version__})"
    )


class EdtbxProgram(ProgramTemplate):
    """Version and citations in common; a program says at its start what it is."""

    version = None
    citations = CITATIONS
    datatypes = ["phil"]  # noqa: RUF012
    logger: Any

    @classmethod
    def get_version(cls) -> str:
        """That of edtbx, and of cctbx beside it."""
        return version_line()

    def custom_init(self) -> None:
        """Say which program this is."""
        print(f"{self.program_name}, {version_line()}\n", file=self.logger)
