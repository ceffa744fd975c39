"""The safetensors format: to the byte, and every file that must be refused."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.checkpoint import CheckpointError, load, safetensors, save

DTYPES = [
    "bool", "uint8", "int8", "int16", "uint16", "float16", "int32", "uint32", "float32", "complex64", "float64", "int64",
    "uint64",
]  # fmt: skip


def packed(header, data=b""):
    """A file with this header, which need not be a sensible one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin=0, end=4, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def loaded(tmp_path, content):
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    return load(path)


def assert_same(found, expected):
    """The same names with the same bits."""
    assert set(found) == set(expected)
    for name, array in expected.items():
        other = found[name]
        assert (other.dtype, other.shape, other.tobytes()) == (array.dtype, array.shape, array.tobytes()), name


# -- the format --------------------------------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_the_format(tmp_path):
    path = tmp_path / "x.safetensors"
    save(path, {"b": np.array([1, -1], np.int8), "é": np.array(1.5, np.float32), "a": np.array([[True]])})
    header = (
        '{"é":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"b":{"dtype":"I8","shape":[2],"data_offsets":[4,6]},'
        '"a":{"dtype":"BOOL","shape":[1,1],"data_offsets":[6,7]}}'
    ).encode()
    header += b" " * (-len(header) % 8)
    assert path.read_bytes() == len(header).to_bytes(8, "little") + header + b"\x00\x00\xc0\x3f\x01\xff\x01"


def test_arrays_come_back_with_their_bits_and_in_memory_of_their_own(tmp_path):
    arrays = {f"{n}{shape}": np.ones(shape, n) for n in DTYPES for shape in [(), (3,), (2, 0, 4), (2, 3)]}
    arrays["special"] = np.array([np.nan, -np.nan, np.inf, -0.0, 5e-324])
    save(tmp_path / "x", arrays)
    found = load(tmp_path / "x")
    assert_same(found, arrays)
    for array in found.values():
        array[...] = 0
    assert_same(load(tmp_path / "x"), arrays)


def test_strided_and_big_endian_arrays_are_written_by_their_values(tmp_path):
    base = np.arange(24.0).reshape(2, 3, 4)
    views = {
        "T": base.T,
        "step": base[:, ::-2, 1::2],
        "fortran": np.asfortranarray(base),
        "row": np.broadcast_to(base[0], (2, 3, 4)),
    }
    save(tmp_path / "x", {**views, "big": base.astype(">f8"), "bits": base.astype(">u2")})
    found = load(tmp_path / "x")
    for name, view in views.items():
        np.testing.assert_array_equal(found[name], view)
    np.testing.assert_array_equal(found["big"], base)
    np.testing.assert_array_equal(found["bits"], base)
    assert (found["big"].dtype, found["bits"].dtype) == (np.float64, np.uint16)
    assert found["big"].dtype.isnative


def test_tensors_are_saved_as_arrays(tmp_path):
    w = tg.Tensor([1.0, 2.0], requires_grad=True)
    save(tmp_path / "x", {"w": w, "product": w * 2})
    assert_same(load(tmp_path / "x"), {"product": np.array([2.0, 4.0]), "w": np.array([1.0, 2.0])})


def test_bfloat16_is_read_as_float32(tmp_path):
    numbers = np.array([1.0, -2.5, 3.140625, np.inf], np.float32)  # each fits in bfloat16
    upper = (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
    assert_same(loaded(tmp_path, packed({"x": entry(0, 8, (2, 2), "BF16")}, upper)), {"x": numbers.reshape(2, 2)})


def test_the_order_in_a_foreign_header_is_free_and_its_metadata_left_alone(tmp_path):
    header = {"b": entry(4, 8), "a": entry(0, 4), "e": entry(4, 4, (0,)), "__metadata__": {"format": "pt"}}
    found = loaded(tmp_path, packed(header, np.array([1, 2], "<f4").tobytes()))
    assert_same(found, {"a": np.ones(1, "f4"), "e": np.zeros(0, "f4"), "b": np.full(1, 2, "f4")})
    assert safetensors.read(tmp_path / "file.safetensors")[1] == {"format": "pt"}


# -- files that are refused --------------------------------------------------------------------------------------------------

REFUSED = {
    "empty": (b"", "at least 8 bytes, got 0"),
    "short": (b"\x02\0\0\0", "at least 8 bytes, got 4"),
    "no header": (bytes(8), r"should start with '\{', and starts with b''"),
    "pickle": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0", "more than 100000000: not a safetensors file"),
    "longest": ((2**64 - 1).to_bytes(8, "little") + b"{}", "18446744073709551615 bytes long"),
    "cut header": (packed({"a": entry()})[:-20], "header should be .* bytes long, and .* follow: the file is cut off"),
    "space first": (packed(b" {}"), r"should start with '\{', and starts with b' \{\}'"),
    "list": (packed(b"[]"), r"should start with '\{'"),
    "not JSON": (packed(b"{nope}"), "not valid JSON"),
    "two values": (packed(b"{}{}"), "not valid JSON"),
    "not UTF-8": (packed(b'{"\xff":1}'), "not valid JSON: 'utf-8' codec"),
    "UTF-16": (packed("{}".encode("utf-16-le")), "not valid JSON"),
    "NaN": (packed(b'{"a":NaN}'), "not valid JSON: NaN"),
    "surrogate": (packed(b'{"\\ud800":{}}'), "not valid JSON: .*surrogates not allowed"),
    "deep": (packed(b'{"a":' + b"[" * 100_000), "not valid JSON"),
    "deep objects": (packed(b'{"a":' * 50_000), "not valid JSON"),
    "endless digits": (packed(b'{"a":' + b"1" * 5000 + b"}"), "not valid JSON: Exceeds the limit"),
    "twice": (packed(b'{"a":{},"a":{}}'), "has the name 'a' twice"),
    "twice inside": (packed(b'{"a":{"dtype":"F32","dtype":"F32"}}'), "has the name 'dtype' twice"),
    "twice in metadata": (packed(b'{"__metadata__":{"k":"1","k":"2"}}'), "has the name 'k' twice"),
    "metadata number": (packed({"__metadata__": {"a": 1}}), "__metadata__ should map strings to strings"),
    "metadata list": (packed({"__metadata__": ["a"]}), "__metadata__ should map strings to strings"),
    "metadata null": (packed({"__metadata__": None}), "__metadata__ should map strings to strings"),
    "entry": (packed({"a": 3}), "'a' should have dtype, shape and data_offsets, and has 3"),
    "missing": (packed({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), "'a' should have dtype, shape and data_offsets"),
    "dtype": (packed({"a": entry(dtype="F31")}, bytes(4)), "'a' has dtype 'F31', which NumPy has not: expected one of U64"),
    "lower case": (packed({"a": entry(dtype="f32")}, bytes(4)), "'a' has dtype 'f32'"),
    "float8": (packed({"a": entry(0, 1, dtype="F8_E4M3")}, bytes(1)), "'a' has dtype 'F8_E4M3', which NumPy has not"),
    "list for dtype": (packed({"a": entry(dtype=["F32"])}, bytes(4)), r"'a' has dtype \['F32'\]"),
    "negative": (packed({"a": entry(shape=(-1, -1))}, bytes(4)), r"'a' has shape \[-1, -1\]: expected at most 64 whole"),
    "fraction": (packed({"a": entry(shape=(1.0,))}, bytes(4)), r"'a' has shape \[1.0\]"),
    "true": (packed({"a": entry(shape=(True,))}, bytes(4)), r"'a' has shape \[True\]"),
    "65 axes": (packed({"a": entry(shape=[1] * 65)}, bytes(4)), r"'a' has shape \[1, 1, .*\.\.\.: expected at most 64"),
    "huge": (packed({"a": entry(0, 2**62, (2**60,))}), "'a' should end at byte 4611686018427387904 of the data"),
    "overflow to 4": (packed({"a": entry(0, 4, (2**32 + 1, 2**32 - 1, 2**63))}, bytes(4)), "more than this machine can count"),
    "overflow to 0": (packed({"a": entry(0, 0, (2**32, 2**32))}), "more than this machine can count"),
    "overflow under 0": (packed({"a": entry(0, 0, (0, 2**63, 2**63))}), "more than this machine can count"),
    "wrong product": (packed({"a": entry(0, 8, (3,))}, bytes(8)), r"'a' has shape \[3\] of F32, 12 bytes, and data_off"),
    "backwards": (packed({"a": entry(4, 0)}, bytes(4)), r"'a' has data_offsets \[4, 0\]: expected \[begin, end\]"),
    "three": (packed({"a": {**entry(), "data_offsets": [0, 4, 4]}}, bytes(4)), r"data_offsets \[0, 4, 4\]"),
    "before": (packed({"a": entry(-4, 0)}, bytes(4)), r"data_offsets \[-4, 0\]"),
    "beyond": (packed({"a": entry(0, 8, (2,))}, bytes(4)), "'a' should end at byte 8 of the data, and there are 4"),
    "overlap": (packed({"a": entry(), "b": entry(2, 6)}, bytes(6)), "'b' begins at byte 2 .* overlaps .* expected 4"),
    "same bytes": (packed({"a": entry(), "b": entry()}, bytes(4)), "overlaps what is before it"),
    "gap": (packed({"a": entry(), "b": entry(8, 12)}, bytes(12)), "'b' begins at byte 8 .* leaves a gap, expected 4"),
    "gap first": (packed({"a": entry(4, 8)}, bytes(8)), "leaves a gap, expected 0"),
    "trailing": (packed({"a": entry()}, bytes(7)), "3 bytes follow the last array, expected none"),
    "trailing alone": (packed({}, b"x"), "1 bytes follow the last array"),
    "bool": (packed({"a": entry(0, 4, (4,), "BOOL")}, b"\0\1\2\1"), "'a' is BOOL and holds the byte 2: expected 0 or 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_contradicts_the_format_is_refused(tmp_path, name):
    content, message = REFUSED[name]
    with pytest.raises(CheckpointError, match=r"cannot load '.*file.safetensors': .*" + message):
        loaded(tmp_path, content)


def test_nothing_is_allocated_for_a_file_that_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "empty", lambda *args, **kwargs: pytest.fail("memory was taken"))
    with pytest.raises(CheckpointError, match="should end at byte 4398046511104 of the data, and there are 8"):
        loaded(tmp_path, packed({"a": entry(0, 4), "b": entry(4, 2**42, (2**40 - 1,))}, bytes(8)))


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "x"
    save(path, {"a": np.ones(1000)})
    with path.open("rb", buffering=64) as file:
        entries, _ = safetensors.read_header(file, path.stat().st_size)
        os.truncate(path, 500)
        with pytest.raises(CheckpointError, match="the file ended within 'a': it was changed while it was read"):
            safetensors.read_array(file, entries[0])


def load_or_refuse(path, content):
    """What a damaged file may do: be refused with a CheckpointError, or be one that is right in itself."""
    path.write_bytes(content)
    try:
        return load(path)
    except CheckpointError:
        return None


@given(st.binary(max_size=200))
@example(packed({"a": {}}))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_refused_or_hold_no_arrays(tmp_path, content):
    assert load_or_refuse(tmp_path / "x", content) in (None, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=False) | st.sampled_from(["F32", "BOOL", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["dtype", "shape", "a"]), inner, max_size=4),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "__metadata__"]),
        JSON | st.fixed_dictionaries({"dtype": st.sampled_from(["F32", "U8"]) | JSON, "shape": JSON, "data_offsets": JSON}),
    ),
    st.binary(max_size=16),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strange_headers_are_refused_or_describe_all_the_data(tmp_path, header, data):
    found = load_or_refuse(tmp_path / "x", packed(header, data))
    assert found is None or sum(array.nbytes for array in found.values()) == len(data)


@given(st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_with_damage_is_refused_or_says_what_it_holds(tmp_path, data):
    """A flipped bit in a number or a name is another valid file; what is read must account for every byte of it."""
    if not (tmp_path / "good").exists():
        state = {"a": {"w": np.arange(6.0).reshape(2, 3), 3: np.array([True, False])}, "n": np.int8(3), "t": "x"}
        save(tmp_path / "good", state)
    content = bytearray((tmp_path / "good").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    content = content[: len(content) - data.draw(st.sampled_from([0, 0, 1, 9, 60]))]
    if load_or_refuse(tmp_path / "x", bytes(content)) is not None:
        arrays, _ = safetensors.read(tmp_path / "x")
        header = int.from_bytes(content[:8], "little")
        assert sum(array.nbytes for array in arrays.values()) == len(content) - 8 - header
