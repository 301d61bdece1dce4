"""Prompts of rows served through a vLLM server, which is given whole inputs as embeddings."""

from softprompt.serving.vllm.client import VllmServer
from softprompt.serving.vllm.engine import VllmEngine

__all__ = ["VllmEngine", "VllmServer"]
