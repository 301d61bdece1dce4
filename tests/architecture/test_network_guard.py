"""The guard in conftest.py keeps every test on this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[1] / "conftest.py"
ELSEWHERE = "192.0.2.1"  # reserved for documentation (RFC 5737): nobody answers there


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(lambda: socket.create_connection((ELSEWHERE, 80), timeout=1), id="connect"),
        pytest.param(lambda: socket.getaddrinfo("example.org", 443), id="look up"),
        pytest.param(lambda: socket.gethostbyname("example.org"), id="look up by the old name"),
    ],
)
def test_another_machine_is_refused(attempt, outside_connections):
    with pytest.raises(RuntimeError, match="Tests reach no network"):
        attempt()
    assert len(outside_connections) == 1
    outside_connections.clear()


def test_this_machine_is_allowed(outside_connections):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        assert outside_connections == []


def test_a_caught_error_fails_the_test_all_the_same(pytester):
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    pytester.makepyfile(
        f"""
        import socket

        def test_that_hides_it():
            try:
                socket.create_connection(("{ELSEWHERE}", 80), timeout=1)
            except Exception:
                pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-o", f"pythonpath={CONFTEST.parents[1]}")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"*these were tried: *{ELSEWHERE}*"])


def test_hugging_face_libraries_are_offline_and_use_no_cache_of_the_user():
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["HF_DATASETS_OFFLINE"] == "1"
    assert Path.home() not in Path(os.environ["HF_HOME"]).parents
