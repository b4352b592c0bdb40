"""The header of a GGUF file: its values, checked, and where its tensors lie.

The only file that imports gguf, but for `gguf_blocks`.
"""

import functools
import reprlib
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ppg_jax.errors import UserError
from ppg_jax.files import require_file

_VERSIONS = (2, 3)  # of the form; they differ in nothing that matters here
AGAIN = "get the file again"
OTHER = "take another file"


class File:
    """The header of a GGUF file; tensors stay on disk until they are asked for.

    Raises UserError if it is not a complete GGUF file.
    """

    def __init__(self, path):
        self.path = Path(path)
        require_file(self.path, "get it again.")
        try:
            with self.path.open("rb") as file:
                self._check_start(file.read(8))
            with np.errstate(over="raise"):
                reader = _reader()(self.path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}.") from None
        except (UserError, ImportError):
            raise
        except Exception as error:  # what a broken header leads gguf into
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise self.error(f"cut short or damaged ({reason})") from None
        self._fields, self.tensors = reader.fields, reader.tensors
        self._values: dict[str, Any] = {}

    def error(self, fault: str, remedy: str = AGAIN) -> UserError:
        return UserError(f"{self.path}: {fault}; {remedy}.")

    def _check_start(self, start: bytes) -> None:
        if start[:4] != b"GGUF":
            raise self.error("is no GGUF file", OTHER)
        version = int.from_bytes(start[4:], "little")
        if len(start) == 8 and version not in _VERSIONS:
            big = int.from_bytes(start[4:], "big") in _VERSIONS
            what = "is a big-endian file" if big else f"has GGUF version {version}"
            raise self.error(f"{what}, expected little-endian version 3", OTHER)

    def get(self, key: str) -> Any:
        field = self._fields.get(key)
        try:
            if field is not None and key not in self._values:
                self._values[key] = field.contents()
        except UnicodeDecodeError:
            raise self.error(f"{key} is not UTF-8") from None
        return self._values.get(key)

    def expect(self, key: str, *known) -> Any:
        value = self.get(key)
        if value not in known:
            names = ", ".join(map(repr, known))
            fault = f"{key} is {reprlib.repr(value)}, known are {names}"
            raise self.error(fault, OTHER)
        return value

    def integer(self, key: str, least: int = 1) -> int:
        value = self.get(key)
        if type(value) is not int or not least <= value < 2**31:
            fault = f"{key} is {reprlib.repr(value)}, expected an integer from {least}"
            raise self.error(fault)
        return value

    def number(self, key: str) -> float:
        """A float32 as the shortest decimal that means it: 1e-05."""
        value = self.get(key)
        if type(value) is not float or not 0 < value < np.inf:
            fault = f"{key} is {reprlib.repr(value)}, expected a positive number"
            raise self.error(fault)
        return float(str(np.float32(value)))

    def list(self, key: str, kind: type) -> list:
        value = self.get(key)
        if not isinstance(value, list) or any(type(item) is not kind for item in value):
            fault = (
                f"{key} is {reprlib.repr(value)}, expected a list of {kind.__name__}"
            )
            raise self.error(fault)
        return value


@functools.cache
def _reader():
    """gguf's reader, without a numpy view for each token.

    Those views take 1.6 of 1.7 seconds for a vocabulary of 49,152. Importing gguf takes
    0.1 s, which other models do without.
    """
    import gguf

    class Reader(gguf.GGUFReader):
        def _get_field_parts(self, orig_offs, raw_type):
            kinds = gguf.GGUFValueType
            kind, count = None, 0
            if raw_type == kinds.ARRAY:
                kind, count = struct.unpack_from("<IQ", self.data, orig_offs)
            begin = orig_offs + 12
            if kind == kinds.STRING:
                parts, end = _strings(memoryview(self.data), begin, count)
            elif kind in self.gguf_scalar_to_np:
                numbers = np.dtype(self.gguf_scalar_to_np[kinds(kind)])
                end = begin + count * numbers.itemsize
                parts = [self.data[begin:end].view(numbers)]
            else:
                return super()._get_field_parts(orig_offs, raw_type)
            types = [kinds.ARRAY, kinds(kind)]
            return end - orig_offs, parts, list(range(len(parts))), types

    return Reader


def _strings(data: memoryview, offset: int, count: int) -> tuple[list[memoryview], int]:
    """`count` strings, each after its length, and where they end."""
    parts, length_at = [], struct.Struct("<Q").unpack_from
    for _ in range(count):
        start = offset + 8
        offset = start + length_at(data, offset)[0]
        parts.append(data[start:offset])
    return parts, offset
