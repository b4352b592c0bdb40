"""openvino and openvino-genai as far as the benchmark calls them, with the model of
`fake_llama_cpp`: what it says next depends on every token of the sequence.

Pages are known by all tokens up to their end; the one that was used longest ago gives
way. Of a prompt, a request takes the pages that there are when it is added.
"""

import enum
from collections import OrderedDict
from types import SimpleNamespace

from tests.benchmark.fake_llama_cpp import next_token

PAGE = 32
read = []  # tokens of each step


class GenerationStatus(enum.Enum):
    RUNNING = 0
    FINISHED = 1
    IGNORED = 2


class SchedulerConfig(SimpleNamespace):
    pass


class GenerationConfig(SimpleNamespace):
    do_sample, eos_token_id = False, -1


class Tensor:
    def __init__(self, array):
        self.data = array


class Request:
    def __init__(self, tokens, found: int, settings):
        self.tokens, self.found, self.settings = tokens, found, settings
        self.said: list[int] = []
        self.status = GenerationStatus.RUNNING

    def get_status(self):
        return self.status

    def read_all(self):
        return [SimpleNamespace(generated_ids=self.said)]


class ContinuousBatchingPipeline:
    def __init__(self, folder, settings, device, properties):
        assert settings.enable_prefix_caching
        self.settings = settings
        self.pages: OrderedDict[tuple, None] = OrderedDict()
        self.running: list[Request] = []

    def add_request(self, number, tensor, settings) -> Request:
        (tokens,) = tensor.data.tolist()
        found = 0
        while (
            found + PAGE < len(tokens) and tuple(tokens[: found + PAGE]) in self.pages
        ):
            found += PAGE
        self.running.append(Request(tokens, found, settings))
        assert len(self.running) <= self.settings.max_num_seqs
        return self.running[-1]

    def step(self):
        read.append(0)
        for request in self.running:
            read[-1] += len(request.tokens) - request.found
            request.found = len(request.tokens)
            for end in range(PAGE, request.found + 1, PAGE):
                self.pages[tuple(request.tokens[:end])] = None
                self.pages.move_to_end(tuple(request.tokens[:end]))
            token = next_token(request.tokens)
            request.said.append(token)
            request.tokens = [*request.tokens, token]
            settings = request.settings
            full = len(request.said) == settings.max_new_tokens
            if full or token == settings.eos_token_id:
                request.status = GenerationStatus.FINISHED
        while len(self.pages) > self.settings.num_kv_blocks:
            self.pages.popitem(last=False)
        running = GenerationStatus.RUNNING
        self.running = [r for r in self.running if r.status == running]

    def generate(self, tensors, settings):
        for tensor, each in zip(tensors, settings, strict=True):
            self.add_request(0, tensor, each)
        while self.running:
            self.step()
