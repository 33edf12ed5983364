"""What a user may type: files of any name and kind, misspelt parameters, streams that close, progress."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from io import StringIO
from itertools import pairwise
from pathlib import Path

import iotbx.phil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libtbx import citations
from libtbx.utils import Sorry, multi_out

import edtbx.intensities.compilation
from edtbx.execution.progress import one_step
from edtbx_cctbx.command_line.arguments import named_files, prepared, quoted
from edtbx_cctbx.command_line.parameter_checks import nearest_parameters, unquoted
from edtbx_cctbx.command_line.progress import ProgramReporter
from edtbx_cctbx.programs import compare, refine, simulate
from edtbx_cctbx.programs import map as map_program
from edtbx_cctbx.programs import running as command_line
from edtbx_cctbx.programs.template import CITATIONS

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MODEL, DATA = str(EXAMPLES / "example.cif"), str(EXAMPLES / "example.cif_pets")
PROGRAMS = {"compare": compare, "refine": refine, "map": map_program, "simulate": simulate}
QUICK = ["frames.last=1", "solver.name=kinematical", "nproc=1"]


def refused(*arguments, program=compare):
    """The line that refuses the arguments."""
    with pytest.raises(Sorry) as error:
        prepared(program.Program, [str(argument) for argument in arguments])
    said = str(error.value)
    assert "\n" not in said
    return said


def model_of(*arguments):
    """The model as the program gets it from its arguments."""
    master = iotbx.phil.parse(compare.Program.master_phil_str)
    process = master.command_line_argument_interpreter().process
    return master.fetch(sources=[process(a) for a in prepared(compare.Program, arguments)]).extract().input.model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMES = [
    "my model.cif",
    "two  blanks.CIF",
    "a=b.cif",
    "a.b=c.cif",
    "-x.cif",
    "--help.cif",
    "a'b\"c.cif",
    "a{1}.cif",
    "a#b;c.cif",
    "a\\b.cif",
    "$x$(y).cif",
    "!a.cif",
    "Å.cif",
    "a*b[1].cif",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_file_arrives(name, folder):
    shutil.copy(MODEL, name)
    assert model_of(name) == name
    assert model_of(f"input.model={name}") == name
    assert model_of("--", name) == name


@pytest.mark.parametrize("name", ["None", "auto"])
def test_a_file_called_none_is_a_file(name, folder):
    shutil.copy(MODEL, name)
    assert model_of(name) == f"./{name}"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=1))
def test_quoting_is_undone_by_phil(text):
    text = text.strip()
    if not text or text.lower() in ("none", "auto") or re.match(r"['\"~]", text):  # ~ is the folder of the user
        return
    master = iotbx.phil.parse("input.model = None\n  .type = path\n")
    value = master.fetch(iotbx.phil.parse(f"input.model={quoted(text)}")).extract().input.model
    assert value == text
    assert unquoted(quoted(text)) == text


def test_content_decides_what_a_bare_file_is(folder):
    shutil.copy(DATA, "data.cif")
    shutil.copy(MODEL, "model.txt")
    Path("few.txt").write_text("# mine\nframes.last = 2\n")
    assert named_files(["data.cif", "model.txt"]) == ["input.data=data.cif", "input.model=model.txt"]
    assert prepared(compare.Program, ["few.txt"]) == ["few.txt"]


def test_files_of_the_other_kind_are_told(folder):
    assert refused(f"input.model={DATA}") == f"{DATA} is data, not a model: input.data={DATA}"
    assert refused(f"input.data={MODEL}") == f"{MODEL} is a model, not data: input.model={MODEL}"
    Path("few.eff").write_text(f"input.data = {MODEL}\n")
    assert "is a model, not data" in refused("few.eff")
    assert "more than one file of the data given" in refused(MODEL, DATA, DATA.replace("examples/", "examples/./"))


def test_files_of_other_programs_are_told_with_what_to_do(folder):
    Path("integrated.expt").write_text('{"__id__": "ExperimentList"}')
    Path("mine.refl").write_bytes(b"\x93\xbbdials::af::reflection_table")
    said = refused(MODEL, "integrated.expt", "mine.refl")
    assert said.startswith("integrated.expt is a DIALS file; edtbx reads *.cif_pets for now: `dials.export ")
    assert "`dials.export integrated.expt mine.refl format=pets`" in said
    Path("xds").write_text("!FORMAT=XDS_ASCII    MERGE=FALSE\n")
    assert refused(MODEL, "xds").startswith("xds is a file of XDS; ")
    assert refused(MODEL, "input.data=xds").startswith("xds is a file of XDS; ")
    Path("p.cif").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "Git LFS pointer" in refused("p.cif", DATA)


def test_missing_files_and_folders_are_told(folder):
    shutil.copy(MODEL, "urea.cif")
    assert refused("uera.cif") == "cannot read uera.cif (No such file or directory): did you mean urea.cif?"
    assert "no file matches *.res" in refused("*.res")
    Path("sub").mkdir()
    shutil.copy(DATA, "sub/x.cif_pets")
    assert refused("input.data=sub") == "sub is a folder: name a file in it, such as x.cif_pets"
    assert refused("urea.cif", "overwrite") == "there is no file overwrite; parameters are given as NAME=VALUE"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("thicknes.value=500", "thicknes.value is not recognized: did you mean thickness.value?"),
        ("Thickness.Vlaue=500", "did you mean thickness.value?"),
        ("thickness.vlaue=500", "did you mean thickness.value?"),
        ("refine.cycles=3", "did you mean refinement.cycles?"),
        ("rsgmax=0.5", "did you mean selection.rsg_max?"),
        ("thickness=500", "fits several parameters, thickness.value, thickness.shape, thickness.refine"),
        ("thickness.shape=wege", "is none of auto slab wedge cylinder lens thin free: did you mean wedge?"),
        ("thickness.value=1,5", "thickness.value=1,5 is not a number: did you mean 1.5?"),
        ("thickness.value=5 A", "thickness.value=5 A is not a number: leave out the unit, A"),
        ("thickness.value=500Å", "leave out the unit, Å"),
        ("frames.first=1.5", "frames.first=1.5 is not a whole number"),
        ("frames.exclude=9**9**9**9", "give a plain number"),
        ("output.prefix=a\nb", "holds a control character"),
        ("output.suffix=Auto", "output.suffix"),
        ("a\udcffb.cif", "not in the encoding of this system"),
        ("=", "names no parameter"),
    ],
)
def test_what_is_misspelt_is_told_with_what_was_meant(argument, said, folder):
    assert said in refused(argument, program=refine)


def test_names_are_compared_whole_and_by_their_last_part():
    paths = ["thickness.value", "thickness.refine", "spread.refine", "spread.sigma", "nproc"]
    assert nearest_parameters("spred.sigma", paths) == ["spread.sigma"]
    assert nearest_parameters("thick.value", paths) == ["thickness.value"]
    assert set(nearest_parameters("refine", paths)) == {"thickness.refine", "spread.refine"}
    assert nearest_parameters("nprocs", paths) == ["nproc"]
    assert nearest_parameters("qqqq.zzzz", paths) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--overwite"], "there is no option --overwite: did you mean --overwrite?"),
        (["--show-defaults=9"], "invalid choice: 9"),
        (["--show-defaults=x"], "invalid int value"),
        (["--attributes-level=9"], "invalid choice: 9"),
        (["--attributes-level=1"], "requires --show-defaults"),
        (["--citations=mine"], "invalid choice: 'mine'"),
    ],
)
def test_a_wrong_option_is_one_line(options, said, folder, capsys):
    with pytest.raises(SystemExit, match="1"):
        compare.run([MODEL, DATA, *options])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Sorry: ")
    assert said in lines[0]
    assert os.listdir() == []


def test_options_keep_their_values(capsys):
    with pytest.raises(SystemExit, match="0"):
        compare.run(["--show-defaults", "3", "--attributes-level", "0"])
    assert "rsg_max" in capsys.readouterr().out


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_version_and_citations(program, capsys, repository):
    with pytest.raises(SystemExit, match="0"):
        program.run(["--version"])
    line = capsys.readouterr().out
    assert re.fullmatch(r"edtbx \S+ \(cctbx \S+, Python 3\S+, NumPy \S+\)\n", line)
    with pytest.raises(SystemExit, match="0"):
        program.run(["--citations"])
    printed = capsys.readouterr().out
    for expected in ("Palatinus", "Science 355:166", "A71:235", "15:848", "CCTBX"):
        assert expected in printed


def test_readme_lists_the_same_papers(repository):
    section = (repository / "README.md").read_text(encoding="utf-8").partition("## Citation")[2].partition("##")[0]
    papers = citations.master_citation_phil.fetch(source=CITATIONS).extract().citation
    assert section.count("\n- ") == len(papers)
    for paper in papers:
        line = next(line for line in section.splitlines() if paper.doi_id in line)
        for expected in (
            paper.authors.split()[0],
            f"**{paper.volume}**, {paper.pages.partition('-')[0]} ({paper.year})",
        ):
            assert expected in line


INCLUDES = "include file loop.eff\n"
GARBAGE = {
    "loop.eff": (INCLUDES, "Include dependency cycle"),
    "missing.eff": ("include file nowhere.eff\n", "nowhere.eff"),
    "module.eff": ("include scope no.such.module\n", "no.such"),
    "binary.eff": ("\x00\x01", "is a binary file"),
    "braces.eff": ("a {" * 5000, "Syntax error|too many braces"),
    "huge.eff": ("# long\n" * 200000, "too long"),
    "self.eff": ("frames.last = $frames.last\n", "stands for no parameter .*self.eff"),
    "value.eff": ("frames {\n  last = two\n}\n", "frames.last=two is not a number .*line 2"),
}


@pytest.mark.parametrize(("name", "case"), GARBAGE.items(), ids=GARBAGE)
def test_a_file_of_parameters_that_is_none(name, case, folder):
    text, said = case
    Path(name).write_text(text)
    assert re.search(said, refused(name))


def started(*arguments, **options):
    """A program in a process of its own."""
    environment = {**os.environ, **options.pop("env", {})}
    code = "import sys; from edtbx_cctbx.programs.compare import run; run(sys.argv[1:])"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, **options)


@pytest.mark.parametrize("program", ["compare", "refine", "make_maps", "simulate"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_what_a_program_says_of_itself_needs_nothing_to_compute_with(program, option):
    """Scipy and numba take longer to load than all the rest."""
    code = f"""
import sys, edtbx_launch
sys.argv = ["edtbx", {option!r}]
try:
    edtbx_launch.{program}()
except SystemExit:
    print(*[name for name in ("numba", "scipy", "tqdm") if name in sys.modules], file=sys.stderr)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "edtbx" in told.stdout
    assert told.stderr.strip() == ""


def test_output_that_nobody_reads_loses_no_results(folder):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(MODEL, DATA, *QUICK, "output.prefix=x", **pipes) as program:
        assert program.stdout.readline().startswith("Starting edtbx.compare")
        program.stdout.close()
        assert program.stderr.read() == ""
    assert program.returncode == 141
    assert Path("x.json").exists()


def test_closed_streams_and_poor_encodings_lose_no_results(folder):
    command = [sys.executable, "-c", "import sys; from edtbx_cctbx.programs.compare import run; run(sys.argv[1:])"]
    closed = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command, MODEL, DATA, *QUICK, "output.prefix=closed"]
    assert subprocess.run(closed, check=False).returncode == 0
    assert Path("closed.json").exists()
    with started(
        MODEL,
        DATA,
        *QUICK,
        "output.prefix=ascii",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONIOENCODING": "ascii"},
    ) as poor:
        printed, complaints = poor.communicate()
    assert (poor.returncode, complaints) == (0, b"")
    assert b"thickness, ?" in printed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_log_is_told_and_loses_no_results(folder):
    with open("/dev/full", "w") as full:
        program = started(MODEL, DATA, *QUICK, "output.prefix=x", stdout=full, stderr=subprocess.PIPE, text=True)
        complaints = program.communicate()[1]
    assert program.returncode == 1
    assert re.fullmatch(r"Sorry: cannot write to standard output \(No space left on device\).*\n", complaints)
    assert Path("x.json").exists()


class Clock:
    """Seconds that pass when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_log_gets_a_line_for_every_stage_and_every_thirty_seconds():
    clock, log = Clock(), StringIO()
    reporter = ProgramReporter(log, clock=clock)
    for _ in reporter.progress("kinematical, fine")(range(67), 67):
        clock.now += 4.0
    for _ in reporter.progress("kinematical, fine")(range(2), 2):
        clock.now += 1.0
    with one_step(reporter.progress("peaks")):
        for _ in range(7):
            clock.now += 10.0
            reporter.tick()
    clock.now += 31.0
    reporter.tick()
    lines = log.getvalue().splitlines()
    assert lines[0] == "  kinematical, fine: 67 frames"
    assert lines[1] == "  kinematical, fine: 9 of 67 frames, 32 s, about 206 s left"
    assert lines[-4:] == ["  peaks", "  peaks: 30 s", "  peaks: 60 s", "  peaks is done; at work on what follows"]
    times = [int(re.search(r", (\d+) s", line).group(1)) for line in lines if " of " in line]
    assert len(times) == 8
    assert max(b - a for a, b in pairwise(times)) <= 32


def test_a_long_frame_gets_its_lines_from_the_clock(monkeypatch):
    monkeypatch.setattr("edtbx_cctbx.command_line.progress.EVERY", 0.2)
    monkeypatch.setattr("edtbx_cctbx.command_line.progress._TICK", 0.05)
    log = StringIO()
    with ProgramReporter(log) as reporter:
        for _ in reporter.progress("fine")(range(2), 2):
            time.sleep(0.7)
    assert log.getvalue().count("fine: ") > 4
    before = log.getvalue()
    time.sleep(0.5)
    assert log.getvalue() == before
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_nothing_is_shown_where_nobody_looks(monkeypatch, capsys):
    quiet = multi_out()
    quiet.register("parser_log", StringIO())
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for _ in ProgramReporter.of(quiet).progress("fine")(range(2), 2):
        pass
    assert capsys.readouterr() == ("", "")


def test_compilation_is_announced_where_it_comes(monkeypatch):
    kernels = {"potential": True}
    monkeypatch.setattr(edtbx.intensities.compilation, "_is_cached", lambda kernel: kernels["potential"])
    for cached, count in ((True, 0), (False, 1)):
        kernels["potential"] = cached
        log = StringIO()
        ProgramReporter(log).announce_compilation(rows=True)
        assert log.getvalue().count("compiling kernels, once after installation") == count


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_a_terminal_gets_bars_and_no_lines(folder):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    program = started(MODEL, DATA, "frames.last=2", "nproc=1", "output.prefix=x", stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert program.wait() == 0
    text = shown.decode(errors="replace")
    for label in ("kinematical, coarse", "kinematical, fine", "auto, coarse", "auto, fine"):
        assert re.search(rf"{label}: +0%\|", text)
    assert not re.search(r"^  auto, fine: 2 frames", text, flags=re.MULTILINE)
    assert "R(obs)" in text


WORDS = [
    "",
    "None",
    "Auto",
    "True",
    "-1",
    "1e999",
    "nan",
    "1,5",
    "5 A",
    "x" * 3000,
    "9" * 400,
    "{",
    "}",
    "'",
    '"',
    "$x",
]
WORDS += [
    "\\",
    "#",
    ";",
    "Å",
    "\x00",
    "\n",
    "\ud800",
    "1/0",
    "(1",
    "2**9",
    "*slab",
    "a b",
    "!",
    "/",
    ".",
    "1 2 3",
    "[1]",
]
WORDS += ["__import__('os')", "lambda: 0"]
PATHS = sorted(
    {d.path for p in PROGRAMS.values() for d in iotbx.phil.parse(p.Program.master_phil_str).all_definitions()}
    | {"output.suffix", "output.serial", "output.overwrite", "no.such", "a{", ""}
)
OPTIONS = ["--quiet", "--overwrite", "--show-defaults=3", "--attributes-level=9", "--dry-run"]
OPTIONS += ["--", "-", "--=", "-x", "--no", "few.eff"]
parameter = st.tuples(st.sampled_from(PATHS), st.one_of(st.sampled_from(WORDS), st.text(max_size=8))).map("=".join)
argument = st.one_of(
    parameter, st.sampled_from([*OPTIONS, MODEL, DATA, "nowhere.cif", "/", "*.cif"]), st.text(max_size=8)
)
phil_line = st.one_of(
    parameter.map(lambda text: text.replace("=", " = ", 1)),
    st.sampled_from(
        [
            "include file few.eff",
            "include scope os.system",
            "frames {",
            "}",
            "x .type=int",
            "!frames.last=1",
            "#phil __OFF__",
        ]
    ),
    st.text(max_size=20),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(PROGRAMS)),
    arguments=st.lists(argument, max_size=4),
    lines=st.lists(phil_line, max_size=4),
)
def test_no_argument_ends_in_a_traceback(name, arguments, lines, tmp_path, monkeypatch):
    """Whatever is typed is refused in words or taken, and nothing but validated."""
    monkeypatch.chdir(tmp_path)
    Path("few.eff").write_bytes("\n".join(lines).encode("utf-8", errors="surrogatepass"))
    program = PROGRAMS[name].Program
    log = multi_out()
    log.register("stdout", StringIO())
    said, status = "refused", 0
    try:
        parser = command_line.Parser(program_class=program, logger=log)
        parser.parse_args(prepared(program, arguments), skip_help=True)
        program(parser.data_manager, parser.working_phil.extract(), parser.master_phil, log).validate()
    except Sorry as error:
        said = str(error)
    except SystemExit as ended:
        status = ended.code
    assert 0 < len(said) < 3000
    assert not status
