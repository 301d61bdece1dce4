"""Prompts of other libraries, and the hub: PEFT checkpoints, T5X arrays, embeddings for vLLM, push and pull."""

from softprompt.store.binding import bind
from softprompt.store.hub import pull_prompt, push_prompt
from softprompt.store.peft import load_peft, save_peft
from softprompt.store.t5x import load_t5x, save_t5x
from softprompt.store.vllm import load_vllm, pack_embeddings, save_vllm

__all__ = [
    "bind",
    "load_peft",
    "load_t5x",
    "load_vllm",
    "pack_embeddings",
    "pull_prompt",
    "push_prompt",
    "save_peft",
    "save_t5x",
    "save_vllm",
]
