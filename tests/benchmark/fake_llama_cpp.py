"""llama-cpp-python as far as the benchmark calls it, with a model that remembers.

What it says next depends on every token of the sequence, so that a token that is read
twice, at a wrong place or not at all shows in the completion.
"""

import numpy as np

LLAMA_FLASH_ATTN_TYPE_DISABLED = 0
WORDS, END = 50, 0
read = []  # tokens of each call


def next_token(tokens) -> int:
    value = 7
    for token in tokens:
        value = (31 * value + int(token) + 1) % 10007
    return value % WORDS


class Settings:
    pass


class Context:
    def __init__(self, places: int):
        self.sequences: list[list[int]] = [[] for _ in range(places)]
        self.rows: dict[int, np.ndarray] = {}


class Batch:
    def __init__(self, size: int):
        self.n_tokens = 0
        self.token, self.pos, self.n_seq_id, self.logits = (
            [0] * size for _ in range(4)
        )
        self.seq_id = [[0] for _ in range(size)]


def llama_log_callback(function):
    return function


def llama_log_set(callback, data):
    pass


def llama_backend_init():
    pass


def llama_model_default_params():
    return Settings()


def llama_context_default_params():
    return Settings()


def llama_model_load_from_file(path, params):
    return path


def llama_init_from_model(model, params):
    return Context(params.n_seq_max)


def llama_free(context):
    pass


def llama_get_memory(context):
    return context


def llama_memory_clear(memory, data):
    for sequence in memory.sequences:
        sequence.clear()


def llama_memory_seq_rm(memory, number, start, end):
    assert end == -1
    del memory.sequences[number][start:]
    return True


def llama_batch_init(size, embd, most):
    return Batch(size)


def llama_batch_free(batch):
    pass


def llama_model_get_vocab(model):
    return model


def llama_vocab_n_tokens(vocabulary):
    return WORDS


def llama_decode(context, batch):
    context.rows = {}
    read.append(batch.n_tokens)
    numbers = []
    for i in range(batch.n_tokens):
        (number,) = batch.seq_id[i]
        sequence = context.sequences[number]
        assert batch.n_seq_id[i] == 1
        assert batch.pos[i] == len(sequence), "a gap, or a token twice"
        sequence.append(batch.token[i])
        numbers.append(number)
        if batch.logits[i]:
            context.rows[i] = np.zeros(WORDS, np.float32)
            context.rows[i][next_token(sequence)] = 1
    assert numbers == sorted(numbers), "llama.cpp splits what is not in order"
    return 0


def llama_get_logits_ith(context, row):
    return context.rows[row]
