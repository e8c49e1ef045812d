"""Names of routers as a reader sees them, in tables, figures and sentences."""

_NAMES = {"bert": "BERT", "causal_llm": "causal LLM"}


def router_label(name: object) -> str:
    """A router's name, or another one of a table, in words.

    Parameters
    ----------
    name : object
        Such as the ``name`` of a `Router`.

    Examples
    --------
    >>> router_label("causal_llm"), router_label("matrix_factorization")
    ('causal LLM', 'matrix factorization')
    """
    return _NAMES.get(str(name), str(name).replace("_", " "))
