"""What files are, from name and content; every kind as small as it can be."""

import pytest

from edtbx_cctbx.io.file_kinds import Role, kind_of, told

UB = "_diffrn_orient_matrix_UB_11 0.1\n"
ATOMS = "loop_\n_atom_site_label\n_atom_site_fract_x\nC1 0.1\n"
ZONES = "loop_\n_diffrn_zone_axis_id\n_diffrn_zone_axis_alpha\n1 0.0\n"
ROWS = "loop_\n_refln_index_h\n_refln_intensity_meas\n1 10.0\n"
SHELX = "TITL a\nCELL 0.02508 5 6 7 90 90 90\nLATT -1\nSFAC C H\nUNIT 4 4\nC1 1 0.1 0.2 0.3 11 0.05\nEND\n"
HKLF = "   1   0   0   12.30    1.20\n   1  -2  10  -12.30    1.20\n   0   0   0    0.00    0.00\n"
GLUED = "  -1 -10 -12-1234.5   12.30\n"
MODEL, DATA, PARAMETERS, OTHER = Role.MODEL, Role.DATA, Role.PARAMETERS, Role.OTHER

KINDS = [
    ("a.cif", f"data_a\n{ATOMS}", MODEL, "CIF"),
    ("A.CIF", f"data_a\n{ATOMS}", MODEL, "CIF"),
    ("a.txt", f"data_a\n{ATOMS}", MODEL, "CIF"),
    ("a.cif_pets", f"data_a\n{ATOMS}", MODEL, "CIF"),
    ("a.mmcif", "data_a\nloop_\n_atom_site.group_PDB\n_atom_site.id\nATOM 1\n", MODEL, "mmCIF"),
    ("a.pdb", "CRYST1   10.000   10.000   10.000  90.00  90.00  90.00 P 1\n", MODEL, "PDB"),
    ("a.res", SHELX, MODEL, "SHELX"),
    ("A.RES", SHELX.replace("\n", "\r\n"), MODEL, "SHELX"),
    ("a", SHELX, MODEL, "SHELX"),
    ("a.hkl", SHELX, MODEL, "SHELX"),
    ("a.cif_pets", f"data_a\n{UB}{ZONES}{ROWS}", DATA, "frames"),
    ("A.CIF_PETS", f"data_a\n{UB}{ZONES}{ROWS}", DATA, "frames"),
    ("a.cif_pets.txt", f"data_a\n{UB}{ZONES}{ROWS}", DATA, "frames"),
    ("a.cif", f"data_a\n{UB}{ZONES}{ROWS}", DATA, "frames"),
    ("a.cif", f"data_a\n{ROWS}_refln_zone_axis_id\n{'#' * 70000}\n{ATOMS}", MODEL, "atoms"),
    ("a.cif_pets", f"data_a\n{UB}{ROWS}", DATA, "kinematical"),
    ("a.cif", f"data_a\n{UB}{ROWS}", DATA, "kinematical"),
    ("a.eff", "frames.last = 2\n", PARAMETERS, "PHIL"),
    ("a.PHIL", "# nothing\n", PARAMETERS, "PHIL"),
    ("a.txt", "\n# few\nframes {\n last = 2\n}\n", PARAMETERS, "PHIL"),
    ("a.expt", '{\n "__id__": "ExperimentList",\n "experiment": []\n}', OTHER, "DIALS"),
    ("a.json", '{"__id__": "ExperimentList", "experiment": []}', OTHER, "DIALS"),
    ("a.expt", "", OTHER, "DIALS"),
    ("a.refl", b"\x93\xbbdials::af::reflection_table\x01\x83", OTHER, "DIALS"),
    ("a.bin", b"\x93\xbbdials::af::reflection_table\x01\x83", OTHER, "DIALS"),
    ("a.refl", b"\x80\x02cdials", OTHER, "DIALS"),
    ("a.hkl", HKLF, OTHER, "HKLF"),
    ("a.txt", HKLF, OTHER, "HKLF"),
    ("a.hkl", GLUED, OTHER, "HKLF"),
    ("XDS_ASCII.HKL", "!FORMAT=XDS_ASCII    MERGE=FALSE\n", OTHER, "XDS"),
    ("a", "!FORMAT=XDS_ASCII    MERGE=FALSE\n", OTHER, "XDS"),
    ("INTEGRATE.HKL", "!OUTPUT_FILE=INTEGRATE.HKL    DATE=14-Feb-2025\n", OTHER, "XDS"),
    ("GXPARM.XDS", " XPARM.XDS    VERSION Jun 30, 2024\n 0 -50.4\n", OTHER, "XDS"),
    ("a.txt", " XPARM.XDS    VERSION Jun 30, 2024\n 0 -50.4\n", OTHER, "XDS"),
    ("XDS.INP", "! mine\nJOB= XYCORR INIT\nDATA_RANGE=1 90\n", OTHER, "XDS"),
    ("CORRECT.LP", "\n ***** CORRECT *****  (VERSION Jun 30, 2024)\n", OTHER, "XDS"),
    ("a.mtz", b"MTZ \x15\x00\x00\x00", OTHER, "MTZ"),
    ("a.sca", "    1\n -987\n   10.0 10.0 10.0\n", OTHER, "scalepack"),
    ("a.fcf", f"data_a\n_shelx_refln_list_code 4\n{ROWS}", OTHER, "reflections"),
    ("a.cif", f"data_a\n_shelx_refln_list_code 4\n{ROWS}", OTHER, "reflections"),
    ("a-sf.cif", "data_a\nloop_\n_refln.index_h\n_refln.F_meas_au\n1 2\n", OTHER, "reflections"),
    ("a.pts", "lambda 0.0251\naperpixel 0.003\nimagelist\na.tif 0 0\nendimagelist\n", OTHER, "PETS2"),
    ("a.pts2", "lambda 0.0251\n", OTHER, "PETS2"),
    ("a.txt", "# mine\nlambda 0.0251\naperpixel 0.003\nimagelist\na.tif 0 0\n", OTHER, "PETS2"),
    ("a.m40", "    5    0    0    1    0\n 1.000000 0.000000\n", OTHER, "model of Jana"),
    ("a.m50", "version Jana2020\ncell 1 2 3 90 90 90\n", OTHER, "Jana"),
    ("a.m42", "commands\ncalcdyn 1\n", OTHER, "Jana"),
    ("a.m90", "   1   0   0 12.3 1.2 1\n", OTHER, "Jana"),
    ("a.m95", "   1   0   0 12.3 1.2 1\n", OTHER, "Jana"),
    ("a.dat", "#     1\n -17  -3  -3  3.2 -0.03\n", OTHER, "table"),
    ("a.tif", b"II*\x00\x08\x00", OTHER, "image"),
    ("a.img", "{\nHEADER_BYTES= 512;\n", OTHER, "image"),
    ("a.cbf", "###CBF: VERSION 1.5\n", OTHER, "image"),
    ("a.h5", b"\x89HDF\r\n\x1a\n", OTHER, "image"),
    ("a.mrc", b"\x00" * 208 + b"MAP ", OTHER, "image"),
    ("a.ccp4", b"\x00" * 208 + b"MAP ", OTHER, "a map"),
    ("a.cif", b"\x89PNG\r\n\x1a\n\x00", OTHER, "picture"),
    ("a.jpg", b"\xff\xd8\xff\xe0", OTHER, "picture"),
    ("a.svg", '<?xml version="1.0"?>\n<svg width="1"/>', OTHER, "picture"),
    ("a.pdf", "%PDF-1.4\n", OTHER, "document"),
    ("a.cif.gz", b"\x1f\x8b\x08\x00", OTHER, "compressed"),
    ("a.zip", b"PK\x03\x04\x14\x00", OTHER, "compressed"),
    ("a.cif", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", OTHER, "Git LFS"),
    ("a.cif_pets", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", OTHER, "Git LFS"),
    ("a.cif", "\n<!DOCTYPE html>\n<html>", OTHER, "web page"),
]


@pytest.mark.parametrize(("name", "content", "role", "word"), KINDS)
def test_a_kind_is_recognised(name, content, role, word, tmp_path):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    kind = kind_of(path)
    assert kind.role is role
    assert word in kind.name
    if role is OTHER:
        assert told(path, kind).startswith(f"{path} is ")
        assert len(kind.remedy) > 10
    else:
        assert not kind.remedy


@pytest.mark.parametrize("content", [b"", b"  \n", b"\x00\x01\x02", b"hello there\n", b"data_\xff\xfe\n", b"data_a\n"])
@pytest.mark.parametrize(("name", "role"), [("a.cif", MODEL), ("a", MODEL), ("a.cif_pets", DATA)])
def test_where_the_content_says_nothing_the_name_does(name, role, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    kind = kind_of(tmp_path / name)
    assert kind.role is role
    assert not kind.certain


def test_a_missing_file_goes_by_its_name(tmp_path):
    assert kind_of(tmp_path / "a.cif_pets").role is DATA
    assert kind_of(tmp_path / "a.eff").role is PARAMETERS
    assert kind_of(tmp_path / "a.res").role is MODEL


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("pattern", "role", "word"),
    [
        ("*/*.cif_pets", DATA, "frames"),
        ("*/*.cif", MODEL, "CIF"),
        ("quartz_dials/integrated.*", OTHER, "DIALS"),
        ("cinchonine_xds/*.HKL", OTHER, "XDS"),
        ("cinchonine_xds/*.XDS", OTHER, "XDS"),
        ("cinchonine_xds/*.res", MODEL, "SHELX"),
        ("urea/*.m4*", OTHER, "Jana"),
        ("silicon/*.dat", OTHER, "table"),
    ],
)
def test_files_of_the_world_are_recognised(pattern, role, word, data_dir):
    paths = sorted(data_dir.glob(pattern))
    assert paths
    for path in paths:
        kind = kind_of(path)
        assert (kind.role, word in kind.name, path) == (role, True, path)
