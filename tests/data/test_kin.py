import time

import pytest

from ppg_jax.data.kin import as_said_of


@pytest.mark.parametrize(
    ("sentence", "heard", "told"),
    [
        ("i am a soldier.", "my dad is a soldier", "my dad is a soldier."),
        ("i am a soldier.", "my dad is one. i am a soldier too", "i am a soldier."),
        ("i love to bake.", "my wife loves to bake", "my wife loves to bake."),
        ("i bake.", "my wife is fun. she bakes a lot", "my wife bakes."),
        ("i bake.", "my wife is fun , and he bakes a lot", "i bake."),  # who is he?
        ("i study law.", "my older sister studies law", "my sister studies law."),
        (
            "i go to school.",
            "i have a son who goes to school",
            "my son goes to school.",
        ),
        ("i played golf.", "my best friend played golf", "my friend played golf."),
        ("i bake.", "my dad is fun. he bakes a lot", "my dad bakes."),
        ("i sing.", "my wife is fun. i hope she sings", "my wife sings."),
        ("i sing.", "my wife is fun. she thinks i sing", "i sing."),
        ("i teach.", "my mom is a teacher", "my mom teaches."),
        ("i am fun.", "my job with kids is fun", "i am fun."),
        ("i swim.", "my old red dog swims", "my dog swims."),
        ("i swim.", "my two lovely old dogs swim", "my dogs swim."),
        ("i swim.", "my day at the lake , a dog swims", "i swim."),
        ("i sing.", "my husband and i sing", "i sing."),
        ("i sing.", "my son is four , i sing", "i sing."),
        ("i swim.", "my dog loves me. i swim", "i swim."),
        ("i farm.", "my parents are farmers", "my parents farm."),
        ("i run a farm.", "my parents run a farm", "my parents run a farm."),
        ("i am happy.", "my kids are happy", "my kids are happy."),
        ("i am a farmer.", "my brothers farm", ""),
        ("i run a farm.", "my kids and i run a farm", "i run a farm."),
        ("i have a farm.", "my uncle has a farm", "my uncle has a farm."),
        ("my dad farms.", "my mom farms", "my dad farms."),
        ("my dad farms.", "my mom farms , my dad sails", ""),
        ("my mom farms.", "my mom farms , my dad sails", "my mom farms."),
        ("my dad sails.", "i sail just as my dad did", "my dad sails."),
        ("my mom sails.", "i sail with my mom. my mom sings", "my mom sails."),
        ("my mom loves tea.", "my mom loves jam. i love tea", ""),
        ("my mom loves tea.", "my mom loves tea. i love jam", "my mom loves tea."),
        ("we farm.", "my mom farms", "we farm."),
        ("i", "my mom farms", ""),
        ("i sing.", "i sing. my mom sings", "i sing."),
        ("i hate school.", "i do not like school. my school", "i hate school."),
        ("i went to yale.", "my dad is smart. he went to yale", "my dad went to yale."),
        ("i can cook.", "my uncle can cook", "my uncle can cook."),
        ("i often cook.", "my uncle often cooks", "my uncle often cooks."),
        ("i love my garden.", "my mum loves her garden", "my mum loves her garden."),
        ("i love my job.", "my kids love their job", "my kids love their job."),
        ("i drum.", "my friends brother drums", "my friends brother drums."),
        ("my brother drums.", "my friends brother drums", "my friends brother drums."),
        ("my brother drums.", "my brother drums", "my brother drums."),
        ("my kids swim.", "none of my kids swim", ""),
        ("my kids swim.", "i swim and my kids swim", "my kids swim."),
        ("my parents drink.", "neither of my parents drinks", ""),
        ("i am late.", "my husbands late again", "my husband is late."),
        ("i have a red car.", "my moms car is red", "my mom has a red car."),
        (
            "i am a pilot.",
            "my husbands brother is a pilot",
            "my husbands brother is a pilot.",
        ),
        ("i am a pilot.", "i do not think my dad is a pilot", ""),
        ("my dad is a pilot.", "i wish my dad was a pilot", ""),
        (
            "my dad is a pilot.",
            "i do not fly but my dad is a pilot",
            "my dad is a pilot.",
        ),
        ("i row.", "i have a boyfriend , he rows", "my boyfriend rows."),
        ("i row.", "i got two girls , they row", "my girls row."),
        ("i row.", "i have a friend who rows", "my friend rows."),
        ("i row.", "i live with a friend who rows", "my friend rows."),
        ("i row.", "do you have a friend ? he rows", "i row."),
        ("i row.", "i have kids and row", "i row."),
        ("i row.", "i have kids at home. i row", "i row."),
        ("i row.", "my sister has a son who rows", "my sisters son rows."),
        ("i row.", "my brother bill rows", "my brother rows."),
        ("i row.", "my bf rows", "my bf rows."),
        ("i row.", "our oldest rows", "my oldest rows."),
        ("i row.", "a good friend of mine rows", "my friend rows."),
        ("i row.", "my boys row", "my boys row."),
        ("i row.", "and dad rows", "my dad rows."),
        ("i am a baker.", "my dad , a baker , snores", "my dad is a baker."),
        ("i am a baker.", "i met my dad , a baker , and a cook", "i am a baker."),
        ("i row.", "my brother in law rows", "my brother in law rows."),
        ("my sister in law rows.", "my sister in law rows", "my sister in law rows."),
        ("i row.", "my stepdad is old. he rows", "my stepdad rows."),
        ("i row.", "my boss is fun , she rows", "my boss rows."),
        ("i row.", "my mom is old. my boss is fun. she rows", "my boss rows."),
        ("i row.", "my mom is old. my plumber is fun. she rows", "my plumber rows."),
        ("i row.", "my parents are old. they row", "my parents row."),
        ("i row.", "they row", "i row."),
        ("i row.", "i work with kids , they row", "i row."),
        ("i have a collie.", "my dog is old. he is a collie", "i have a collie."),
        ("i have a collie.", "my dog is a collie", "i have a collie."),
        ("i have two dogs.", "my mom has two dogs", "my mom has two dogs."),
        ("i have a dog.", "my mom has a dog. i have goats", "my mom has a dog."),
        ("i have a dog.", "my mom loves our dog", "i have a dog."),
        ("i love dogs.", "my mom loves dogs", "my mom loves dogs."),
        ("i am married.", "my son is married", "my son is married."),
        ("i have a daughter.", "my son has a daughter", "my son has a daughter."),
        ("i have a son.", "my son has a daughter", "i have a son."),
        ("i have kids.", "my wife and i have kids", "i have kids."),
        ("i have a brother who sails.", "my brother sails", None),
        ("i have a dog named otto.", "my dog otto sleeps", None),
        ("i am a teacher.", "my mom is a teacher", "my mom is a teacher."),
        ("i am a teacher.", "i am a teacher", "i am a teacher."),
        (
            "i am married to a doctor.",
            "my husband is a doctor",
            "i am married to a doctor.",
        ),
    ],
)
def test_a_trait_is_told_of_whom_it_was_said_of(sentence, heard, told):
    told = sentence if told is None else told
    assert as_said_of(sentence, ["hm.", heard], 0.5) == told
    assert as_said_of(sentence, ["hm.", *heard.split(". ")], 0.5) == told


def test_of_several_the_last_one_and_nobody_of_whom_only_a_part_was_said():
    heard = ["my mom is a nurse.", "my dad is a nurse."]
    assert as_said_of("i am a nurse.", heard, 0.5) == "my dad is a nurse."
    heard = ["i sing.", "my dad is a nurse in paris"]
    assert as_said_of("i am a singing nurse in rome.", heard, 2 / 3) == ""


def test_what_was_said_by_then_has_not_to_be_denied_until_now():
    heard = ["i swim a lot.", "my dad swims.", "i do not swim anymore."]
    assert as_said_of("i swim.", heard[:2], 0.5, 1) == "i swim."
    assert as_said_of("i swim.", heard, 0.5, 1) == ""  # nobody else by then
    assert as_said_of("i swim.", heard, 0.5, 2) == "my dad swims."


def test_who_speaks_of_family_all_the_time_is_answered_in_time():
    started = time.process_time()
    as_said_of("i am a pilot.", ["my dad " * 20_000], 0.5)
    assert time.process_time() - started < 5
