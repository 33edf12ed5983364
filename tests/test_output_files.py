"""What the programs write and what they leave alone: input, files of earlier runs, and those of a run beside them."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from libtbx.utils import Sorry

from edtbx_cctbx.io.output_files import ENDINGS, OutputFiles, output_base
from edtbx_cctbx.io.output_lock import locked
from edtbx_cctbx.programs import compare, refine, simulate
from edtbx_cctbx.programs import map as map_program

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PROGRAMS = {"edtbx.compare": compare, "edtbx.refine": refine, "edtbx.map": map_program, "edtbx.simulate": simulate}
QUICK = {
    "edtbx.compare": ["frames.last=1", "solver.name=kinematical"],
    "edtbx.refine": ["frames.last=2", "solver.name=two_beam", "refinement.cycles=1", "refinement.anisotropic=none"],
    "edtbx.map": ["frames.last=2", "map.hydrogens=True", "map.omit=H*", "solver.name=two_beam"],
    "edtbx.simulate": ["scan.frames=1", "selection.d_min=1.5"],
}
HOW = ("itself", "another path", "linked to", "a link", "a hard link")
every_program = pytest.mark.parametrize("name", PROGRAMS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the user's only copies."""
    for name in ("example.cif", "example.cif_pets"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_of(name):
    return ["example.cif"] if name == "edtbx.simulate" else ["example.cif", "example.cif_pets"]


def contents():
    return {path.name: path.read_bytes() for path in Path.cwd().iterdir()}


def refused(name, capsys, *arguments):
    """The one line with which a program ends that has read nothing and written nothing."""
    before = contents()
    with pytest.raises(SystemExit) as stopped:
        PROGRAMS[name].run([*arguments])
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert said.err.startswith("Sorry: ")
    assert said.err.count("\n") == 1
    assert "Model:" not in said.out
    assert contents() == before
    return said.err


def test_a_checkpoint_replaces_no_input(folder, capsys):
    Path("example.cif").rename("x.checkpoint")
    for allowed in ([], ["--overwrite"], ["restart=True"]):
        said = refused("edtbx.refine", capsys, "x.checkpoint", "example.cif_pets", "output.prefix=x", *allowed)
        assert "x.checkpoint, which edtbx.refine writes, would replace the model, x.checkpoint" in said


@pytest.mark.parametrize(
    ("name", "kind", "how"),
    [
        *((name, "model", how) for name in PROGRAMS for how in HOW),
        *((name, "data", how) for name in PROGRAMS if name != "edtbx.simulate" for how in ("itself", "a link")),
        *((name, "parameters", how) for name in PROGRAMS for how in ("linked to", "a link")),
    ],
)
def test_no_output_replaces_an_input(name, kind, how, folder, capsys):
    """Whatever the name under which the input is given, and whatever is allowed for other files."""
    output = Path(f"x{ENDINGS[name][0]}")
    Path("few.eff").write_text("nproc = 1\n")
    inputs = {"model": "example.cif", "data": "example.cif_pets", "parameters": "few.eff"}
    if name == "edtbx.simulate":
        del inputs["data"]
    source = Path(inputs[kind])
    if how == "a link":
        output.symlink_to(source)
    elif how == "a hard link":
        os.link(source, output)
    else:
        source.rename(output)
        source = {"itself": output, "another path": Path("..", folder.name, output), "linked to": source}[how]
        if how == "linked to":
            source.symlink_to(output)
        inputs[kind] = str(source)
    given = [inputs["parameters"], *(f"input.{k}={inputs[k]}" for k in ("model", "data") if k in inputs)]
    hydrogens = ["map.hydrogens=True"] if name == "edtbx.map" else []
    for allowed in ([], ["--overwrite"]) if how == "itself" else (["output.overwrite=True"],):
        said = refused(name, capsys, *given, *hydrogens, "output.prefix=x", *allowed)
    word = {"parameters": "file of parameters"}.get(kind, kind)
    assert f"{output}, which {name} writes, would replace the {word}, {source}: choose another output prefix" in said


@every_program
def test_files_from_before_are_replaced_on_request_only(name, folder, capsys):
    there = [f"x{end}" for end in ENDINGS[name] if end != "_hydrogens.cif"][:2]
    for path in there:
        Path(path).write_text("earlier")
    Path("x_other.txt").touch()
    said = refused(name, capsys, *files_of(name), "output.prefix=x")
    assert f"{', '.join(there)} {'are' if len(there) > 1 else 'is'} there from before" in said
    assert "--overwrite" in said
    for allowed in ("--overwrite", "output.overwrite=True"):
        PROGRAMS[name].run([*files_of(name), *QUICK[name], "output.prefix=x", allowed, "--dry-run"])
        assert f"would replace {', '.join(there)}" in capsys.readouterr().out
    Path("x.eff").write_text("output.overwrite = True\n")
    PROGRAMS[name].run([*files_of(name), *QUICK[name], "output.prefix=x", "x.eff", "--dry-run"])
    assert [Path(path).read_text() for path in there] == ["earlier"] * len(there)


def test_a_folder_and_a_name_too_long_are_told_before_the_work(folder, capsys):
    Path("x.json").mkdir()
    with pytest.raises(SystemExit):
        compare.run([*files_of("edtbx.compare"), "output.prefix=x", "--overwrite"])
    assert "x.json is a folder: choose another output prefix" in capsys.readouterr().err
    Path("x.json").rmdir()
    assert "File name too long" in refused(
        "edtbx.compare", capsys, *files_of("edtbx.compare"), f"output.prefix={'x' * 240}"
    )


def test_files_of_another_program_are_no_concern(folder, capsys):
    """edtbx.map leaves PREFIX.json and PREFIX.png alone, and the others do not mind its own."""
    for name in ("edtbx.compare", "edtbx.refine"):
        assert not set(ENDINGS[name]) & set(ENDINGS["edtbx.map"])
    for end in ENDINGS["edtbx.refine"]:
        Path(f"x{end}").touch()
    map_program.run([*files_of("edtbx.map"), "frames.last=1", "output.prefix=x", "--dry-run"])
    assert "would replace" not in capsys.readouterr().out


@every_program
def test_the_help_names_the_files_that_a_run_writes(name, folder, capsys):
    PROGRAMS[name].run([*files_of(name), *QUICK[name], "nproc=2", "output.prefix=out"])
    written = sorted(path.name for path in folder.iterdir() if not path.name.startswith("example"))
    assert f"wrote {written[0]}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        PROGRAMS[name].run(["--show-defaults", "--attributes-level=1"])
    shown = capsys.readouterr().out
    text = re.sub(r'"\s+"', " ", shown[shown.index("\noutput {") :].partition("overwrite")[0])
    assert sorted(re.findall(r"PREFIX([\w.]*\w)", text)) == [path.removeprefix("out") for path in written]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@every_program
def test_what_the_help_lists_is_heeded(name, folder, capsys):
    """Of cctbx's parameters and options those remain that do something."""
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[name].run(["--help"])
    shown = capsys.readouterr().out
    assert not ended.value.code
    options = set(re.findall(r"^  (--[\w-]+)", shown, flags=re.MULTILINE))
    assert options == {
        *("--show-defaults", "--attributes-level", "--overwrite", "--dry-run", "--citations", "--quiet", "--version")
    }
    parameters = re.search(r"  output \{\n(.*?)\n  \}", shown, flags=re.DOTALL).group(1)
    assert re.findall(r"(\w+) =", parameters) == ["prefix", "overwrite"]
    for parameter in ("output.filename=a", "output.suffix=a", "output.serial=1", "output.target_output_format=pdb"):
        assert f"{parameter.partition('=')[0]} is not recognized" in refused(name, capsys, *files_of(name), parameter)


def example_lines():
    """Command lines of our programs in their help, the docstrings and README."""
    texts = [PROGRAMS[name].Program.description for name in PROGRAMS]
    texts += [path.read_text() for path in [ROOT / "README.md", *EXAMPLES.rglob("*.py")]]
    lines = re.findall(r"^(?:Example: )?(edtbx\.\w+ \S+\.\w+ .*)$", "\n".join(texts), flags=re.MULTILINE)
    assert len(lines) >= 7
    return lines


@pytest.mark.parametrize("line", example_lines())
def test_examples_do_no_harm_in_the_folder_of_the_only_copy(line, folder, capsys):
    name, *arguments = shlex.split(line)
    arguments = [Path(word).name if "=" not in word else word for word in arguments]
    if name == "edtbx.simulate":
        arguments += ["selection.d_min=1.5"]
    for word in arguments:
        if "=" not in word:
            Path(word).write_bytes((EXAMPLES / f"example{Path(word).suffix}").read_bytes())
    before = contents()
    PROGRAMS[name].run([*arguments, "--dry-run"])
    assert "Dry run" in capsys.readouterr().out
    assert contents() == before


@every_program
def test_a_dry_run_checks_everything_and_writes_nothing(name, folder, capsys, monkeypatch):
    def compute(*arguments, **keywords):
        raise AssertionError("nothing is to be computed")

    monkeypatch.setattr("edtbx.intensities.forward.ForwardModel.cubes", compute)
    before = contents()
    PROGRAMS[name].run([*files_of(name), *QUICK[name], "output.prefix=x", "--dry-run", "cluster=host:8786"])
    said = capsys.readouterr()
    assert contents() == before
    assert said.err == ""
    for word in (
        "Model: example.cif",
        "beams",
        "host:8786",
        f"would write {', '.join(f'x{e}' for e in ENDINGS[name])}",
    ):
        assert word in said.out
    wrong = ["cluster=host", "output.prefix=no/x", "solver.name=eigne", "input.data_block=nowhere"]
    if name != "edtbx.simulate":
        wrong += ["selection.rsg_max=0.0001", "frames.exclude=99"]
    if name == "edtbx.refine":
        wrong += ["refinement.instruction=DFIX 1.2 C1 Q9", "refinement.instruction=HELP", "refinement.free_frames=100"]
    for parameter in wrong:
        with pytest.raises(SystemExit) as stopped:
            PROGRAMS[name].run([*files_of(name), "output.prefix=x", parameter, "--dry-run"])
        assert stopped.value.code == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert contents() == before


def test_rows_of_a_dry_run_are_those_of_the_run(folder, capsys):
    compare.run([*files_of("edtbx.compare"), *QUICK["edtbx.compare"], "output.prefix=x", "--dry-run"])
    planned = re.search(r"rows used: (\d+) of (\d+)", capsys.readouterr().out)
    compare.run([*files_of("edtbx.compare"), *QUICK["edtbx.compare"], "output.prefix=x", "--quiet"])
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    assert json.loads(Path("x.json").read_text())["dynamical"]["n_all"] == int(planned.group(1))


@pytest.mark.parametrize("prefix", ["two words", "two  spaces", "été", "a.b.c", "a;b", "a{b}", "$a", "it's", ".x"])
def test_any_name_will_do(prefix, folder, capsys):
    compare.run([*files_of("edtbx.compare"), "frames.last=1", f"output.prefix={prefix}", "--dry-run"])
    assert f"would write {prefix}.cif, {prefix}.json, " in capsys.readouterr().out


def test_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert output_base("~/x") == tmp_path / "x"
    assert output_base("~nobody_of_that_name") == Path("~nobody_of_that_name")


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def lock_of(process, host=None, began=""):
    return json.dumps({"program": "edtbx.x", "process": process, "host": host or socket.gethostname(), "began": began})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("edtbx.compare", "edtbx.compare"),
        ("edtbx.compare", "edtbx.refine"),
        ("edtbx.refine", "edtbx.compare"),
        ("edtbx.map", "edtbx.map"),
        ("edtbx.simulate", "edtbx.simulate"),
    ],
)
def test_the_second_of_two_runs_with_one_prefix_refuses(first, second, folder, capsys, monkeypatch):
    """While the first one reads, hence before it has written anything; each is a process of its own."""
    code = (
        f"from edtbx_cctbx.programs import {second.partition('.')[2]} as program\n"
        f"program.run({[*files_of(second), 'output.prefix=x']!r})"
    )
    done = []

    def start_another(*arguments, **options):
        before = contents()
        done.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False))
        assert contents() == before
        raise Sorry("enough")

    monkeypatch.setattr("edtbx_cctbx.programs.inputs.read_model", start_another)
    with pytest.raises(SystemExit):
        PROGRAMS[first].run([*files_of(first), "output.prefix=x"])
    assert capsys.readouterr().err == "Sorry: enough\n"
    assert done[0].returncode == 1
    assert re.fullmatch(
        rf"Sorry: {re.escape(first)} \(process {os.getpid()} on .*\) is writing files of this output prefix: .*\n",
        done[0].stderr,
    )
    assert sorted(contents()) == ["example.cif", "example.cif_pets"]


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    lock = tmp_path / ".x.lock"
    stale = [lock_of(dead_process()), lock_of(os.getpid(), began="1")]  # the second: its number is another's by now
    for content in stale if sys.platform == "linux" else stale[:1]:
        lock.write_text(content)
        with locked(tmp_path / "x", "edtbx.compare"):
            assert json.loads(lock.read_text())["process"] == os.getpid()
        assert list(tmp_path.iterdir()) == []


def test_parts_of_files_that_a_dead_process_left_are_removed(tmp_path):
    left, alive, other = (
        tmp_path / f".x{end}.{process}.part"
        for end, process in ((".cif", dead_process()), (".cif", os.getpid()), (".mtz", dead_process()))
    )
    for path in (left, alive, other):
        path.touch()
    with OutputFiles(program="edtbx.compare", base=tmp_path / "x", endings=ENDINGS["edtbx.compare"]).reserved():
        pass
    assert sorted(tmp_path.iterdir()) == sorted([alive, other])


@pytest.mark.parametrize(
    "content",
    [lock_of(1, host="elsewhere"), lock_of(os.getpid()), "", "no json", "[]"],
    ids=["elsewhere", "alive", "empty", "text", "list"],
)
def test_a_lock_that_may_be_alive_is_respected(content, tmp_path):
    (tmp_path / ".x.lock").write_text(content)
    with pytest.raises(Sorry, match=r"remove .*\.x\.lock"), locked(tmp_path / "x", "edtbx.compare"):
        pass
    assert (tmp_path / ".x.lock").read_text() == content
