"""Kind of a file, from its first kilobytes and its name: a model, data, parameters, or a file of another program."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

DATA_SUFFIX = ".cif_pets"
PARAMETER_SUFFIXES = (".phil", ".eff", ".params", ".def")

_HEAD = 65536
"""Bytes that are looked at."""

_CHUNK = 1 << 20
"""Bytes at a time in which a CIF is searched for atoms when its beginning has reflections only."""

_MOST_TEXT = 1 << 28
"""A CIF longer than this is not searched to its end."""


class Role(Enum):
    """What a program does with a file."""

    MODEL = "model"
    DATA = "data"
    PARAMETERS = "parameters"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """``name`` completes "x is ..."; ``remedy`` says what to do with a file that no program here reads."""

    name: str
    role: Role
    remedy: str = ""
    certain: bool = True


_READS = f"edtbx reads *{DATA_SUFFIX} for now"
_WRITERS = "PETS2 writes one for dynamical refinement, and so does `dials.export format=pets`"
_NO_FRAMES = f"it does not tell frame and orientation of each measurement; {_READS}: {_WRITERS}"
_TO_CIF = "export the structure as CIF from Jana2020"
_MODELS = "give a CIF, mmCIF, PDB or SHELX .ins/.res for a model"

CIF_MODEL = FileKind(name="a CIF with atoms", role=Role.MODEL)
MACROMOLECULE = FileKind(name="an mmCIF or PDB file", role=Role.MODEL)
SHELX_MODEL = FileKind(name="a SHELX model", role=Role.MODEL)
FRAMES = FileKind(name="data on frames (.cif_pets)", role=Role.DATA)
MERGED_PETS = FileKind(name="the kinematical .cif_pets file, one list without frames", role=Role.DATA)
PARAMETERS = FileKind(name="a file of parameters (PHIL)", role=Role.PARAMETERS)
DIALS = FileKind(
    name="a DIALS file",
    role=Role.OTHER,
    remedy=f"{_READS}: `dials.export integrated.expt integrated.refl format=pets` writes one",
)
XDS = FileKind(name="a file of XDS", role=Role.OTHER, remedy=f"{_READS}: {_WRITERS}")
XDS_INPUT = FileKind(name="input or a log of XDS", role=Role.OTHER, remedy=f"{_READS}: {_WRITERS}")
SHELX_REFLECTIONS = FileKind(name="a SHELX list of reflections (HKLF)", role=Role.OTHER, remedy=_NO_FRAMES)
MTZ = FileKind(name="an MTZ file", role=Role.OTHER, remedy=_NO_FRAMES)
SCALEPACK = FileKind(name="a scalepack list of reflections", role=Role.OTHER, remedy=_NO_FRAMES)
STRUCTURE_FACTORS = FileKind(name="a CIF of reflections without frames", role=Role.OTHER, remedy=_NO_FRAMES)
PETS_PROJECT = FileKind(
    name="a project of PETS2",
    role=Role.OTHER,
    remedy=f"{_READS}: open it in PETS2, which writes one for dynamical refinement",
)
JANA_MODEL = FileKind(name="a model of Jana2020", role=Role.OTHER, remedy=_TO_CIF)
JANA_OTHER = FileKind(
    name="a file of Jana2020 that holds no atoms",
    role=Role.OTHER,
    remedy=f"for a model, {_TO_CIF}; for data, give the {DATA_SUFFIX} file that was imported there",
)
DIFFRACTION_IMAGE = FileKind(
    name="a diffraction image or a stack of them", role=Role.OTHER, remedy=f"integrate it first; {_READS}: {_WRITERS}"
)
PICTURE = FileKind(name="a picture", role=Role.OTHER, remedy=f"{_MODELS} and *{DATA_SUFFIX} for data")
DOCUMENT = FileKind(name="a document", role=Role.OTHER, remedy=f"{_MODELS} and *{DATA_SUFFIX} for data")
TABLE = FileKind(name="a table of numbers", role=Role.OTHER, remedy=f"{_MODELS}; {_READS}")
MAP = FileKind(name="a map", role=Role.OTHER, remedy=f"{_MODELS}; {_READS}")
COMPRESSED = FileKind(name="compressed", role=Role.OTHER, remedy="unpack it first")
LFS_POINTER = FileKind(
    name="a Git LFS pointer, not the file itself", role=Role.OTHER, remedy="`git lfs pull` fetches the file"
)
WEB_PAGE = FileKind(
    name="a web page, not the file itself", role=Role.OTHER, remedy="download the file (on GitHub: Raw)"
)
CIF = FileKind(name="a CIF", role=Role.MODEL, certain=False)
UNKNOWN = FileKind(name="in no known format", role=Role.MODEL, certain=False)

_MAGIC: Sequence[tuple[bytes, FileKind]] = (
    (b"version https://git-lfs.github.com/spec", LFS_POINTER),
    (b"\x89PNG", PICTURE),
    (b"\xff\xd8\xff", PICTURE),
    (b"GIF8", PICTURE),
    (b"%PDF", DOCUMENT),
    (b"\xd0\xcf\x11\xe0", DOCUMENT),
    (b"{\\rtf", DOCUMENT),
    (b"MTZ ", MTZ),
    (b"\x89HDF\r\n", DIFFRACTION_IMAGE),
    (b"II*\x00", DIFFRACTION_IMAGE),
    (b"MM\x00*", DIFFRACTION_IMAGE),
    (b"{\nHEADER_BYTES", DIFFRACTION_IMAGE),
    (b"###CBF", DIFFRACTION_IMAGE),
    (b"MQ1,", DIFFRACTION_IMAGE),
    (b"\x00\x00\x00\x03\x00\x00\x00", DIFFRACTION_IMAGE),
    (b"\x00\x00\x00\x04\x00\x00\x00", DIFFRACTION_IMAGE),
    (b"\x1f\x8b", COMPRESSED),
    (b"BZh", COMPRESSED),
    (b"\xfd7zXZ", COMPRESSED),
    (b"7z\xbc\xaf", COMPRESSED),
    (b"(\xb5/\xfd", COMPRESSED),
    (b"!FORMAT=XDS_ASCII", XDS),
    (b"!OUTPUT_FILE=", XDS),
)
_SUFFIXES: dict[str, FileKind] = {
    ".expt": DIALS,
    ".refl": DIALS,
    ".hkl": SHELX_REFLECTIONS,
    ".mtz": MTZ,
    ".sca": SCALEPACK,
    ".fcf": STRUCTURE_FACTORS,
    ".pts": PETS_PROJECT,
    ".pts2": PETS_PROJECT,
    ".m40": JANA_MODEL,
    ".m42": JANA_OTHER,
    ".m50": JANA_OTHER,
    ".m90": JANA_OTHER,
    ".m95": JANA_OTHER,
    ".lp": XDS_INPUT,
    ".xds": XDS,
    ".dat": TABLE,
    ".csv": TABLE,
    ".json": TABLE,
    ".xlsx": DOCUMENT,
    ".docx": DOCUMENT,
    ".ccp4": MAP,
    ".map": MAP,
    ".zip": COMPRESSED,
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".bmp", ".svg"), PICTURE),
    **dict.fromkeys((".pdf", ".ps", ".eps"), DOCUMENT),
    **dict.fromkeys(
        (".tif", ".tiff", ".img", ".cbf", ".smv", ".mrc", ".mrcs", ".h5", ".hdf5", ".nxs"), DIFFRACTION_IMAGE
    ),
    **dict.fromkeys((".dm3", ".dm4", ".emd", ".mib", ".ser", ".emi", ".tvips", ".prz", ".hspy"), DIFFRACTION_IMAGE),
}


def kind_of(path: str | Path) -> FileKind:
    """What a file is. What is missing, no regular file or unreadable goes by its name.

    A name says what to expect, the content what is there: the content wins where it is clear.
    """
    path = Path(path)
    head = _head(path)
    by_name = kind_by_name(path)
    if not head.strip():
        return by_name
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if b"dials::af::reflection_table" in head[:4096]:
        return DIALS
    if head[208:212] == b"MAP ":
        return MAP if by_name is MAP else DIFFRACTION_IMAGE
    if head.startswith(b"PK\x03\x04"):
        return DOCUMENT if by_name is DOCUMENT else COMPRESSED
    if any(byte < 9 for byte in head):
        return by_name
    text = head.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return _kind_of_text(text, path, by_name)


def kind_by_name(path: str | Path) -> FileKind:
    """What the name of a file promises; a model where it says nothing."""
    name = Path(path).name.lower()
    if name.endswith((DATA_SUFFIX, f"{DATA_SUFFIX}.txt")):
        return FileKind(name=FRAMES.name, role=Role.DATA, certain=False)
    if name.endswith(PARAMETER_SUFFIXES):
        return FileKind(name=PARAMETERS.name, role=Role.PARAMETERS, certain=False)
    if name in ("xds.inp", "correct.lp", "xds_ascii.hkl", "integrate.hkl"):
        return XDS if name.endswith("hkl") else XDS_INPUT
    return _SUFFIXES.get(Path(name).suffix, UNKNOWN)


def told(path: str | Path, kind: FileKind) -> str:
    """The line for a file that is of no use: what it is, and what to do."""
    return f"{path} is {kind.name}; {kind.remedy}"


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe could be read but once
            return b""
        with path.open("rb") as stream:
            return stream.read(_HEAD)
    except (OSError, ValueError):
        return b""


def _kind_of_text(text: str, path: Path, by_name: FileKind) -> FileKind:
    beginning = text.lstrip()
    if re.match(r"(?i)<!doctype html|<html", beginning):
        return WEB_PAGE
    if re.match(r"(?i)<(\?xml[^>]*>\s*)?(<!--.*?-->\s*)?svg|<\?xml[\s\S]{0,500}<svg", beginning):
        return PICTURE
    if beginning.startswith(("{", "[")) and re.search(r'"__id__"\s*:\s*"(ExperimentList|DataBlock)"', text):
        return DIALS
    if re.search(r"^\s*data_[^\s=]*(?!\S|\s*=)", text, flags=re.MULTILINE | re.IGNORECASE):
        return _kind_of_cif(text, path, by_name)
    for pattern, kind in _LINES:
        if re.search(pattern, text, flags=re.MULTILINE):
            return kind
    if by_name is not UNKNOWN:
        return by_name
    for fits, kind in _WEAK:
        if fits(text):
            return kind
    return by_name


def _kind_of_cif(text: str, path: Path, by_name: FileKind) -> FileKind:
    lower = text.lower()
    if "_diffrn_zone_axis_" in lower or "_refln_zone_axis_id" in lower:
        frames = by_name.role is Role.DATA or not _has_atoms(lower, path)
        return FRAMES if frames else CIF_MODEL
    if "_diffrn_orient_matrix_ub_11" in lower and "_refln_" in lower and not _has_atoms(lower, path):
        return MERGED_PETS
    if by_name.role is Role.DATA and "_atom_site_" not in lower:
        return by_name
    if re.search(r"^\s*_atom_site\.", lower, flags=re.MULTILINE):
        return MACROMOLECULE
    if "_atom_site_fract_" in lower:
        return CIF_MODEL
    if re.search(r"_shelx_refln_list_code|_refln[._]\w*index_h", lower) and not _has_atoms(lower, path):
        return STRUCTURE_FACTORS
    return CIF


def _has_atoms(lower: str, path: Path) -> bool:
    """Whether atoms are listed anywhere in a CIF whose beginning is given."""
    sought = (b"_atom_site_fract_", b"_atom_site.")
    if any(tag.decode() in lower for tag in sought):
        return True
    last = b""
    try:
        with path.open("rb") as stream:
            for _ in range(_MOST_TEXT // _CHUNK):
                chunk = stream.read(_CHUNK)
                if not chunk:
                    break
                last = last[-32:] + chunk.lower()
                if any(tag in last for tag in sought):
                    return True
    except OSError:
        pass
    return False


def _has_reflections(text: str) -> bool:
    """Whether the first lines are those of HKLF 4: three indices of four columns, and two numbers of eight."""
    lines = [line for line in text.split("\n")[:4] if line.strip()][:3]
    return bool(lines) and all(_is_hklf(line) for line in lines)


def _is_hklf(line: str) -> bool:
    try:
        indices = [int(line[at : at + 4]) for at in (0, 4, 8)]
        numbers = [float(line[at : at + 8]) for at in (12, 20)]
    except ValueError:
        return False
    return len(indices) + len(numbers) == 5


def _has_parameters(text: str) -> bool:
    """Whether the first line that is no comment starts a PHIL definition or scope."""
    for line in text.split("\n"):
        if line.strip() and not line.lstrip().startswith("#"):
            return re.match(r"\s*!?[A-Za-z_][\w.]*\s*(=|\{|$)|\s*include\s+(file|scope)\s", line) is not None
    return False


_LINES: Sequence[tuple[str, FileKind]] = (
    (r"(?i)^SFAC\s", SHELX_MODEL),
    (r"(?i)^\s*TITL\b[\s\S]*^\s*CELL\s", SHELX_MODEL),
    (r"^(CRYST1|ATOM  |HETATM)", MACROMOLECULE),
    (r"\A\s*XPARM\.XDS\s", XDS),
    (r"\A\s*\*{3,} \w+ \*{3,}", XDS_INPUT),
    (r"^\s*(JOB|DATA_RANGE|NAME_TEMPLATE_OF_DATA_FRAMES)\s*=", XDS_INPUT),
    (r"\A(\s*#.*\n)*\s*(lambda|aperpixel|geometry|noiseparameters)\s[\s\S]*^\s*imagelist\s*$", PETS_PROJECT),
)
_WEAK: Sequence[tuple[Callable[[str], bool], FileKind]] = (
    (_has_reflections, SHELX_REFLECTIONS),
    (_has_parameters, PARAMETERS),
)
