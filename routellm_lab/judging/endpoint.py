"""A model behind OpenAI's chat protocol, hosted or local: where it is, what it costs and how it is asked."""

import re
from dataclasses import dataclass
from math import isfinite
from typing import TypeGuard
from urllib.parse import urlsplit

from routellm_lab.columns import whole_text
from routellm_lab.errors import ParameterError, RoutellmLabError

OPENAI_URL = "https://api.openai.com/v1"
LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
OVERHEAD_TOKENS = 16
"""What the frame of a message may take beside its text, and the reply's opening once more."""

Messages = list[dict[str, str]]


class EndpointError(RoutellmLabError, RuntimeError):
    """An endpoint that refuses a call, or fails as often as it is asked."""


class BudgetError(ParameterError):
    """The next call could cost more than what is left of ``budget_usd``."""


@dataclass(frozen=True)
class Endpoint:
    """A model behind OpenAI's chat protocol.

    Parameters
    ----------
    model : str
        Its name at the endpoint.
    prices : (float, float)
        USD per million input and output tokens; ``(0, 0)`` for a model of your own.
    base_url : str, optional
        Where it is served (``http://localhost:8000/v1``); OpenAI by default, whatever ``OPENAI_BASE_URL`` says. Of
        Azure it ends in ``?api-version=2024-10-21``; then the key goes into the header ``api-key``, as Azure asks.
    key_env : str, optional
        Name of the environment variable that holds the key, never the key. By default OPENAI_API_KEY at OpenAI and no
        key anywhere else: another host gets one only by name.
    max_tokens : int
        Most tokens of a reply, with those of its reasoning.
    temperature : float or None
        None leaves it to the endpoint; some models take no other.
    concurrency : int
        Most calls in flight.
    timeout, backoff : float
        Seconds: for a whole reply, of which at most half for the connection, and before the first retry (doubled for
        each further one, with jitter).
    max_retries : int
        Further attempts after a rate limit, a failure of the server or the connection, or a time-out; after a reply
        that is no chat completion at most 2.
    limit_name : {"max_tokens", "max_completion_tokens"}, optional
        What the server calls the limit of a reply. By default the latter at OpenAI and the former anywhere else, and
        the other one as soon as the server refuses it.

    Raises
    ------
    ParameterError
        Names the parameter.
    """

    model: str
    prices: tuple[float, float]
    base_url: str | None = None
    key_env: str | None = None
    max_tokens: int = 1024
    temperature: float | None = 0.0
    concurrency: int = 8
    timeout: float = 60.0
    max_retries: int = 6
    backoff: float = 1.0
    limit_name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise ParameterError(f"Endpoint: model must be a name, got {self.model!r}")
        if not isinstance(self.prices, (tuple, list)) or len(self.prices) != 2 or not all(map(is_amount, self.prices)):
            raise ParameterError(
                f"Endpoint: prices are USD per million input and output tokens, two numbers from 0, got {self.prices!r}"
            )
        object.__setattr__(self, "prices", tuple(map(float, self.prices)))
        name = self.key_env
        if name is not None and not (isinstance(name, str) and re.fullmatch(r"[A-Z_][A-Z0-9_]*", name)):
            raise ParameterError(
                "Endpoint: key_env is the name of an environment variable (capitals, digits and _), not the key itself"
            )
        if self.base_url is not None:
            _check_url(self.base_url)
        if self.limit_name is not None and self.limit_name not in LIMIT_NAMES:
            raise ParameterError(f"Endpoint: limit_name must be {' or '.join(LIMIT_NAMES)}, got {self.limit_name!r}")
        for name, least in (("max_tokens", 1), ("concurrency", 1), ("max_retries", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ParameterError(f"Endpoint: {name} must be a whole number from {least}, got {value!r}")
        for name in ("timeout", "backoff", "temperature"):
            value = getattr(self, name)
            if not (is_amount(value) or (name == "temperature" and value is None)) or (name == "timeout" and not value):
                raise ParameterError(f"Endpoint: {name} must be a number from 0 (timeout: above 0), got {value!r}")

    @property
    def at_openai(self) -> bool:
        """Whether OpenAI's own host is asked."""
        return self.base_url is None or urlsplit(self.base_url).hostname == urlsplit(OPENAI_URL).hostname

    def usd(self, input_tokens: float, output_tokens: float) -> float:
        """Price of a number of tokens."""
        return (input_tokens * self.prices[0] + output_tokens * self.prices[1]) / 1e6

    def usd_at_most(self, messages: Messages) -> float:
        """Upper bound of one attempt: a token of text is at least one byte, a reply at most ``max_tokens``."""
        return self.usd(self.tokens_at_most(messages), self.max_tokens)

    def tokens_at_most(self, messages: Messages) -> int:
        """Upper bound of the tokens that are sent."""
        size = sum(len(whole_text(message["content"]).encode()) for message in messages)
        return size + OVERHEAD_TOKENS * (len(messages) + 1)


def is_amount(value: object) -> TypeGuard[float]:
    """Whether a value is a number from 0 that a float can hold."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return isfinite(value) and value >= 0
    except OverflowError:  # a whole number of more than 308 digits
        return False


def _check_url(url: object) -> None:  # its text may hold a key: no message shows it
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ParameterError("Endpoint: base_url must look like https://host/v1")
    version = re.fullmatch(r"api-version=(\d{4}-\d{2}-\d{2}(-preview)?|preview|latest|v\d)", parts.query)
    if parts.username is not None or parts.password is not None or (parts.query and not version) or parts.fragment:
        raise ParameterError(
            "Endpoint: base_url holds user info, a query string other than Azure's api-version=YYYY-MM-DD or a "
            "fragment, where keys leak into logs and errors; name the variable that holds the key with key_env"
        )


def check_budget(budget_usd: object) -> float:
    """The budget, if it is a finite amount of USD."""
    if not is_amount(budget_usd):
        raise ParameterError(f"budget_usd must be a finite number of USD from 0, got {budget_usd!r}")
    return float(budget_usd)
