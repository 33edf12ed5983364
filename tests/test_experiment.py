"""What an experiment says of itself."""

import io
from dataclasses import replace

import numpy as np
import pytest

from edtbx.measurement.experiment import Experiment, Frame, Reflections, ScanGeometry, number_ranges

ROWS = Reflections(
    hkl=np.array([[1, 0, 0], [0, 0, 5], [2, 3, 4], [1, 1, 0]]),
    intensity=np.array([31.0, 29.5, -5.0, 100.0]),
    sigma=np.full(4, 10.0),
    frame_id=np.array([1, 1, 2, 5]),
)
EXPERIMENT = Experiment(
    wavelength=0.0250793,
    cell=(5.0, 6.0, 8.0, 90.0, 90.0, 90.0),
    orientation=np.eye(3),
    geometry=ScanGeometry.PRECESSION,
    frames=tuple(
        Frame(id=n, alpha=np.radians(a), beta=0.0, semi_angle=np.radians(1.0 + 0.1 * n))
        for n, a in ((1, -10.0), (2, 30.0), (3, 20.0), (4, 0.0), (5, 5.0))
    ),
    reflections=ROWS,
    notes=("something was mended",),
)


def said(experiment: Experiment, prefix: str = "") -> list[str]:
    out = io.StringIO()
    assert experiment.show_summary(f=out, prefix=prefix) is experiment
    return out.getvalue().splitlines()


def test_the_summary_has_the_numbers():
    assert said(EXPERIMENT) == [
        "Frames: 5, precession, semi-angle 1.100 to 1.500 degrees",
        "Alpha: -10.00 to 30.00 degrees, beta: 0.00 degrees",
        "Wavelength: 0.025079 Å (200.0 keV)",
        "Unit cell: (5, 6, 8, 90, 90, 90)",
        "Reflections: 4, of them 2 observed (I > 3 sigma(I)) and 1 negative",
        "Resolution: 5.000 to 1.231 Å",  # 1/√(4/25 + 9/36 + 16/64)
        "Frames without reflections: 3-4",
        "Note: something was mended",
    ]


def test_the_resolution_knows_oblique_cells():
    """In a hexagonal cell d of 1 1 0 is a/2 and d of 1 −1 0 is a√3/2."""
    rows = replace(ROWS, hkl=np.array([[1, 1, 0], [1, -1, 0], [1, 1, 0], [1, -1, 0]]))
    lines = said(replace(EXPERIMENT, cell=(10.0, 10.0, 7.0, 90.0, 90.0, 120.0), reflections=rows))
    assert "Resolution: 8.660 to 5.000 Å" in lines


def test_every_line_has_the_prefix_and_goes_to_the_screen(capsys):
    EXPERIMENT.show_summary(prefix="> ")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["> " + line for line in said(EXPERIMENT)]


def test_nothing_measured_is_no_error():
    empty = replace(EXPERIMENT, frames=(), reflections=ROWS.select(np.zeros(4, dtype=bool)), notes=())
    lines = said(empty)
    assert "Reflections: 0, of them 0 observed (I > 3 sigma(I)) and 0 negative" in lines
    assert "Resolution: none Å" in lines
    assert not any("without" in line for line in lines)


@pytest.mark.parametrize(
    ("numbers", "text"), [([], "none"), ([3], "3"), ([9, 1, 2, 3, 7, 10, 2], "1-3, 7, 9-10"), ([4, 5], "4-5")]
)
def test_runs_of_numbers_are_drawn_together(numbers, text):
    assert number_ranges(numbers) == text
