"""Rows as a numpy array `[length, dim]` of float32, as Google's prompt-tuning library keeps the prompts of T5.

An array of rows for a decoder-only model looks the same. The library's released prompts are such files (`sst2.npy`),
and its training writes one beside each T5X checkpoint, as
`numpy_checkpoints/checkpoint_STEP/encoder.prompt.prompt.prompt`. The checkpoint itself (zarr arrays beside a msgpack
file) would need tensorstore or zarr to be read, and is refused.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from softprompt.backbones import Backbone
from softprompt.errors import ArtefactError, UnsupportedError
from softprompt.prompts import PromptInfo, PromptTuning, SoftPrompt
from softprompt.prompts.parameters import DirectRows
from softprompt.store.binding import bind
from softprompt.store.single_file import front_rows, write_file

__all__ = ["load_t5x", "save_t5x"]


def load_t5x(path: str | Path, backbone: Backbone | None = None) -> SoftPrompt:
    """Read rows in front of an input, such as the prompts for T5 that Google's library releases and writes.

    Args:
        path: A file in numpy's format, whatever its name.
        backbone: The model that it was trained on, of which the array says nothing, not even the kind. Without one,
            the prompt can be looked at and stored, and `Prompted` refuses it until `bind(prompt, backbone)` has said
            which model it is for.

    Returns:
        A prompt with float32 rows.

    Raises:
        ArtefactError: If the file is missing, a folder, damaged, or no array `[length, dim]` of finite floating-point
            values.
        UnsupportedError: If it is a T5X checkpoint.
        MismatchError: If it does not fit the backbone.

    References:
        Lester et al. 2021, §3.
    """
    path = Path(path)
    values = _read_array(path)
    if values.ndim != 2 or 0 in values.shape or not np.issubdtype(values.dtype, np.floating):
        raise ArtefactError(
            f"{path}: expected an array [length, dim] of floating-point values, found {list(values.shape)} of "
            f"{values.dtype}; it is not a prompt."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ArtefactError(f"{path} holds values that are NaN or infinite in float32; it cannot be used.")
    info = PromptInfo(
        backbone="an unnamed model",
        fingerprint={},
        lineage=(f"imported from the array {path.name}",),
    )
    rows = DirectRows(torch.from_numpy(values))  # [length, dim]
    prompt = SoftPrompt(rows, PromptTuning(length=values.shape[0], init="random"), info)
    return prompt if backbone is None else bind(prompt, backbone)


def save_t5x(prompt: SoftPrompt, path: str | Path) -> Path:
    """Write the rows of a prompt as Google's library reads them (`from_array`); atomically.

    Args:
        prompt: A prompt of rows for an encoder-decoder or a decoder-only model, in front of the input.
        path: The file; a prompt that is there is replaced.

    Returns:
        The file.

    Raises:
        UnsupportedError: If the prompt is no such prompt.
        ArtefactError: If a value is NaN or infinite, a folder is at `path`, or nothing can be written there.
    """
    path = Path(path)
    expected = "An array holds rows in front of the input of a model that generates text"
    rows = front_rows(prompt, ["encoder-decoder", "decoder-only"], expected)
    if not rows.isfinite().all():
        raise ArtefactError(f"The prompt's rows hold NaN or infinite values; they are not saved to {path}.")
    file = io.BytesIO()
    np.save(file, rows.cpu().numpy(), allow_pickle=False)
    write_file(path, file.getvalue(), example="prompt.npy")
    return path


def _read_array(path: Path) -> np.ndarray:
    if path.name == "checkpoint" or (path.is_dir() and path.name.startswith("checkpoint")):
        raise UnsupportedError(
            f"{path} looks like a T5X checkpoint, which needs further libraries; give the array that was written "
            "beside it (numpy_checkpoints/checkpoint_STEP/encoder.prompt.prompt.prompt), or one that you extracted "
            "with T5X and np.save."
        )
    if path.is_dir():
        raise ArtefactError(f"{path} is a folder; name the file in it that holds a prompt's rows, e.g. prompt.npy.")
    try:
        with path.open("rb") as file:
            values: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise ArtefactError(f"There is no file {path}; name a numpy array of a prompt.") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror}); see to who may read it.") from None
    except (ValueError, EOFError) as error:
        raise ArtefactError(
            f"{path} is truncated or not an array in numpy's own format ({error}); pickles and archives are not opened."
        ) from None
    return values
