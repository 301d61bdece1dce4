"""Embeddings as vLLM takes them (`prompt_embeds`): what `torch.save` writes of a tensor `[tokens, dim]`.

In process vLLM takes the tensor; over HTTP it takes the file's bytes as base64. It casts them to its own dtype, checks
their width, and trusts their values: one that is NaN reaches the answers of other requests, too.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from pickle import UnpicklingError

import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.config import choose
from softprompt.errors import ArtefactError
from softprompt.prompts import PromptInfo, PromptTuning, SoftPrompt
from softprompt.prompts.parameters import DirectRows
from softprompt.store.binding import bind
from softprompt.store.single_file import front_rows, write_file

__all__ = ["load_vllm", "pack_embeddings", "save_vllm"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pack_embeddings(embeddings: Float[Tensor, "tokens dim"]) -> str:
    """Embeddings as base64, for the field `prompt_embeds` of vLLM's `/v1/completions`."""
    return base64.b64encode(_saved(embeddings)).decode()


def save_vllm(prompt: SoftPrompt, path: str | Path, *, dtype: str = "float32") -> Path:
    """Write the rows of a prompt as a file that vLLM's clients load with `torch.load`; atomically.

    Whoever sends them puts the embedded input behind them.

    Args:
        prompt: A prompt of rows for a decoder-only model, in front of the input.
        path: The file; one that is there is replaced.
        dtype: `float32`, `bfloat16` or `float16`.

    Returns:
        The file.

    Raises:
        ConfigError: If there is no such dtype.
        UnsupportedError: If the prompt is no such prompt.
        ArtefactError: If a value is NaN or infinite in that dtype, a folder is at `path`, or nothing can be written
            there.
    """
    path = Path(path)
    if dtype not in _DTYPES:
        raise choose("dtype", dtype, _DTYPES)
    expected = "Embeddings for vLLM are rows in front of a decoder-only model's input"
    rows = front_rows(prompt, ["decoder-only"], expected).to(_DTYPES[dtype])  # [length, dim]
    if not rows.isfinite().all():
        raise ArtefactError(f"The prompt's rows hold values that are NaN or infinite in {dtype}; they are not saved.")
    write_file(path, _saved(rows), example="prompt.pt")
    return path


def load_vllm(path: str | Path, backbone: Backbone | None = None) -> SoftPrompt:
    """Read rows that were saved for vLLM. Nothing but tensors is unpickled.

    Args:
        path: A file that `torch.save` wrote of a tensor `[length, dim]`, or `[1, length, dim]`.
        backbone: The decoder-only model that it was trained on. Without one, the prompt can be looked at and stored,
            and `Prompted` refuses it until `bind(prompt, backbone)` has said which model it is for.

    Returns:
        A prompt with float32 rows in front of the input.

    Raises:
        ArtefactError: If the file is missing, damaged, or no such tensor of finite floating-point values.
        MismatchError: If it does not fit the backbone.
    """
    path = Path(path)
    rows = _read_tensor(path)
    if rows.ndim == 3 and rows.shape[0] == 1:
        rows = rows[0]
    if rows.layout != torch.strided or rows.ndim != 2 or 0 in rows.shape or not rows.is_floating_point():
        raise ArtefactError(
            f"{path}: expected a tensor [length, dim] of floating-point values, found {list(rows.shape)} of "
            f"{rows.dtype}; it is not a prompt."
        )
    rows = rows.detach().float().contiguous()
    if not rows.isfinite().all():
        raise ArtefactError(f"{path} holds values that are NaN or infinite in float32; it cannot be used.")
    info = PromptInfo(
        backbone="an unnamed model",
        fingerprint={},
        kind="decoder-only",
        lineage=(f"imported from the embeddings {path.name}",),
    )
    prompt = SoftPrompt(DirectRows(rows), PromptTuning(length=len(rows), init="random"), info)
    return prompt if backbone is None else bind(prompt, backbone)


def _saved(tensor: Tensor) -> bytes:
    file = io.BytesIO()
    torch.save(tensor.detach().cpu().clone(memory_format=torch.contiguous_format), file)
    return file.getvalue()


def _read_tensor(path: Path) -> Tensor:
    if path.is_dir():
        raise ArtefactError(f"{path} is a folder; name the file in it that torch.save wrote of a prompt's rows.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtefactError(f"There is no file {path}; name one that torch.save wrote of a prompt's rows.") from None
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ArtefactError(
            f"{path} is truncated, or more than a tensor that torch.save wrote ({reason}); other pickles are not "
            "opened."
        ) from None
    if not isinstance(found, Tensor):
        raise ArtefactError(f"{path} holds {type(found).__name__}, expected one tensor [length, dim].")
    return found
