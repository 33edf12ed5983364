"""Arrays of cctbx as arrays of NumPy, and back."""

import edtbx_cctbx  # noqa: F401  # isort: skip  (before numpy)

import numpy as np
import pytest
from cctbx import sgtbx
from cctbx.array_family import flex
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edtbx_cctbx.arrays import from_numpy, rotation_matrix, to_miller_index, to_numpy, translation_vector

DTYPES = [
    (np.bool_, flex.bool),
    (np.int16, flex.int),
    (np.int32, flex.int),
    (np.int64, flex.int),
    (np.uint8, flex.int),
    (np.float32, flex.double),
    (np.float64, flex.double),
    (np.complex64, flex.complex_double),
    (np.complex128, flex.complex_double),
]
BACK = {flex.bool: np.bool_, flex.int: np.int64, flex.double: np.float64, flex.complex_double: np.complex128}


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
@given(data=st.data())
def test_there_and_back(dtype, kind, data):
    shape = array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
    small = st.integers(0, 100) if np.dtype(dtype).kind in "iu" else None
    values = data.draw(arrays(dtype, shape, elements=small))
    for given_values in (values, values[::-1], np.asfortranarray(values)):  # whatever their order in memory
        there = from_numpy(given_values)
        assert type(there) is kind
        back = to_numpy(there)
        assert back.dtype == BACK[kind]
        np.testing.assert_array_equal(back, given_values)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (flex.size_t([3, 1]), [3, 1]),
        (flex.long([2**40]), [2**40]),
        (flex.vec2_double([(1, 2)]), [[1, 2]]),
        (flex.vec3_double([(1, 2, 3), (4, 5, 6.5)]), [[1, 2, 3], [4, 5, 6.5]]),
        (flex.sym_mat3_double([(1, 2, 3, 4, 5, 6)]), [[1, 2, 3, 4, 5, 6]]),
        (flex.mat3_double([range(9)]), [list(range(9))]),
        (flex.miller_index([(1, -2, 3), (0, 0, -7)]), [[1, -2, 3], [0, 0, -7]]),
        (flex.vec3_double(), np.zeros((0, 3))),
        (flex.miller_index(), np.zeros((0, 3), dtype=int)),
        (flex.double(flex.grid(2, 3), 1.5), np.full((2, 3), 1.5)),
    ],
)
def test_vectors_matrices_and_indices(array, expected):
    found = to_numpy(array)
    np.testing.assert_array_equal(found, expected)
    assert found.shape == np.shape(expected)
    assert found.dtype == np.asarray(expected).dtype or found.dtype == np.float64


def test_copies_are_copies():
    array = flex.double([1, 2])
    copy = to_numpy(array)
    copy[0] = 9.0
    assert list(array) == [1, 2]
    values = np.array([1.0, 2.0])
    there = from_numpy(values)
    values[0] = 9.0
    assert list(there) == [1, 2]


@given(arrays(np.int64, st.tuples(st.integers(0, 5), st.just(3)), elements=st.integers(-99, 99)))
def test_indices_there_and_back(hkl):
    there = to_miller_index(hkl)
    assert list(there) == [tuple(h) for h in hkl.tolist()]
    np.testing.assert_array_equal(to_numpy(there), hkl)


@pytest.mark.parametrize("wrong", [np.array(["a"]), np.array([None]), np.array([np.datetime64("2020-01-01")])])
def test_what_is_no_number(wrong):
    with pytest.raises(TypeError, match="expected an array of numbers"):
        from_numpy(wrong)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="do not fit into 32 bits"):
        from_numpy(np.array([2**31]))
    with pytest.raises(TypeError, match="expected a flex array of numbers, got std_string"):
        to_numpy(flex.std_string(["a"]))
    with pytest.raises(TypeError, match="got list"):
        to_numpy([1.0])


def test_symmetry_operations():
    operation = sgtbx.rt_mx("-y,x-y,z+1/3")
    np.testing.assert_array_equal(rotation_matrix(operation), [[0, -1, 0], [1, -1, 0], [0, 0, 1]])
    np.testing.assert_allclose(translation_vector(operation), [0, 0, 1 / 3])
