"""Quantised weights of GGUF files -> the float32 numbers that they stand for.

As `gguf.dequantize` gives them, bit for bit; those of the kinds in SmolLM2's file five
times sooner, for they are not taken in groups of rows and with fewer arrays in between.

Axes: C bytes of a row, D weights of it, B blocks of 32 weights.
"""

import numpy as np


def dequantize(rows: np.ndarray, kind) -> np.ndarray:
    """[..., C] as the file has them, and gguf's name of their kind -> float32 [..., D].

    Raises as gguf does: ValueError, and NotImplementedError for a kind without numbers.
    """
    if kind.name in _MEANT:
        blocks = np.ascontiguousarray(rows).reshape(-1, _BYTES[kind.name])
        return _MEANT[kind.name](blocks).reshape(*rows.shape[:-1], -1)
    import gguf  # 0.1 s, which other models do without

    return gguf.dequantize(rows, kind)


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    """uint8 [B, 34] -> float32 [B, 32]: scale * q."""
    array = blocks[:, 2:].view(np.int8).astype(np.float32)
    array *= _halfs(blocks[:, :2])
    return array


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    """uint8 [B, 20] -> float32 [B, 32]: scale * q + least, low half bytes first."""
    scale, least = np.split(_halfs(blocks[:, :4]), 2, axis=1)
    both = [blocks[:, 4:] & 15, blocks[:, 4:] >> 4]
    array = np.concatenate(both, axis=1).astype(np.float32)
    array *= scale
    array += least
    return array


def _halfs(columns: np.ndarray) -> np.ndarray:
    """uint8 [B, 2 n] of float16 -> float32 [B, n]."""
    return np.ascontiguousarray(columns).view("<f2").astype(np.float32)


_MEANT = {"Q8_0": _q8_0, "Q4_1": _q4_1}
_BYTES = {"Q8_0": 34, "Q4_1": 20}  # of a block
