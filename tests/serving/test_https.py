"""A server with a certificate of its own, asked by OpenAI's client."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import threading

import openai
import pytest
from tests.models import tiny_backbone
from tests.serving.live import fill_some

from softprompt.inference import Engine
from softprompt.serving import ServerSettings, add_key, serve

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="the certificate is made by openssl, which is not here")


def certificate(tmp_path):
    files = {"tls_certificate": str(tmp_path / "certificate.pem"), "tls_key": str(tmp_path / "key.pem")}
    subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", files["tls_key"], "-out", files["tls_certificate"], "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return files


def test_openais_client_over_https(tmp_path):
    key = add_key(tmp_path / "keys", "alice")
    settings = ServerSettings(port=0, keys=str(tmp_path / "keys"), **certificate(tmp_path))
    folder = tmp_path / "prompts"
    folder.mkdir()
    found = {}

    def ask(address):
        try:
            trusting = ssl.create_default_context(cafile=settings.tls_certificate)
            for name, context in {"trusting": trusting, "strange": ssl.create_default_context()}.items():
                http = openai.DefaultHttpxClient(verify=context)
                with openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, http_client=http) as client:
                    try:
                        answer = client.completions.create(model="rows", prompt="good film", max_tokens=3)
                        stream = client.completions.create(model="rows", prompt="good film", max_tokens=3, stream=True)
                        found[name] = answer.choices[0].text, "".join(part.choices[0].text for part in stream)
                    except openai.APIConnectionError:
                        found[name] = None
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    threads = []

    def started(address):
        assert address.startswith("https://127.0.0.1:")
        threads.append(threading.Thread(target=ask, args=(address,)))
        threads[0].start()

    engine = Engine(tiny_backbone("decoder-only"), fill_some(folder, tiny_backbone("decoder-only")))
    assert serve(engine, settings, started=started)
    threads[0].join()
    whole, streamed = found["trusting"]
    assert whole == streamed
    assert whole
    assert found["strange"] is None  # who does not know the certificate does not trust it
