"""The safetensors format in NumPy alone: named arrays, and nothing in the file that could run.

    8 bytes             n, the length of the header, little-endian
    n bytes             the header: JSON that starts with {, padded with spaces to a multiple of 8
    the rest            the arrays one after the other, in C order, little-endian, without gaps

The header maps each name to {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, offsets counted from its end, and
may map "__metadata__" to an object of strings. Source: the section "Format" of github.com/huggingface/safetensors, and for the
order of the arrays, which it leaves open, version 0.8.0 of the official package: the same arrays give the same bytes.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np

from ..ops import Array
from .files import Path, replacing

# In the order of the official writer: arrays of the first dtype come first in the file.
DTYPES = {
    "U64": "uint64", "I64": "int64", "F64": "float64", "C64": "complex64", "F32": "float32", "U32": "uint32", "I32": "int32",
    "F16": "float16", "U16": "uint16", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
CODES = {name: code for code, name in DTYPES.items()}
RANK = {code: i for i, code in enumerate(DTYPES)}
STORED = {**{code: np.dtype(name).newbyteorder("<") for code, name in DTYPES.items()}, "BF16": np.dtype("<u2")}
METADATA = "__metadata__"
LONGEST_HEADER = 100_000_000  # the official limit
MOST_AXES = 64  # NumPy's


class CheckpointError(ValueError):
    """A file that is not what it should be: cut off, damaged, hostile, or of another format. The message says where."""


class Entry(NamedTuple):
    """What the header says of one array."""

    name: str
    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


# -- writing ---------------------------------------------------------------------------------------------------------------


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays under their names, all or nothing (see `replacing`). Strided arrays are written as their C-order copy.

    Raises TypeError for a dtype that the format or NumPy does not have, ValueError for a name or metadata that it cannot
    hold, before anything is written.
    """
    for name, array in arrays.items():
        if array.dtype.name not in CODES:
            raise TypeError(
                f"cannot save {name!r} of dtype {array.dtype}: expected one of {', '.join(CODES)}; "
                "write array.astype(np.float32), or leave it out"
            )
    ordered = sorted(arrays.items(), key=lambda item: (RANK[CODES[item[1].dtype.name]], item[0]))
    header = encode_header(ordered, metadata or {})
    with replacing(path) as file:
        file.write(header)
        for _, array in ordered:
            stored = np.asarray(array, STORED[CODES[array.dtype.name]], order="C")
            file.write(stored.reshape(-1).view(np.uint8).data)


def encode_header(ordered: list[tuple[str, Array]], metadata: Mapping[str, str]) -> bytes:
    """The header for arrays in this order, with its length before it."""
    content: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    if not all(isinstance(text, str) for item in metadata.items() for text in item):
        raise ValueError(f"metadata: expected strings for strings, got {dict(metadata)!r}")
    begin = 0
    for name, array in ordered:
        if name == METADATA:
            raise ValueError(f"cannot save an array named {METADATA!r}: the format keeps that name; choose another")
        end = begin + array.nbytes
        content[name] = {"dtype": CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    try:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        found = error.object[error.start : error.end]
        raise ValueError(f"cannot save: {found!r} in a name or text is half of a surrogate pair, no valid Unicode") from None
    text += b" " * (-len(text) % 8)
    if len(text) > LONGEST_HEADER:
        raise ValueError(f"cannot save: names and metadata take {len(text)} bytes, and the format allows {LONGEST_HEADER}")
    return len(text).to_bytes(8, "little") + text


# -- reading ---------------------------------------------------------------------------------------------------------------


def read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays, each in memory of its own, and the metadata. BF16, which NumPy lacks, is read as float32, exactly.

    Raises CheckpointError if anything in the file contradicts the format; the header is checked as a whole, against the size
    of the file, before memory is taken for arrays.
    """
    with naming(path), open(path, "rb") as file:
        entries, metadata = read_header(file, os.fstat(file.fileno()).st_size)
        return {entry.name: read_array(file, entry) for entry in entries}, metadata


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors within this block say which file they are about."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {os.fspath(path)!r}: {error}") from None


def read_header(file: BufferedReader, size: int) -> tuple[list[Entry], dict[str, str]]:
    """The entries in the order of their bytes, and the metadata; the file is left where the arrays begin."""
    start = file.read(8)
    if len(start) < 8:
        raise CheckpointError(f"expected a safetensors file of at least 8 bytes, got {len(start)}")
    length = int.from_bytes(start, "little")
    if length > LONGEST_HEADER:
        raise CheckpointError(f"its header would be {length} bytes long, more than {LONGEST_HEADER}: not a safetensors file")
    if length > size - 8:
        raise CheckpointError(f"its header should be {length} bytes long, and {size - 8} follow: the file is cut off")
    header = file.read(length)
    if not header.startswith(b"{"):
        raise CheckpointError(f"its header should start with '{{', and starts with {header[:8]!r}: not a safetensors file")
    content = parse_json(header)
    metadata = content.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise CheckpointError(f"{METADATA} should map strings to strings")
    entries = sorted((parse_entry(name, fields) for name, fields in content.items()), key=lambda e: (e.begin, e.end))
    check_layout(entries, size - 8 - length)
    return entries, metadata


def parse_json(text: bytes | str) -> Any:
    """JSON to the letter: no name twice in an object, no NaN, no half of a surrogate pair."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=distinct, parse_constant=refuse_constant)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its header is not valid JSON: {error}") from None


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose names must differ."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise CheckpointError(f"its header has the name {name!r} twice in one object")
        result[name] = value
    "".join(text for pair in pairs for text in pair if isinstance(text, str)).encode()  # raises for half of a surrogate pair
    return result


def refuse_constant(name: str) -> None:
    raise CheckpointError(f"its header is not valid JSON: {name}")


def parse_entry(name: str, fields: Any) -> Entry:
    """One entry of the header, which must be right in itself."""
    if not isinstance(fields, dict) or not {"dtype", "shape", "data_offsets"} <= set(fields):
        raise CheckpointError(f"{name!r} should have dtype, shape and data_offsets, and has {brief(fields)}")
    code, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(code, str) or code not in STORED:
        raise CheckpointError(f"{name!r} has dtype {brief(code)}, which NumPy has not: expected one of {', '.join(STORED)}")
    if not naturals(shape) or len(shape) > MOST_AXES:
        raise CheckpointError(f"{name!r} has shape {brief(shape)}: expected at most {MOST_AXES} whole numbers from 0")
    if not naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{name!r} has data_offsets {brief(offsets)}: expected [begin, end]")
    size = STORED[code].itemsize
    if math.prod(n or 1 for n in shape) * size > sys.maxsize:
        raise CheckpointError(f"{name!r} has shape {brief(shape)}, more than this machine can count")
    entry = Entry(name, code, tuple(shape), *offsets)
    expected, found = math.prod(shape) * size, entry.end - entry.begin
    if expected != found:
        raise CheckpointError(f"{name!r} has shape {shape} of {code}, {expected} bytes, and data_offsets of {found} bytes")
    return entry


def check_layout(entries: list[Entry], size: int) -> None:
    """The arrays must lie one after the other, and fill the `size` bytes from the end of the header to that of the file."""
    position = 0
    for entry in entries:
        if entry.end > size:
            what = f"{entry.name!r} should end at byte {entry.end} of the data"
            raise CheckpointError(f"{what}, and there are {size}: the file is cut off, or its header damaged")
        if entry.begin != position:
            what = "overlaps what is before it" if entry.begin < position else "leaves a gap"
            raise CheckpointError(f"{entry.name!r} begins at byte {entry.begin} of the data and {what}, expected {position}")
        position = entry.end
    if position != size:
        raise CheckpointError(f"{size - position} bytes follow the last array, expected none")


def read_array(file: BufferedReader, entry: Entry) -> Array:
    """The next array of the file, in the byte order of this machine."""
    stored = STORED[entry.code]
    raw = np.empty(entry.end - entry.begin, np.uint8)
    if file.readinto(raw.data) != raw.size:
        raise CheckpointError(f"the file ended within {entry.name!r}: it was changed while it was read")
    if entry.code == "BOOL" and raw.size and raw.max() > 1:
        raise CheckpointError(f"{entry.name!r} is BOOL and holds the byte {raw.max()}: expected 0 or 1")
    array = raw.view(stored).astype(stored.newbyteorder("="), copy=False)
    if entry.code == "BF16":  # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.reshape(entry.shape)


def naturals(value: Any) -> bool:
    """Is this a list of whole numbers from 0? (JSON's true is an int to Python.)"""
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def brief(value: Any) -> str:
    """What a file says, in an error: it may be long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
