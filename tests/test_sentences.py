"""Words in the sentences of conclusions."""

from routellm_lab.studies import joined


def test_words_are_joined_as_in_a_sentence():
    assert [joined(parts) for parts in ([], ["a"], "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert joined(["a", "b", "c"], "or") == "a, b or c"
