import pytest

from ppg_jax.data.numbers import numbers, said_numbers, without_unsaid


@pytest.mark.parametrize(
    "text, values",
    [
        ("i have four sons and 12 hens.", {4, 12}),
        ("twenty five, 1,200 or the tenth", {20, 5, 1200, 10}),
        ("one dog, no cats, the first of 1", set()),
        ("someone weighs tons often", set()),
        ("9" * 5000, {int("9" * 18), int("9" * 14)}),
    ],
)
def test_the_numbers_of_a_text(text, values):
    assert numbers(text) == values


@pytest.mark.parametrize(
    "heard, told",
    [
        ("i am twenty-five", "i am 25."),
        ("i'm 25", "i am twenty five."),
        ("four hundred hives", "i have 400 hives."),
        ("in 10th grade", "i am in tenth grade."),
        ("a couple of dogs", "i have two dogs."),
        ("my twins", "i am a mother of 2."),
        ("a son", "i have one son."),
    ],
)
def test_a_number_is_said_in_more_than_one_way(heard, told):
    assert without_unsaid(told, said_numbers(["hi there !", heard])) == told


@pytest.mark.parametrize(
    "told, stays",
    [
        ("i have four sons.", "i have sons."),
        ("i have a wife and 2 children.", "i have a wife and children."),
        ("my two dogs bark.", "my dogs bark."),
        ("i have over 400 hives.", ""),
        ("i am a mother of three.", ""),
        ("i am a widow of 46 years.", ""),
        ("i have two kids and am 67.", ""),
        ("i live in ohio .", "i live in ohio ."),
    ],
)
def test_a_number_that_nobody_said_goes_alone_or_with_its_sentence(told, stays):
    assert without_unsaid(told, said_numbers(["i have forty hives and sons"])) == stays
