import pytest

from ppg_jax.data.numbers import numbers, without_unsaid


@pytest.mark.parametrize(
    "text, values",
    [
        ("i have four sons and 12 hens.", {4, 12}),
        ("twenty five, 1,200 or the tenth", {25, 1200, 10}),
        ("thirty two thousand, 2 hundred", {32_000, 200}),
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
        ("200 books", "i have two hundred books."),
        ("i make 50k", "i make 50,000 a year."),
        ("i make 50,000", "i make 50k a year."),
        ("in 10th grade", "i am in tenth grade."),
        ("a couple of dogs", "i have two dogs."),
        ("my twins", "i am a mother of 2."),
        ("my triplets", "i am a mother of three."),
        ("a son", "i have one son."),
    ],
)
def test_a_number_is_said_in_more_than_one_way(heard, told):
    assert without_unsaid(told, ["hi there !", heard]) == told


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
        ("i have four hives.", "i have hives."),  # a part of forty
    ],
)
def test_a_number_that_nobody_said_goes_alone_or_with_its_sentence(told, stays):
    assert without_unsaid(told, ["i have forty hives and sons"]) == stays


@pytest.mark.parametrize(
    ("told", "heard", "stays"),
    [
        ("i have four boys.", ["i got 2 boys", "4 hens, a goose and a goat"], ""),
        ("i have 2 sons.", ["i got 2 boys", "4 hens, a goose"], "i have 2 sons."),
        ("i have two kids.", ["i have two little boys"], "i have two kids."),
        ("i have two girls.", ["2 boys and a girl"], ""),
        ("i have two girls.", ["two boys, a girl"], ""),
        ("i have 6 boys.", ["my girl is 6", "my boys row"], "i have boys."),
        ("i have two hens.", ["i have hens", "yes, two."], "i have two hens."),
        ("i have two hens.", ["hens. i have two of them"], "i have two hens."),
        ("i have two hens.", ["a couple of fat hens"], "i have two hens."),
        ("i have 5 kids.", ["i have 2 kids , 5 and 8"], ""),
        ("i have 2 children.", ["my twins row"], "i have 2 children."),
        ("i have 200 hens.", ["over two hundred hens"], "i have 200 hens."),
        ("i own 4 old boats.", ["4 boats and two hens"], "i own 4 old boats."),
        ("i own two boats.", ["4 boats and two hens"], ""),
        ("i row 5 miles.", ["5 or so, then home"], "i row 5 miles."),
        ("i have two sisters.", ["a twin sister and 2 brothers"], ""),
        ("i have two boys.", ["my twin boys row"], "i have two boys."),
    ],
)
def test_a_number_of_things_has_to_be_said_of_these(told, heard, stays):
    assert without_unsaid(told, heard) == stays


@pytest.mark.parametrize(
    ("told", "heard", "stays"),
    [
        ("i am 24 years old.", "i am 24 .", True),
        ("i am 24.", "hi ! i'm 24, you?", True),
        ("i am a twenty-five year old man.", "i turned 25 today", True),
        ("i am 24 years old.", "24 . and you ?", True),
        ("i am 24 years old.", "my 24 year old car", True),  # it may be
        ("i am eleven years old.", "i get up at eleven", False),
        ("i am an 11 year old girl.", "i was there 11 times", False),
        ("i am four.", "i have four cats", False),
        ("i am married with two kids.", "married, two kids", True),
        ("i am a nurse.", "a nurse", True),
        ("i am 45 years old.", "i'm already 45.", True),
        ("i am 30.", "i will be 30 next week", True),
        ("i am 24.", "x" * 200_000, False),  # in time
        ("i am 30.", "i am not 30 yet", False),
        ("i am 3 years old.", "3 kids and a dog", False),
        ("i am 10.", "i am 10 minutes away", False),
        ("i am 10 years old.", "i am in 10th grade", False),
        ("i am 3 years old.", "i have a 3 year old and a baby", False),
        ("i am 5.", "my 5 year old is in school", False),
        ("i am 30.", "i am a 30 year old and have a baby", True),
    ],
)
def test_an_age_has_to_be_said_as_one(told, heard, stays):
    assert without_unsaid(told, [heard]) == (told if stays else "")


@pytest.mark.parametrize(
    ("told", "heard", "stays"),
    [
        ("i am 34.", ["i am 34", "i just turned 35"], False),
        ("i am 35.", ["i am 34", "well , i just turned 35"], True),
        ("i am 34 years old.", ["i am 34", "i am now 35 , sorry"], False),
        ("i am 34.", ["i am 34", "i moved when i just turned 18"], True),
        ("i am 34.", ["i am 34", "i am 6 feet tall"], True),
        ("i am 34.", ["i am 34", "i am 20 minutes away"], True),
        ("i am 34.", ["i am 34", "i am 34"], True),
        ("i am 24.", ["i am 50", "my son is 24 years old"], True),  # told of him then
    ],
)
def test_the_last_age_is_the_age(told, heard, stays):
    assert without_unsaid(told, heard) == (told if stays else "")
