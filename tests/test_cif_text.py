"""Text files as the world writes them: read, or named for what they are, with the line."""

import bz2
import contextlib
import gzip
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libtbx.utils import Sorry

from edtbx_cctbx.io.cif_grammar import checked_cif
from edtbx_cctbx.io.text_file import parse_cif, read_text

EXPECTED = "CIF"
EXAMPLE = (Path(__file__).resolve().parents[1] / "examples" / "example.cif").read_text()


def parsed(text: str):
    return parse_cif(text, "x.cif", EXPECTED)


def refused(text: str) -> str:
    with pytest.raises(Sorry) as caught:
        parsed(text)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert "memory(" not in said
    assert "lexer" not in said
    return said


def text_of(tmp_path: Path, raw: bytes) -> str:
    path = tmp_path / "x.cif"
    path.write_bytes(raw)
    return read_text(path, EXPECTED)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("0.0251", "0.0251", "0.0251"),
        ("0.0251", "0.02510", "0.02510"),
        ("0.0250793404505", "0.02508", "0.0250793404505"),
        ("0.02508", "0.0250793404505", "0.0250793404505"),
        ("2.51e-2", "0.0251", "2.51e-2"),
        ("5.43(1)", "5.431", "5.431"),
        ("'P 21 21 21'", '"P 21 21 21"', "P 21 21 21"),
        ("abc", "\n;abc\n;", "abc"),
        ("?", "0.0251", "0.0251"),
        ("0.0251", ".", "0.0251"),
    ],
)
def test_a_scalar_twice_with_equal_values(first, second, kept):
    blocks = parsed(f"data_x\n_a 1\n_tag {first}\n_b 2\n_TAG {second}\n_c 3\n")
    assert dict(blocks["x"].items()) in (
        {"_a": "1", "_tag": kept, "_b": "2", "_c": "3"},
        {"_a": "1", "_TAG": kept, "_b": "2", "_c": "3"},
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0.0251", "0.0252"),
        ("6", "6.4"),
        ("a", "b"),
        ("90", "90.5"),
        ("0.0251", "abc"),
        ("0", "0.4"),
        ("1e999", "2e999"),
        ("1e305", "1"),
    ],
)
def test_a_scalar_twice_with_different_values(first, second):
    said = refused(f"data_x\n_a 1\n_tag {first}\n_b 2\n\n_tag {second}\n")
    assert f"line 3 (_tag {first})" in said
    assert f"line 6 (_tag {second})" in said


def test_one_name_in_two_blocks_or_save_frames_is_two_names():
    blocks = parsed("data_x\n_a 1\ndata_y\n_a 2\nsave_f\n_a 3\nsave_\n_b 4\n")
    assert (blocks["x"]["_a"], blocks["y"]["_a"], blocks["y"]["f"]["_a"]) == ("1", "2", "3")


def test_blocks_of_one_name_are_both_kept():
    blocks = parsed("data_x\n_a 1\ndata_x\n_a 2\ndata_x\n_a 3\n")
    assert {name: blocks[name]["_a"] for name in blocks} == {"x": "1", "x_2": "2", "x_3": "3"}


def test_loops_twice():
    loop = "loop_\n_p_a\n_p_b\n1 2.0\n3 4\n"
    assert list(parsed(f"data_x\n{loop}_c 1\n{loop.replace('2.0', '2.00')}")["x"]["_p_a"]) == ["1", "3"]
    assert "line 7" in refused(f"data_x\n{loop}_c 1\n{loop.replace('3', '5')}".replace("_c 1\n", ""))
    assert "join them" in refused(f"data_x\n{loop}loop_\n_p_a\n_p_c\n1 5\n3 6\n")
    assert "two columns" in refused("data_x\nloop_\n_p_a\n_p_a\n1 2\n")


def test_a_loop_and_a_scalar_of_one_name():
    for text in ("data_x\n_p_a 1.0\nloop_\n_p_a\n_p_b\n1 2\n", "data_x\nloop_\n_p_a\n_p_b\n1 2\n_p_a 1.0\n"):
        assert list(parsed(text)["x"]["_p_a"]) == ["1"]
        said = refused(text.replace("1.0", "1.5"))
        assert "_p_a 1.5" in said


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("data_x\n_a 1\n_sg 'P 21 21 21\n_b 2\n", 3, "a quote is not closed (_sg 'P 21 21 21)"),
        ('data_x\n_sg "P 21\n', 2, 'a quote is not closed (_sg "P 21)'),
        ("data_x\n_a 'tis\n", 2, "a quote is not closed"),
        ("data_x\nloop_\n_a\n_b\n1 2\n3 'H5\n", 6, "a quote is not closed (3 'H5)"),
        ("data_x\n_a P 21\n", 2, "the value 21 belongs to no name"),
        ("data_x\n_a\n_b 2\n", 2, "_a has no value"),
        ("data_x\n_b 2\n_a\n", 3, "truncated"),
        ("data_x\n_a 1\nloop_\n1 2 3\n", 3, "the loop has no names"),
        ("data_x\n_a 1\nloop_\n", 3, "the loop has no names"),
        ("_a 1\ndata_x\n", 1, "before any data block"),
        ("data_x\n_a 1\nstop_\n", 3, "stop_"),
        ("data_x\n_a $x\n", 2, "put quotes"),
        ("data_x\n_a [1\n", 2, "put quotes"),
        ("data_x\nsave_\n_a 1\n", 2, "save frame"),
        ("data_ \n_a 1\n", 1, "no name"),
        ("data_x\n_a 1\n_b\n;text\nmore\n", 4, "is not closed: close it with a line that begins with ;"),
        ("# c\n\n\ndata_x\n_ 1\n", 5, "_ alone is no name"),
        ("data_x\nloop_\n_ hem_comp\nC1\n", 3, "_ alone is no name"),  # which kills the parser of iotbx
        ("data_x\n_a 1\nsave_f\nsave_\n", 4, "is no CIF"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, line, says):
    said = refused(text)
    assert said.startswith(f"x.cif, line {line}: ")
    assert says in said
    assert ("fetch it again" in said) is ("truncated" in said)


def test_a_row_that_is_not_whole():
    rows = "data_x\nloop_\n_a\n_b\n_c\n" + "1 2 3\n" * 5
    said = refused(rows + "1 2 some words\n" + "1 2 3\n" * 5)
    assert "the loop of 3 columns in line 2" in said
    assert "line 11 has 4 (1 2 some words)" in said
    assert "quotes around values with spaces" in said
    assert "truncated" in refused(rows + "1 2\n")
    assert "truncated" not in refused(rows + "1 2\n_d 1\n")


@pytest.mark.parametrize("text", ["data_x\n_b 1\nloop_\n_a\n", "data_x\n_b 1\nsave_f\n_a 1\n"])
def test_truncated_files_are_called_so(text):
    assert "truncated: fetch it again" in refused(text)


def test_an_empty_loop_says_nothing():
    block = parsed("data_x\nloop_\n_a\n_b\nloop_\n_c\n1\ndata_y\nloop_\n_a\ndata_z\n_a 1\n")["x"]
    assert {tag: list(block[tag]) for tag in block} == {"_c": ["1"]}


@pytest.mark.parametrize(
    "text",
    [
        EXAMPLE,
        "data_x\n_a 'O5''\n_b \"a\"b\"\n_c 1#2\n_d #c\n3\n",
        "data_x\n_a\n;it's _no 'quote\nloop_\ndata_y\n;\n_b ;x\nloop_ _c _d 1 '_e' 2 ;\n",
        "data_x\n_a ''\n_b \"\"\n",
        "data_x\nloop_\n_a\n_b\n1\n;two\nlines\n;\n3 4\n",
    ],
)
def test_a_good_text_stays_as_it_is(text):
    assert checked_cif(text, "x.cif", EXPECTED) == text
    parsed(text)


@given(
    words=st.lists(
        st.sampled_from(
            ["data_x", "loop_", "_a", "_b", "_a_c", "1", "'a b'", "'", '"', ";", "\n;", "#", "?", "save_f", "save_"]
        ),
        max_size=25,
    ),
    separators=st.lists(st.sampled_from([" ", "\n", "\n\n"]), min_size=25, max_size=25),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_gets_past_the_grammar_into_a_crash(words, separators):
    """iotbx ends the process at some texts: whatever is let through, it reads."""
    text = "data_x " + "".join(f"{word}{space}" for word, space in zip(words, separators, strict=False))
    with contextlib.suppress(Sorry):
        assert "x" in parsed(text)


ENCODINGS = {
    "windows": EXAMPLE.replace("\n", "\r\n").encode(),
    "old mac": EXAMPLE.replace("\n", "\r").encode(),
    "utf-8 with mark": EXAMPLE.encode("utf-8-sig"),
    "utf-16": EXAMPLE.encode("utf-16"),
    "utf-16 without mark": EXAMPLE.encode("utf-16-le"),
    "utf-16, big end first": EXAMPLE.encode("utf-16-be"),
    "end of file of DOS": EXAMPLE.encode() + b"\x1a",
}


@pytest.mark.parametrize("raw", ENCODINGS.values(), ids=ENCODINGS)
def test_encodings_and_line_ends(tmp_path, raw):
    assert text_of(tmp_path, raw).rstrip() == EXAMPLE.rstrip()


def test_letters_of_other_alphabets(tmp_path):
    assert text_of(tmp_path, "data_x # Müller\n_a \u22120.5\u00a0\n".encode()) == "data_x # M?ller\n_a -0.5 \n"
    assert "M?ller" in text_of(tmp_path, "data_x # Müller".encode("latin-1"))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer, .* git lfs pull"),
        (b"<!DOCTYPE html>\n<html></html>", "web page"),
        (b"\n<html><head>", "web page"),
        (b"<?xml version='1.0'?><html/>", "web page"),
        (gzip.compress(EXAMPLE.encode()), "compressed by gzip"),
        (bz2.compress(EXAMPLE.encode()), "compressed by bzip2"),
        (b"PK\x03\x04abc", "zip archive"),
        (b"%PDF-1.4", "PDF"),
        (b"\x89HDF\r\n", "HDF5"),
        (bytes(range(256)) * 9, "binary file"),
        (EXAMPLE.encode().replace(b"C2 C", b"C2\0C"), "is damaged .byte 0 in line 35"),
        (b" \r\n\t", "is empty"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, raw, says):
    with pytest.raises(Sorry, match=says) as caught:
        text_of(tmp_path, raw)
    assert "x.cif" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_folders_and_odd_paths_are_named(tmp_path):
    for path, says in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file"), ("a\0b", "null byte")):
        with pytest.raises(Sorry, match=says):
            read_text(path, EXPECTED)


def test_a_large_file_is_checked_in_a_time_that_grows_with_its_size():
    def seconds(rows: int) -> float:
        text = "data_x\nloop_\n" + "".join(f"_p_{n}\n" for n in range(8)) + "-1 2 3 100.5 2.25 1 0.0125 ?\n" * rows
        start = time.process_time()
        checked_cif(text, "x.cif", EXPECTED)
        with pytest.raises(Sorry, match="has 7"):
            checked_cif(text.replace("? \n", "?\n") + "-1 2 3 100.5 2.25 1 0.0125\n", "x.cif", EXPECTED)
        return time.process_time() - start

    seconds(100)
    assert seconds(20000) < 60.0 * max(seconds(1000), 0.005)
