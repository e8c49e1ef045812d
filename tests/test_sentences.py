"""Words in the sentences of conclusions."""

from routellm_lab.evaluation.verdict import Estimate
from routellm_lab.studies import difference_words, gamma_sentence, joined


def test_words_are_joined_as_in_a_sentence():
    assert [joined(parts) for parts in ([], ["a"], "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert joined(["a", "b", "c"], "or") == "a, b or c"


def test_a_difference_has_its_sign_and_no_signed_zero():
    assert difference_words(Estimate(-0.0001, -0.0204, 0.0004), 0.0004) == "0.000 [-0.020, 0.000], p < 0.001"
    assert difference_words(Estimate(0.2, 0.1, 0.3), 0.04) == "+0.200 [+0.100, +0.300], p = 0.040"


def test_gamma_1_is_not_compared_with_itself():
    assert gamma_sentence({1.0: 0.6, 10.0: 0.5}).startswith("Of 2 values of gamma, 10 predicts held-out votes best")
    assert gamma_sentence({1.0: 0.5, 10.0: 0.6}).startswith("No gamma above 1 predicts held-out votes better")
