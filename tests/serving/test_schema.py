"""Requests made up from the server's own description: none makes it fail, and answers are as described."""

from __future__ import annotations

from collections import Counter

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from tests.serving.live import backbone_of, fill_some, serving

from softprompt.serving import ServerSettings, add_key

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning"),
]

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
FEW = settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    folder = tmp_path_factory.mktemp("described")
    key = add_key(folder / "keys", "admin")
    (folder / "prompts").mkdir()
    limits = ServerSettings(admin_keys=str(folder / "keys"), max_new_tokens=4, max_texts=8)
    with serving(backbone_of("llama"), fill_some(folder / "prompts", backbone_of("llama")), limits) as live:
        schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json").exclude(method="PUT")  # tar files
        yield schema, {"Authorization": f"Bearer {key}"}


def test_what_is_described_is_what_is(described):
    schema, headers = described
    paths = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        paths.add(operation.path)

        @FEW
        @given(case=operation.as_strategy())
        def ask(case):
            response = case.call(headers=headers)
            case.validate_response(response, checks=CHECKS)

        ask()
    assert {"/v1/completions", "/v1/chat/completions", "/v1/classify", "/v1/score", "/admin/prompts/{name}"} <= paths


@pytest.mark.parametrize("path", ["completions", "chat/completions", "classify", "score"])
def test_requests_to_a_prompt_that_is_there(described, path):
    """Made-up names of prompts end most requests early; these go through."""
    schema, headers = described
    operation = schema[f"/v1/{path}"]["POST"]

    @settings(FEW, max_examples=25)
    @given(case=operation.as_strategy())
    def ask(case):
        if isinstance(case.body, dict):
            case.body["model"] = "rows"
        response = case.call(headers=headers)
        case.validate_response(response, checks=CHECKS)

    ask()


@pytest.mark.parametrize("path", ["completions", "chat/completions", "classify", "score"])
def test_malformed_requests_are_refused(described, path):
    """Bodies that the description does not allow: other types, missing and unknown fields, no JSON object at all."""
    schema, headers = described
    operation = schema[f"/v1/{path}"]["POST"]
    statuses = Counter()

    @settings(FEW, max_examples=40)
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def ask(case):
        response = case.call(headers=headers)
        statuses[response.status_code // 100] += 1
        # what is wrong by being too long may be too large as a whole, which the check takes for no refusal
        refusal = [] if response.status_code == 413 else [negative_data_rejection]
        case.validate_response(response, checks=[*CHECKS, *refusal])

    ask()
    assert set(statuses) == {4}
    assert statuses[4] >= 20


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model": NaN}', b"\xff\xfe", b'{"a":' * 5000])
@pytest.mark.parametrize("path", ["completions", "chat/completions", "classify", "score"])
def test_what_is_no_json_is_refused(described, path, body):
    schema, headers = described
    url = schema.location.replace("/openapi.json", f"/v1/{path}")
    answer = requests.post(url, data=body, headers={**headers, "Content-Type": "application/json"}, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
