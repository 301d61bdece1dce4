"""`softprompt serve`: one backbone and all its prompts over HTTP."""

from __future__ import annotations

import sys
from typing import Literal

__all__ = ["new_key", "run_server"]

_FIRST_S = 60.0
"""Within which a vLLM server has to have answered a first request."""

_DEVICE, _BATCH_ROWS, _BATCH_TOKENS, _MAX_CONNECTIONS = "auto", 64, 16384, 512


def run_server(
    *,
    backbone: str,
    prompts: str | None = None,
    vllm: str | None = None,
    vllm_model: str | None = None,
    ray: str | None = None,
    replicas: int = 1,
    most_replicas: int | None = None,
    target_ongoing: float | None = None,
    replica_cpus: float = 1.0,
    replica_gpus: float = 0.0,
    fronts: int = 1,
    hub: list[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: str | None = None,
    admin_keys: str | None = None,
    watch_s: float | None = None,
    dtype: str = "auto",
    quantize: Literal["int8", "nf4"] | None = None,
    device: str = _DEVICE,
    device_map: str | dict[str, str | int] | None = None,
    classes: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    batch_rows: int = _BATCH_ROWS,
    batch_tokens: int = _BATCH_TOKENS,
    queue_requests: int = 1024,
    queue_tokens: int = 2**20,
    cache_bytes: int = 2**30,
    max_new_tokens: int = 1024,
    max_texts: int = 128,
    max_body_bytes: int = 2**20,
    max_prompt_bytes: int = 2**26,
    max_connections: int = _MAX_CONNECTIONS,
    body_timeout_s: float = 20.0,
    request_timeout_s: float = 120.0,
    shutdown_timeout_s: float = 30.0,
    log_inputs: bool = False,
    tls_certificate: str | None = None,
    tls_key: str | None = None,
) -> None:
    """Serve a backbone with a folder of prompts and ensembles, in OpenAI's conventions, and a page at /.

    Each prompt is a model by the name of its folder; the backbone's own name is the bare model. Prompts are read when
    they are first asked for. The log goes to standard error, a JSON object a line. SIGTERM and Ctrl-C finish what was
    taken.

    Args:
        backbone: Hub id, folder, or bundled:NAME.
        prompts: The folder that holds the folders of prompts and ensembles; the bare backbone alone without one.
        vllm: Address of a vLLM server that has this backbone and was started with --enable-prompt-embeds: it computes
            all answers, and only the embedding table is kept here. Its key, if it asks for one, is read from
            SOFTPROMPT_VLLM_KEY. For decoder-only backbones and prompts of rows.
        vllm_model: What that server calls the backbone; the first model that it lists, if not said.
        ray: Serve replicas of all this by Ray Serve: the address of a Ray (auto, HOST:PORT), or local, which starts one
            of this machine that ends with the command.
        replicas: How many, each with its own copy of the backbone; with most_replicas, at least so many.
        most_replicas: At most so many, started and stopped by how many requests are on their way.
        target_ongoing: Requests on their way to each replica that are aimed at then; 32 if not said.
        replica_cpus: Processors, and threads, of each.
        replica_gpus: GPUs of each; without one it computes on a CPU, if device says nothing else.
        fronts: Processes before the replicas, which hand out requests and ask again where a replica dies.
        hub: With ray, prompts on the hub instead of a folder: user/name or user/name@revision, fetched by each replica.
        host: Address to listen on; beyond this machine only with keys.
        port: Port to listen on; 0 takes a free one.
        keys: File of hashed keys that let requests in, written by softprompt keys new.
        admin_keys: File of hashed keys that may change prompts.
        watch_s: Look every so many seconds whether prompts have changed on disk; with ray every 5, if not said.
        dtype: The backbone's dtype: auto, float32, bfloat16, float16.
        quantize: Keep the frozen weights of linear layers in fewer bits: int8 or nf4 (needs torchao).
        device: auto, cpu, cuda, mps; with vllm it is the processor.
        device_map: Spread the backbone over the devices of the server, or of each replica, as transformers does:
            auto, or a mapping.
        classes: Give an encoder without classification head a new one of so many classes, for prompts with heads.
        revision: The backbone's branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the backbone may run.
        batch_rows: Most texts that are generated at once; with vllm its --max-num-seqs says that.
        batch_tokens: Most tokens per batch, padding included; with vllm its --max-num-batched-tokens.
        queue_requests: Most requests that wait, or are on their way to vLLM; more are told to come later.
        queue_tokens: Most tokens that wait, or are on their way to vLLM.
        cache_bytes: Most bytes of prompts in memory.
        max_new_tokens: Longest answer that may be asked for.
        max_texts: Most texts that a request may ask for.
        max_body_bytes: Largest body of a request.
        max_prompt_bytes: Largest prompt that may be uploaded.
        max_connections: Most connections at a time; not with ray.
        body_timeout_s: Seconds within which a request has to be there.
        request_timeout_s: Seconds within which an answer has to be complete.
        shutdown_timeout_s: Seconds that requests in flight get when the server is told to stop.
        log_inputs: Write inputs and answers to the log.
        tls_certificate: File of the certificate, for https.
        tls_key: File of its key.
    """
    given = dict(locals())
    import dataclasses

    from softprompt.cli.replicas import check_alone, serve_replicas

    if ray is None:
        check_alone(given)

    from softprompt.cli.loading import load_backbone
    from softprompt.errors import ConfigError, MissingDependencyError
    from softprompt.inference import BatchLimits

    try:
        from softprompt.cli.opening import open_engine, pass_once, server_at
        from softprompt.serving import ServerSettings, log_to_stderr, serve
    except ImportError as error:
        raise MissingDependencyError(
            f"softprompt serve needs {error.name}; run: pip install 'softprompt[serve]'"
        ) from None

    if vllm is None and vllm_model is not None:
        raise ConfigError("vllm_model names a model of a vLLM server; say its address with vllm, too.")
    of_here = (quantize, classes, device, device_map, batch_rows, batch_tokens)
    if vllm is not None and of_here != (None, None, _DEVICE, None, _BATCH_ROWS, _BATCH_TOKENS):
        raise ConfigError(
            "quantize, classes, device, device_map, batch_rows and batch_tokens are about a backbone that computes "
            "here; drop them, or vllm."
        )
    settings = ServerSettings(**{field.name: given[field.name] for field in dataclasses.fields(ServerSettings)})
    if ray is not None:
        serve_replicas(given, settings, _MAX_CONNECTIONS)
        return
    behind = None if vllm is None else server_at(vllm, vllm_model)
    loaded = load_backbone(given if behind is None else {**given, "device": "cpu"})
    log_to_stderr()
    engine = open_engine(
        loaded,
        prompts,
        behind,
        limits=BatchLimits(rows=batch_rows, tokens=batch_tokens),
        queue_requests=queue_requests,
        queue_tokens=queue_tokens,
        cache_bytes=cache_bytes,
    )
    names = "the bare backbone" if engine.folder is None else f"{len(engine.folder.files.names())} prompts"
    with engine:
        pass_once(engine, None if behind is None else _FIRST_S)
        finished = serve(
            engine,
            settings,
            started=lambda address: print(f"{loaded.name} with {names} at {address}", flush=True),
        )
    if not finished:
        print("softprompt: requests that took too long were ended.", file=sys.stderr)


def new_key(*, file: str, name: str) -> None:
    """Make a key, add its digest to a file, and print the key, which is stored nowhere.

    Args:
        file: File of hashed keys, made if it is not there; a server that runs reads it again.
        name: Whose key it is; stands in the server's log.
    """
    from softprompt.serving.keys import add_key

    print(add_key(file, name))
