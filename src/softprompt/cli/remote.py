"""Answers of a server, for `softprompt predict --server`."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPException, IncompleteRead
from typing import Any, final

from softprompt.cli.inputs import Input
from softprompt.errors import ConfigError, DataError, ServerError
from softprompt.inference.batching import Progress

__all__ = ["Remote"]

_THREADS = 16
"""Requests on their way at once: enough for the server to make batches of."""
_RETRIES, _RETRY_S, _TIMEOUT_S = 60, 1.0, 600.0
_BREAKS = 5
"""How often a request is sent that breaks off: answers change nothing at the server, so it may be sent again."""
_LATER = (429, 503)
_UNUSABLE = "prompt_unusable"
"""Is 503, too, but does not pass by itself."""
_OF_THE_INPUT = ("context_length_exceeded", "invalid_input")


@final
class Remote:
    """A softprompt server.

    Args:
        address: Where it is, e.g. `http://127.0.0.1:8000`.
        key: What it lets requests in by; None for a server that asks for none.

    Raises:
        ConfigError: If the address is none.
    """

    def __init__(self, address: str, key: str | None = None) -> None:
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise ConfigError(f"{address!r} is no server's address; give one such as http://127.0.0.1:8000.")
        self._address = address.rstrip("/")
        self._key = key

    def model(self, name: str) -> dict[str, Any]:
        """What the server knows of a prompt, an ensemble or its backbone.

        Raises:
            ConfigError: If it has none of that name, or does not let us in.
            ServerError: If it cannot be reached, or fails.
        """
        return self._call(f"/v1/models/{urllib.parse.quote(name, safe='')}")

    def answer_all(
        self,
        inputs: Iterable[Input],
        question: Mapping[str, Any],
        *,
        version: str | None,
        labels: tuple[str, ...],
        skip: bool,
        progress: Progress,
    ) -> Iterator[dict[str, Any]]:
        """Answer inputs in their order, as `softprompt predict` does by itself.

        Args:
            inputs: Read as they are needed.
            question: Fields of the request, the same for all inputs.
            version: Of the prompt that is to answer; None for the backbone alone.
            labels: What to choose from; text is generated where there are none.
            skip: Whether an input that cannot be answered is written down with its `error`; otherwise it ends all.
            progress: Called with the number of inputs that are done.

        Raises:
            DataError: At an input that cannot be answered, with its place.
            ConfigError: If the server refuses the request.
            ServerError: If it cannot be reached, fails, or has another prompt of that name by now.
        """
        waiting: deque[tuple[Input, Future[dict[str, Any]]]] = deque()
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                for one in inputs:
                    waiting.append((one, pool.submit(self._answer, one, question, version, labels)))
                    if len(waiting) >= 4 * _THREADS:
                        yield _finished(*waiting.popleft(), skip=skip)
                        progress(1)
                while waiting:
                    yield _finished(*waiting.popleft(), skip=skip)
                    progress(1)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _answer(
        self, one: Input, question: Mapping[str, Any], version: str | None, labels: tuple[str, ...]
    ) -> dict[str, Any]:
        if one.problem is not None:
            raise DataError(one.problem)
        if not labels:
            said = self._call("/v1/completions", {**question, "prompt": one.value})
            _check_version(said["system_fingerprint"], version)
            return {"output": said["choices"][0]["text"]}
        ranked = self._call("/v1/classify", {**question, "input": one.value, "labels": list(labels)})
        _check_version(ranked["version"], version)
        found = ranked["data"][0]
        shares = {share["label"]: share["probability"] for share in found["probabilities"]}
        return {"output": found["label"], "probabilities": shares}

    def _call(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request; asked again where the server says so, or where it broke off."""
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        for trial in range(_RETRIES):
            request = urllib.request.Request(self._address + path, data, headers)
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                    found: dict[str, Any] = json.load(response)
                    return found
            except urllib.error.HTTPError as error:
                with error:
                    message, code = _told(error)
                if trial + 1 >= _most_trials(error.code, code):
                    raise _refusal(error.code, message, code) from None
            except (OSError, ValueError, HTTPException) as error:
                if _broke_off(error):
                    if trial + 1 < _BREAKS:
                        time.sleep(_RETRY_S)
                        continue
                    raise ServerError(f"{self._address} hangs up ({error}); see its log.") from None
                raise ServerError(f"No answer from {self._address}: {error}; see whether the server runs.") from None
            time.sleep(_RETRY_S)
        raise AssertionError("unreachable")


def _finished(one: Input, answer: Future[dict[str, Any]], *, skip: bool) -> dict[str, Any]:
    try:
        return {"input": one.value, **answer.result()}
    except DataError as error:
        if skip:
            return {"input": one.value, "output": None, "error": str(error)}
        remedy = "To write bad inputs down with their error and go on, give --on-bad-row=skip."
        raise DataError(f"{one.source}: {str(error).rstrip('.')}. {remedy}") from None


def _check_version(answered: str | None, version: str | None) -> None:
    if answered != version:
        raise ServerError(
            "The prompt was replaced on the server on the way, and answers of two prompts do not go into one file; what"
            " is written is of the former one. Start anew with another output."
        )


def _told(error: urllib.error.HTTPError) -> tuple[str, str | None]:
    """What the server says against a request, and its word for that."""
    try:
        told = json.load(error)["error"]
        return str(told["message"]), told["code"]
    except (OSError, ValueError, HTTPException, KeyError, TypeError):
        return f"{error.code} {error.reason}", None


def _broke_off(error: Exception) -> bool:
    """Whether there was a connection, which ended before the answer did."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(reason, ConnectionError | IncompleteRead) and not isinstance(reason, ConnectionRefusedError)


def _most_trials(status: int, code: str | None) -> int:
    """How often a request is sent that ends so. Without a code it was no server of ours, but one in front of it."""
    if status in _LATER and code != _UNUSABLE:
        return _RETRIES
    return _BREAKS if status >= 500 and code is None else 1


def _refusal(status: int, message: str, code: str | None) -> Exception:
    if code in _OF_THE_INPUT:
        return DataError(message)
    if status in _LATER or status >= 500:
        return ServerError(f"The server says: {message}")
    return ConfigError(f"The server says: {message}")
