"""One attempt at a call: the client of an endpoint, what goes out and comes back, and what its failures mean.

Keys are read from the environment, sent in the header of a call and kept out of everything else: files, messages, logs
and the exceptions of the client. Redirects are not followed, as a key must not reach another host.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from math import isfinite
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl

from routellm_lab.columns import whole_text
from routellm_lab.errors import MissingExtraError, ParameterError
from routellm_lab.judging.endpoint import LIMIT_NAMES, OPENAI_URL, Endpoint, Messages
from routellm_lab.judging.replies import Failure, Reply, failure_of, read_reply, shown
from routellm_lab.settings import secret

LONGEST_WAIT = 120.0
"""Seconds; an endpoint that asks for a longer wait ends the run, which goes on later."""
LARGEST_REPLY = 2**26
"""Bytes; more is no reply of a chat model."""
_NO_KEY = "none"
"""What the client sends where there is no key, as it asks for one."""
_HEADERS = "host accept accept-encoding connection content-length content-type transfer-encoding user-agent".split()
"""What hosts other than OpenAI get beside the key: the client adds what the variables OPENAI_... say."""
_UNSENT = ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol", "LocalProtocolError", "InvalidURL")
"""Exceptions of the client after which the server cannot have seen the call."""


class Chat:
    """The client of an endpoint. Attempts return their failures: no exception of the client leaves this class.

    Attempts may be made by several threads. The client itself works in an event loop of its own, where a whole exchange
    can be given up at its deadline, however slowly bytes come.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        openai = require_client()
        name = endpoint.key_env or ("OPENAI_API_KEY" if endpoint.at_openai else None)
        self._endpoint, self._key = endpoint, secret(name) if name else _NO_KEY
        self._limit = (
            endpoint.limit_name or LIMIT_NAMES[endpoint.at_openai]
        )  # OpenAI's newer models know the second only
        url, _, query = (endpoint.base_url or OPENAI_URL).partition("?")
        timeout = openai.Timeout(endpoint.timeout, connect=endpoint.timeout / 2)
        try:
            self._client = openai.AsyncOpenAI(
                api_key=self._key,
                base_url=url,
                default_query=dict(parse_qsl(query)),
                timeout=timeout,
                max_retries=0,  # the budget must know of every attempt
                http_client=openai.DefaultAsyncHttpxClient(
                    timeout=timeout, follow_redirects=False, event_hooks={"request": [self._set_headers]}
                ),
            )
        except Exception as error:
            problem = f"{type(error).__name__}: {self._clean(str(error))}"
        else:
            return
        raise ParameterError(f"Endpoint: no client for base_url and the environment's proxies can be made: {problem}")

    def __enter__(self) -> "Chat":
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for closing in (self._client.close(), self._loop.shutdown_asyncgens()):
            asyncio.run_coroutine_threadsafe(closing, self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def attempt(self, messages: Messages) -> Reply | Failure:
        """Ask once; once more where the server calls the limit of a reply by its other name."""
        try:
            limit = self._limit
            result = self._ask(messages, limit)
            other = LIMIT_NAMES[limit == LIMIT_NAMES[0]]
            refused = isinstance(result, Failure) and result.refused and _refuses_name(result.why, limit, other)
            if refused and self._endpoint.limit_name is None:
                result = self._ask(messages, other)
                if isinstance(result, Reply):
                    self._limit = other
            return result
        except Exception as error:  # a reply that nobody thought of must not lose those in flight beside it
            return Failure(f"{type(error).__name__}: {shown(self._clean(str(error)))}", again=False, billed=True)

    def _ask(self, messages: Messages, limit: str) -> Reply | Failure:
        options: dict[str, Any] = {"model": self._endpoint.model, limit: self._endpoint.max_tokens}
        if self._endpoint.temperature is not None:
            options["temperature"] = self._endpoint.temperature
        options["messages"] = [{**message, "content": whole_text(message["content"])} for message in messages]
        content = asyncio.run_coroutine_threadsafe(self._exchange(options), self._loop).result()
        if isinstance(content, Failure):
            return content
        return read_reply(content, self._endpoint, messages, self._clean)

    async def _exchange(self, options: dict[str, Any]) -> bytes | Failure:
        create, answered = self._client.chat.completions.with_streaming_response.create, False
        try:
            async with asyncio.timeout(self._endpoint.timeout), create(**options) as response:
                answered = True
                content = bytearray()
                async for part in response.iter_bytes():
                    content += part
                    if len(content) > LARGEST_REPLY:
                        return Failure(f"a reply of more than {LARGEST_REPLY:,} bytes", True, billed=True, odd=True)
                return bytes(content)
        except TimeoutError:
            return Failure(f"no reply in {self._endpoint.timeout:g} s", again=True, billed=True)
        except Exception as error:
            return self._failure(error, answered)

    async def _set_headers(self, request: Any) -> None:
        headers, azure = request.headers, "api-version" in request.url.params
        if not self._endpoint.at_openai:
            for name in set(headers) - set(_HEADERS):
                if not name.startswith("x-stainless-"):  # by these the client knows how to read the reply
                    del headers[name]
        headers.pop("Authorization", None)  # the variable OPENAI_CUSTOM_HEADERS may have set another
        headers["api-key" if azure else "Authorization"] = self._key if azure else f"Bearer {self._key}"

    def _failure(self, error: Exception, answered: bool) -> Failure:
        openai = require_client()
        if isinstance(error, openai.APIStatusError):
            status, headers = error.status_code, error.response.headers
            passes = error.code != "insufficient_quota"  # that is a 429 which stays
            why, wait = f"status {status}: {shown(self._clean(error.message))}", asked_wait(headers)
            if 300 <= status < 400:
                why = f"status {status}: it redirects, which is not followed; base_url must name the place itself"
            if passes and wait and wait > LONGEST_WAIT:
                why, passes = f"{why}; it asks for a wait of {wait:.0f} s, more than {LONGEST_WAIT:.0f} s", False
            failure = failure_of(status, why, passes)
            return Failure(why, failure.again, failure.billed, failure.refused, wait=wait)
        if answered:
            return Failure("a connection that broke, or content that cannot be decoded", again=True, billed=True)
        if isinstance(error, openai.APIConnectionError):
            billed = type(error.__cause__).__name__ not in _UNSENT
            late = billed and isinstance(error, openai.APITimeoutError)
            why = f"no reply in {self._endpoint.timeout:g} s" if late else "no connection, or one that broke"
            return Failure(why, again=True, billed=billed)
        return Failure(f"{type(error).__name__}: {shown(self._clean(str(error)))}", again=False)

    def _clean(self, text: object) -> str:
        text = whole_text(str(text))
        # what is shorter than any key ("none", for a local server) would take words out of replies
        return text.replace(self._key, "<key>") if len(self._key) >= 8 else text


def _refuses_name(why: str, limit: str, other: str) -> bool:
    """Whether a server refuses the name of the limit, not its value: a name that it ignores would lift the limit."""
    named = re.search(rf"\b{limit}\b", why) is not None
    unknown = re.search("unsupported|not supported|unrecognized|unknown|not permitted|unexpected|extra", why, re.I)
    return named and (re.search(rf"\b{other}\b", why) is not None or unknown is not None)


def require_client() -> Any:
    """The client of the protocol, of the extra ``judge``.

    Raises
    ------
    MissingExtraError
    """
    try:
        import filelock  # noqa: F401  # of the same extra: its lack is reported before anything is paid
        import openai
    except ImportError as error:
        raise MissingExtraError("the LLM judge needs: pip install 'routellm-lab[judge]'") from error
    return openai


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as a date."""
    from email.utils import parsedate_to_datetime

    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        return max(seconds, 0.0) if isfinite(seconds) else None
    try:
        return max(parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time(), 0.0)
    except (KeyError, ValueError, OverflowError):
        return None
