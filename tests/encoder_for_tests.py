"""An encoder of one line: sentences are as alike as their bags of words."""

import zlib
from collections.abc import Sequence

import numpy as np

from ppg_jax.metrics.traits import plain

WIDTH = 4096


def bag(texts: Sequence[str]) -> np.ndarray:
    """float32 [N, WIDTH] of length 1, as `inference.embedding.Encoder` gives them."""
    vectors = np.zeros((len(texts), WIDTH), np.float32)
    for row, text in zip(vectors, texts, strict=True):
        for word in plain(text).split():
            row[zlib.crc32(word.encode()) % WIDTH] += 1
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
