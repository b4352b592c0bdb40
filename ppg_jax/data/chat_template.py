"""The form of a prompt as other programs read it: a chat template beside the tokenizer.

    tokenizer.apply_chat_template(
        messages, self_persona=["i sing."], partner_persona=["i am a nurse."]
    )

gives the tokens of `Prompts` for a context that fits whole; lists of sentences may be
left out. `messages` are [{"role": ..., "content": ...}], the last one to be answered.
Text is not normalized, and an end token that somebody types ends the turn there.
"""

import dataclasses
import json

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.prompts import CUES, JOINTS, PromptConfig, Prompts, layout

_SAID = (
    "{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"
)
_SENTENCES = (
    "{% for s in NAME %}{{ s | trim }}"
    "{{ '' if (s | trim)[-1:] in '.!?' else '.' }}"
    "{{ '' if loop.last else JOINT }}{% endfor %}"
)


def chat_templates(config: PromptConfig) -> dict[str, str]:
    """The Jinja template of each generator, by its name ("persona", "response")."""
    joint, (self_cue, partner_cue) = JOINTS[config.joint], CUES[config.style]
    before = joint if config.style == "text" else ""

    def profile(name: str, cue: str) -> str:
        listed = _SENTENCES.replace("NAME", name).replace("JOINT", json.dumps(joint))
        return "{{ " + json.dumps(cue + before) + " }}" + listed

    # Where nothing is known of the speaker, the end token is what a prompt begins with.
    told = profile("self_persona", self_cue)
    me = "{% if self_persona %}" + told + "{% endif %}{{ eos_token }}"
    told = profile("partner_persona", partner_cue)
    partner = "{% if partner_persona %}" + told + "{{ eos_token }}{% endif %}"
    if config.order == "context_first":
        return {"persona": _SAID + me + partner_cue, "response": _SAID + me + partner}
    return {"persona": me + _SAID + partner_cue, "response": me + partner + _SAID}


def fits(tokenizer, config: PromptConfig) -> bool:
    """Whether a prompt as one text has the tokens of its parts, as a template needs.

    It has not where a tokenizer marks the beginning of a text (SentencePiece's).
    """
    backend = tokenizer.backend_tokenizer
    was = backend.encode_special_tokens
    most = config.max_persona_tokens + config.max_response_tokens + 10_000
    prompts = Prompts(tokenizer, dataclasses.replace(config, max_length=most))
    said = Instance("", 0, ("i have two dogs.", "i sing."), (), ("hi !",), "")
    partner = prompts.persona_target(["i am a nurse."])
    parts = {
        "persona": prompts.persona_prompt(said),
        "response": prompts.response_prompt(said, partner),
    }
    backend.encode_special_tokens = False  # which a template's reader has
    end = tokenizer.eos_token
    texts = {k: v.replace("END", end) for k, v in layout(config).items()}
    whole = {k: backend.encode(v, add_special_tokens=False) for k, v in texts.items()}
    backend.encode_special_tokens = was
    return {k: v.ids for k, v in whole.items()} == parts
