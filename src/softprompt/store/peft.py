"""Checkpoint folders of PEFT: `adapter_config.json` and `adapter_model.safetensors`; PEFT itself is not needed.

PEFT stores a tensor `prompt_embeddings`, from which a reparameterisation has been computed away already:

- prompt tuning and P-tuning: rows `[submodules * length, dim]`, of which the model reads the first `length`;
- multitask prompt tuning: the shared rows, likewise, and `prefix_task_cols` `[tasks, submodules * length, rank]` and
  `prefix_task_rows` `[tasks, rank, dim]`, whose product a task's rows are multiplied with;
- prefix tuning: `[length, 2 * layers * kv_heads * head_dim]`, seen as `[length, 2 * layers, kv_heads, head_dim]`,
  with the keys of layer i in slot 2i and its values in slot 2i + 1.

Whatever softprompt could not apply to the same numbers is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softprompt.artefact import read_folder, read_metadata, write_folder
from softprompt.backbones import Backbone
from softprompt.errors import ArtefactError, ConfigError, UnsupportedError
from softprompt.prompts import MultitaskPrompt, PrefixTuning, PromptInfo, PromptTuning, PTuning, SoftPrompt
from softprompt.prompts.parameters import DirectPrefix, DirectRows
from softprompt.prompts.registry import Method
from softprompt.store.binding import bind
from softprompt.store.single_file import writing

__all__ = ["load_peft", "save_peft"]

_CONFIG, _WEIGHTS, _TENSOR = "adapter_config", "adapter_model", "prompt_embeddings"
_COLUMNS, _ROWS = "prefix_task_cols", "prefix_task_rows"
_PROMPT, _PREFIX, _ENCODED, _MULTITASK = "PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING"
_TENSORS = {
    **{method: {_TENSOR: 2} for method in (_PROMPT, _PREFIX, _ENCODED)},
    _MULTITASK: {_TENSOR: 2, _COLUMNS: 3, _ROWS: 3},
}
"""By the method, each tensor's number of axes."""
_METHODS: Mapping[str, Callable[..., Method]] = {
    _PROMPT: PromptTuning,
    _ENCODED: PTuning,
    _MULTITASK: MultitaskPrompt,
}
_VERSION = "0.21.2"  # whose folders are written here
_KINDS = {"CAUSAL_LM": "decoder-only", "SEQ_2_SEQ_LM": "encoder-decoder"}
_TASK_TYPES = {kind: task_type for task_type, kind in _KINDS.items()}
_DECODER_PREFIX = (
    "PEFT gives the prefix of an encoder-decoder to its decoder alone, half of it to no layer at all, and counts it as "
    "earlier positions of the target, which keys and values cannot reproduce"
)
_NO_METHOD = {
    "CPT": "its rows are tied to token ids and their types",
    "CARTRIDGE": "it is a compressed cache of a text, with positions of its own",
}
_NO_TASK = {
    "SEQ_CLS": "PEFT puts rows before the first token, which an encoder's head reads, and counts a prefix as earlier "
    "positions of the input; softprompt does neither",
    "TOKEN_CLS": "it comes with a trained head for tokens",
    "QUESTION_ANS": "it comes with a trained head for spans",
    "FEATURE_EXTRACTION": "it gives hidden states, not text",
}


def load_peft(path: str | Path, backbone: Backbone | None = None, *, task: int | None = None) -> SoftPrompt:
    """Read a PEFT checkpoint of prompt tuning, P-tuning or multitask prompt tuning, or of a causal model's prefix.

    A checkpoint names its model, but holds nothing to recognise it by. With a backbone, shapes are checked and
    the prompt is bound to it. Without one, the prompt can be looked at and stored, and `Prompted` refuses it until
    `bind(prompt, backbone)` has said which model it is for.

    The prompt gives the logits that PEFT gives wherever PEFT places tokens and prompt as the model was trained,
    e.g. in right-padded batches.

    Args:
        path: The folder of the checkpoint.
        backbone: The model that it was trained on.
        task: Number of the task, from 0, whose prompt is read from a checkpoint of several tasks.

    Returns:
        A prompt with direct float32 parameters.

    Raises:
        ArtefactError: If the folder is no PEFT checkpoint, is damaged, or its two files disagree.
        ConfigError: If it holds several tasks and `task` names none of them, or the reverse.
        UnsupportedError: If it is a pickle, of another method or task, or for a model on which PEFT and softprompt
            feed tokens differently.
        MismatchError: If it does not fit the backbone.
    """
    path = Path(path)
    config = _read_config(path)
    method = config["peft_type"]
    tensors = _read_tensors(path, _TENSORS[method])
    if task is not None and method != _MULTITASK:
        raise ConfigError(f"{path} holds one prompt, of {method}; task= is for checkpoints of several tasks.")
    info = PromptInfo(
        backbone=str(config.get("base_model_name_or_path") or "an unnamed model"),
        fingerprint={},
        kind=_KINDS[config["task_type"]],
        lineage=(f"imported from the PEFT checkpoint {path.name}",),
    )
    if method == _PREFIX:
        prompt = _prefix_tuning(path, config, tensors[_TENSOR], info)
    else:
        rows = _rows(path, config, tensors[_TENSOR], info)
        if method == _MULTITASK:
            rows = rows * _factors(path, tensors, task)[: len(rows)]
        prompt = SoftPrompt(DirectRows(rows), _METHODS[method](length=len(rows), init="random"), info)
    if backbone is None:
        return prompt
    prompt = bind(prompt, backbone)
    if prompt().rows is not None and _scales_outside_its_table(backbone):
        raise UnsupportedError(
            f"{backbone.name} scales its embeddings outside their table, which PEFT leaves out beside a prompt: {path} "
            "was trained on other inputs than the model's; train it anew with softprompt."
        )
    return prompt


def save_peft(prompt: SoftPrompt, path: str | Path) -> Path:
    """Write a prompt as a folder that `PeftModel.from_pretrained` loads.

    Args:
        prompt: Rows for a decoder-only model or an encoder-decoder, or a prefix for a decoder-only model. A
            reparameterisation is computed away: rows of any method are written as those of prompt tuning.
        path: The folder; an older checkpoint there is replaced.

    Returns:
        The folder.

    Raises:
        UnsupportedError: If PEFT would apply the prompt differently, or it is not known what kind of model it is for.
        ArtefactError: If something else is at `path`, nothing can be written there, or a value is NaN or infinite.
    """
    path, tensors, task_type = Path(path), prompt(), _check_export(prompt)
    for name, value in tensors.named().items():
        if not value.isfinite().all():
            raise ArtefactError(f"The prompt's {name} holds NaN or infinite values; it is not saved to {path}.")
    rows, prefix = tensors.rows, tensors.keys_values
    values, config = _from_keys_values(prefix["decoder"]) if rows is None else _from_rows(rows)
    base = {
        "auto_mapping": None,
        "base_model_name_or_path": prompt.info.backbone,
        "inference_mode": True,
        "modules_to_save": None,
        "num_transformer_submodules": 1,
        "num_virtual_tokens": prompt.length,
        "peft_version": _VERSION,
        "revision": None,
        "task_type": task_type,
    }
    metadata = dict(sorted({**base, **config}.items()))
    card = f"# {path.name}\n\nA soft prompt for `{prompt.info.backbone}`, made with softprompt, in PEFT's format.\n"
    with writing(path):
        return write_folder(path, _WEIGHTS, {_TENSOR: values}, metadata, {"README.md": card}, metadata_name=_CONFIG)


def _read_config(path: Path) -> dict[str, Any]:
    """The configuration of a checkpoint that can be imported."""
    if not (path / f"{_CONFIG}.json").is_file():
        raise ArtefactError(
            f"{path} is not a PEFT checkpoint: it has no {_CONFIG}.json; give the folder that save_pretrained wrote."
        )
    config = read_metadata(path, _CONFIG)
    method, task_type = config.get("peft_type"), config.get("task_type")
    if method not in _TENSORS:
        reason = _NO_METHOD.get(str(method), "it changes the model's weights or layers, and is no soft prompt")
        raise UnsupportedError(
            f"{path} holds {method!r}, expected {', '.join(_TENSORS)}: {reason}. Use PEFT for it, or train a prompt."
        )
    if task_type not in _KINDS:
        reason = _NO_TASK.get(str(task_type), "without a task type it is not known how PEFT applied it")
        raise UnsupportedError(
            f"{path} has the task type {task_type!r}, expected {' or '.join(_KINDS)}: {reason}. Use PEFT for it, or "
            "train a prompt with softprompt."
        )
    if config.get("modules_to_save"):
        raise UnsupportedError(
            f"{path} also holds trained modules of its model ({', '.join(map(str, config['modules_to_save']))}), "
            "without which its prompt is not what it was; use PEFT for it, or train a prompt on the frozen model."
        )
    if method == _PREFIX and _KINDS[task_type] == "encoder-decoder":
        raise UnsupportedError(f"{path} cannot be imported: {_DECODER_PREFIX}. Train it anew with softprompt.")
    return config


def _read_tensors(path: Path, wanted: Mapping[str, int]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, in float32.

    Args:
        path: The checkpoint.
        wanted: Their names, each with its number of axes.
    """
    if not (path / f"{_WEIGHTS}.safetensors").is_file() and (path / f"{_WEIGHTS}.bin").is_file():
        raise UnsupportedError(
            f"{path} holds {_WEIGHTS}.bin, a pickle, which can run any code and is not opened; load it with PEFT where "
            "you trust it, and save_pretrained(..., safe_serialization=True)."
        )
    tensors, _ = read_folder(path, _WEIGHTS, metadata_name=_CONFIG)
    found = {name: list(value.shape) for name, value in tensors.items()}
    sound = all(value.ndim == wanted.get(name) and value.is_floating_point() for name, value in tensors.items())
    if found.keys() != wanted.keys() or not sound:
        expected = " and ".join(f"'{name}' of {axes} axes" for name, axes in wanted.items())
        raise ArtefactError(
            f"{path}/{_WEIGHTS}.safetensors: expected floating-point {expected}, found {found}; it is not the "
            "checkpoint of a prompt."
        )
    return {name: value.float() for name, value in tensors.items()}


def _number(path: Path, config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise ArtefactError(f"{path}/{_CONFIG}.json: expected a positive number as {key}, found {value!r}.")
    return value


def _expect(path: Path, rows: Tensor, shape: list[int], meaning: str) -> None:
    if list(rows.shape) != shape:
        raise ArtefactError(
            f"{path} holds {_TENSOR} {list(rows.shape)}, but its {_CONFIG}.json says {shape} ({meaning}); the two "
            "files are of different checkpoints."
        )


def _rows(path: Path, config: Mapping[str, Any], rows: Tensor, info: PromptInfo) -> Tensor:
    """Rows at the input; for an encoder-decoder PEFT stores as many again, which no model reads."""
    length, dim = _number(path, config, "num_virtual_tokens"), _number(path, config, "token_dim")
    default = 2 if info.kind == "encoder-decoder" else 1
    submodules = config.get("num_transformer_submodules") or default
    if info.kind == "decoder-only" and submodules != 1:
        raise UnsupportedError(
            f"{path} has {submodules} rows per virtual token of a causal model (num_transformer_submodules), which "
            "PEFT itself cannot apply; train it anew."
        )
    if info.kind == "encoder-decoder" and config["peft_type"] == _MULTITASK and submodules != 1:
        raise UnsupportedError(
            f"{path} has rows for encoder and decoder (num_transformer_submodules={submodules}), of which softprompt "
            "gives none to the decoder; train it anew."
        )
    _expect(path, rows, [submodules * length, dim], "num_transformer_submodules * num_virtual_tokens, token_dim")
    return rows[:length]


def _factors(path: Path, tensors: Mapping[str, Tensor], task: int | None) -> Tensor:
    """What a task's rows are multiplied with, `[submodules * length, dim]`."""
    columns, rows = tensors[_COLUMNS], tensors[_ROWS]
    tasks, length, rank = columns.shape
    _expect(path, rows, [tasks, rank, tensors[_TENSOR].shape[1]], f"tasks, rank, token_dim, as {_COLUMNS} has them")
    if length != len(tensors[_TENSOR]):
        raise ArtefactError(f"{path}: {_COLUMNS} is for {length} rows, but {_TENSOR} has {len(tensors[_TENSOR])}.")
    if task is None and tasks > 1:
        raise ConfigError(f"{path} holds the prompts of {tasks} tasks; say which: task=0 to {tasks - 1}.")
    if not 0 <= (task or 0) < tasks:
        raise ConfigError(f"task={task}: {path} holds the tasks 0 to {tasks - 1}.")
    return columns[task or 0] @ rows[task or 0]


def _prefix_tuning(path: Path, config: Mapping[str, Any], rows: Tensor, info: PromptInfo) -> SoftPrompt:
    length, width = _number(path, config, "num_virtual_tokens"), _number(path, config, "token_dim")
    layers, heads = _number(path, config, "num_layers"), _number(path, config, "num_attention_heads")
    _expect(path, rows, [length, 2 * layers * width], "num_virtual_tokens, 2 * num_layers * token_dim")
    if width % heads:
        raise ArtefactError(f"{path}/{_CONFIG}.json: token_dim {width} is no multiple of num_attention_heads {heads}.")
    slots = rows.view(length, layers, 2, heads, width // heads)
    keys_values = slots.permute(1, 2, 3, 0, 4)  # [layers, 2, kv_heads, length, head_dim]
    return SoftPrompt(DirectPrefix({"decoder": keys_values}), PrefixTuning(length=length, hidden=None), info)


def _check_export(prompt: SoftPrompt) -> str:
    """PEFT's task type for a prompt that it applies as softprompt does."""
    kind = prompt.info.kind
    if kind is None:
        raise UnsupportedError("The prompt does not say what kind of model it is for; pass bind(prompt, backbone).")
    if kind not in _TASK_TYPES:
        raise UnsupportedError(
            f"A prompt for a model of kind {kind} cannot be applied by PEFT as it was trained: {_NO_TASK['SEQ_CLS']}. "
            "Store it with prompt.save."
        )
    if prompt.placement != "prepend":
        raise UnsupportedError(
            f"PEFT puts every prompt in front of the input, but this one has placement={prompt.placement!r}; store it "
            "with prompt.save, or train one with placement='prepend'."
        )
    if prompt.layers is not None:
        raise UnsupportedError(
            f"PEFT gives a prefix to every layer, but this one has layers={list(prompt.layers)}; store it with "
            "prompt.save."
        )
    if kind == "encoder-decoder" and prompt().keys_values:
        raise UnsupportedError(f"The prefix cannot be exported: {_DECODER_PREFIX}. Store it with prompt.save.")
    return _TASK_TYPES[kind]


def _from_rows(rows: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """What PEFT stores of prompt tuning; the number of layers and heads it reads off the model."""
    return rows, {
        "num_attention_heads": None,
        "num_layers": None,
        "peft_type": _PROMPT,
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "token_dim": rows.shape[1],
        "tokenizer_kwargs": None,
        "tokenizer_name_or_path": None,
    }


def _from_keys_values(keys_values: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """What PEFT stores of prefix tuning."""
    layers, two, heads, length, head_dim = keys_values.shape
    flat = keys_values.permute(3, 0, 1, 2, 4).reshape(length, layers * two * heads * head_dim)
    return flat, {
        "encoder_hidden_size": heads * head_dim,
        "init_weights": None,
        "num_attention_heads": heads,
        "num_layers": layers,
        "peft_type": _PREFIX,
        "prefix_projection": False,
        "token_dim": heads * head_dim,
    }


@torch.no_grad()
def _scales_outside_its_table(backbone: Backbone) -> bool:
    """Whether embeddings must be scaled to stand for their ids (Pegasus, Marian)."""
    ids = torch.arange(backbone.spec.vocab, device=backbone.device)[-8:]
    return not torch.equal(backbone.embed(ids), backbone.model.get_input_embeddings()(ids))
