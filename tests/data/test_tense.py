"""What is over is told as over."""

import pytest

from ppg_jax.data.tense import as_over


@pytest.mark.parametrize(
    ("sentence", "over"),
    [
        ("i am a nurse.", "i used to be a nurse."),
        ("i have two cats.", "i used to have two cats."),
        ("i work as a nurse.", "i used to work as a nurse."),
        ("i have been ill.", ""),
        ("i am working.", ""),
        ("i am retired.", ""),
        ("i lived in rome.", ""),
        ("i have lived in rome.", ""),
        ("i have red hair.", "i used to have red hair."),
        ("i ran a marathon.", ""),
        ("i should sing.", ""),
        ("i used to sing.", ""),
        ("i will sing.", ""),
        ("i do not sing.", ""),
        ("my mom sings.", ""),
        ("my mom is a nurse.", "my mom used to be a nurse."),
        ("my mom has two cats.", "my mom used to have two cats."),
        ("my mom is not well.", ""),
        ("my mom is singing.", ""),
        ("i am married.", "i used to be married."),
        ("cats.", ""),
    ],
)
def test_a_sentence_of_the_present_as_what_used_to_be(sentence, over):
    assert as_over(sentence) == over
