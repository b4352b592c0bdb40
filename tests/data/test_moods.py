"""What was denied is not told, until it is taken back."""

import pytest

from ppg_jax.data.moods import contradicts


@pytest.mark.parametrize(
    ("sentence", "heard", "contradicted"),
    [
        ("i drink beer every day.", ["i never drink beer."], True),
        ("i drink wine.", ["i never drink beer."], False),
        ("i have a dog.", ["i have a dog.", "i do not have a dog."], True),
        ("i have a dog.", ["i do not have a dog.", "now i have a dog."], False),
        ("i have a dog.", ["i have no dog, well, i have a dog."], False),
        ("i am married to a nurse.", ["a nurse", "i am not married anymore."], True),
        ("i speak spanish and french.", ["i do not speak french."], True),
        ("i play chess.", ["i play chess, i do not play golf."], False),
        ("i love sushi.", ["i love pizza, i hate sushi."], True),
        ("i love blue cars.", ["i love red cars, i hate blue cars."], True),
        ("i love my job.", ["i hate my job."], True),
        ("i have a job.", ["i hate my job."], False),
        ("i have a cat.", ["i do not like dogs or cats."], False),
        ("i like cats.", ["i do not like dogs or cats."], True),
        ("i love dogs.", ["i do not have a dog."], False),
        ("i live with my parents.", ["i do not live with my parents."], True),
        ("i have parents.", ["i do not live with my parents."], False),
        ("i work as a pilot.", ["i work, i want to be a pilot."], True),
        ("i work as a pilot.", ["i want to be a pilot.", "i am a pilot!"], False),
        ("i like to fly.", ["i want to fly."], False),
        ("i do not drink.", ["i do not drink."], False),
        ("i want a dog.", ["i do not have a dog."], False),
        ("i drink.", ["..."], False),
        ("i drink.", [], False),
    ],
)
def test_a_sentence_is_contradicted_by_what_its_owner_has_denied(
    sentence, heard, contradicted
):
    assert contradicts(sentence, heard) is contradicted
