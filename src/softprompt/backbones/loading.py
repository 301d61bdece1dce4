"""Loading a model and its tokenizer from the hub, a folder, or what comes with softprompt."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import FULL_TOKENIZER_FILE, TOKENIZER_CONFIG_FILE
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, cached_file

from softprompt.backbones import adapters, catalogue, sharding
from softprompt.backbones.fingerprint import Fingerprint, fingerprint
from softprompt.backbones.heads import start_linear
from softprompt.backbones.launch import lost_one, process_count
from softprompt.errors import BackboneError, ConfigError, MismatchError, SoftpromptError, UnsupportedError

__all__ = ["TOLD", "load", "pick_device"]

TOLD = "run.json"
"""What is known of a tuned model, in its folder: the fingerprint of its `backbone` among it."""


def load(
    name: str,
    *,
    dtype: str | torch.dtype,
    attention: str | None,
    classes: int | None,
    revision: str | None,
    trust_remote_code: bool,
    device_map: str | Mapping[str, Any] | None = None,
    sharded: bool = False,
    offload: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None, bool]:
    """Load a model with the head that prompts need, and its tokenizer if it has one.

    Arguments are those of `Backbone.from_pretrained`. Without `device_map` and `sharded`, the model is on the CPU.

    Returns:
        The model, its tokenizer, and whether its head is a new one that knows nothing.

    Raises:
        BackboneError: If there is no such model, its head is missing or untrained, or its tokenizer cannot be loaded.
        MismatchError: If it is an adapter of softprompt's, and the model that it names is not what it was trained on.
        UnsupportedError: If it is an adapter for a model that carries another, which cannot be merged; or is to be
            sharded, and is an adapter, an encoder, or has no layers to gather one by one.
        ConfigError: If `dtype` is no floating-point dtype.
    """
    path = catalogue.resolve(name)
    source = {"revision": revision, "trust_remote_code": trust_remote_code}
    if _is_adapter(path, revision):
        if sharded:
            raise UnsupportedError(f"{name!r} holds an adapter; merge it into its model, and shard that.")
        base_name, base_revision = _base_of(name, path, revision)
        base, tokenizer, untrained = load(
            base_name,
            dtype=dtype,
            attention=attention,
            classes=classes,
            revision=base_revision,
            trust_remote_code=trust_remote_code,
            device_map=device_map,
        )
        _check_base(name, path, base_name, fingerprint(base.base_model if untrained else base))
        adapters.merge(base)  # an adapter may have been trained on a model that carried one
        base.load_adapter(path, adapter_kwargs={"revision": revision})
        return base, _tokenizer(name, path, source) or tokenizer, untrained and not adapters.brings_a_head(base)
    options: dict[str, Any] = {"dtype": _dtype(dtype)}
    if attention is not None:
        options["attn_implementation"] = attention
    if device_map is not None:
        options["device_map"] = device_map if isinstance(device_map, str) else dict(device_map)
    try:
        config = AutoConfig.from_pretrained(path, **source)
        if classes is not None:
            config.num_labels = classes
        kind = _auto_class(name, config, classes)
        if sharded:
            options["distributed_config"] = _sharding(name, kind, config, offload, trust_remote_code)
        with _silent_on_untied_heads(), sharding.silent_on_plans():
            model, report = kind.from_pretrained(path, config=config, output_loading_info=True, **options, **source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, SoftpromptError) or (sharded and lost_one(error)):
            raise
        if classes is not None and isinstance(error, RuntimeError):  # sizes differ
            raise BackboneError(
                f"{name!r} has a head of another number of classes; load it without classes."
            ) from error
        raise BackboneError(f"Cannot load {name!r} as a backbone: {error}") from error
    missing = set(report["missing_keys"]) & {parameter for parameter, _ in model.named_parameters()}
    if classes is not None:
        _begin_head(name, model, missing)
    elif _is_encoder(config):
        _check_encoder(name, model, missing)
    else:
        _check_complete(name, model, missing)
    return model, _tokenizer(name, path, source), classes is not None


def _sharding(
    name: str, kind: Any, config: transformers.PreTrainedConfig, offload: bool, trust_remote_code: bool
) -> Any:
    if kind not in (transformers.AutoModelForCausalLM, transformers.AutoModelForSeq2SeqLM):
        raise UnsupportedError(f"{name!r} is an encoder, and small enough for one device; load it without sharded.")
    return sharding.sharding_of(kind, config, offload=offload, trust_remote_code=trust_remote_code)


@contextmanager
def _silent_on_untied_heads() -> Iterator[None]:
    """Drop what transformers says of each T5 v1.1: that its head is no copy, with advice that T5's settings ignore."""
    logger = logging.getLogger("transformers.modeling_utils")

    def says_more(record: logging.LogRecord) -> bool:
        return "so we will NOT tie them" not in record.getMessage()

    logger.addFilter(says_more)
    try:
        yield
    finally:
        logger.removeFilter(says_more)


def _is_adapter(path: str, revision: str | None) -> bool:
    return not _holds(path, CONFIG_NAME, revision) and _holds(path, ADAPTER_CONFIG_NAME, revision)


def _base_of(name: str, path: str, revision: str | None) -> tuple[str, str | None]:
    """The model that an adapter belongs to, and its revision.

    Raises:
        BackboneError: If it is peft's prompt and no adapter, names no model, or peft is not installed.
    """
    try:
        from peft import PeftConfig
    except ImportError as error:
        raise BackboneError(f"{name!r} holds an adapter, which needs peft: pip install peft") from error
    config = PeftConfig.from_pretrained(path, revision=revision)
    if config.is_prompt_learning:
        raise BackboneError(f"{name!r} holds a prompt and no model; load the model, and the prompt with sp.load_peft.")
    if not config.base_model_name_or_path:
        raise BackboneError(f"{name!r} holds an adapter that does not say of which model; write it into its config.")
    return str(config.base_model_name_or_path), config.revision


def _check_base(name: str, path: str, base_name: str, found: Fingerprint) -> None:
    """Refuse an adapter of softprompt's whose backbone is not what now has its name.

    Raises:
        BackboneError: If what is told of the adapter cannot be read.
        MismatchError: If it is another, such as one without the adapter that it carried in memory.
    """
    told = Path(path) / TOLD
    if not told.is_file():
        return
    try:
        values = json.loads(told.read_text(encoding="utf-8")).get("backbone")
    except (ValueError, AttributeError) as error:
        raise BackboneError(
            f"{told} is damaged ({error}), so that what {name!r} was trained on is not known; train it again, or remove"
            " that file to load it unchecked."
        ) from error
    if values is None:  # written before that was kept
        return
    wanted = Fingerprint.from_mapping(values)
    if not wanted.matches(found):
        raise MismatchError(
            f"{name!r} holds an adapter for a model of the fingerprint {wanted.short}, but {base_name!r}, which it"
            f" names, is {found.short}; load that model, and put the adapter in with its load_adapter."
        )


def _check_complete(name: str, model: PreTrainedModel, missing: set[str]) -> None:
    """Refuse weights that transformers made up, as it does for the head of a checkpoint that was stored without."""
    if missing:
        raise BackboneError(
            f"{name!r} holds no weights for {', '.join(sorted(missing)[:3])} of {type(model).__name__}, which would be"
            " random; load a checkpoint that was stored with its trained head, or say how many classes a new head shall"
            " have, for prompts that bring their own."
        )


def _check_encoder(name: str, model: PreTrainedModel, missing: set[str]) -> None:
    """Refuse an encoder that lacks weights; those of a head on top of it are not used.

    Raises:
        BackboneError: If there are such weights.
    """
    inner = {f"{model.base_model_prefix}.{parameter}" for parameter, _ in model.base_model.named_parameters()}
    if lacking := sorted(missing & inner):
        raise BackboneError(
            f"{name!r} holds no weights for {', '.join(lacking[:3])} of {type(model).__name__}, which are none of its"
            " head's; load a checkpoint of the whole encoder."
        )


def _begin_head(name: str, model: PreTrainedModel, missing: set[str]) -> None:
    """Give a head that the checkpoint lacks the same weights each time: the model is then known by its fingerprint.

    Raises:
        BackboneError: If the checkpoint has a head, or lacks more than that.
    """
    _check_encoder(name, model, missing)
    if not missing:
        raise BackboneError(f"{name!r} has a head already; load it without classes.")
    generator = torch.Generator().manual_seed(0)
    for place, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and f"{place}.weight" in missing:
            layer.load_state_dict(
                start_linear(layer.in_features, layer.out_features, layer.bias is not None, generator)
            )


def _tokenizer(name: str, path: str, source: dict[str, Any]) -> PreTrainedTokenizerBase | None:
    """The tokenizer beside a model; None if there is none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **source)
    except Exception as error:  # each kind of tokenizer fails in its own way, the fast ones with a bare Exception
        if not any(_holds(path, file, source["revision"]) for file in (TOKENIZER_CONFIG_FILE, FULL_TOKENIZER_FILE)):
            return None
        raise BackboneError(
            f"The tokenizer of {name!r} cannot be loaded: {type(error).__name__}: {error}. Mend this, or load the "
            "model with transformers and pass Backbone.from_model(model, tokenizer), where tokenizer may be None."
        ) from error
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        return None  # without files, transformers makes an empty one of the model's usual class
    return tokenizer


def _holds(path: str, file: str, revision: str | None) -> bool:
    """Whether a folder or repository has a file."""
    try:
        return cached_file(path, file, revision=revision) is not None
    except OSError:
        return False


def _auto_class(name: str, config: transformers.PreTrainedConfig, classes: int | None) -> Any:
    if classes is not None:
        known = type(config) in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        if not known or config.is_encoder_decoder:
            raise BackboneError(f"{name!r} is no encoder that can have a classification head; load it without classes.")
        return transformers.AutoModelForSequenceClassification
    if config.is_encoder_decoder:
        return transformers.AutoModelForSeq2SeqLM
    architecture = next(iter(config.architectures or []), "")
    if architecture.endswith("ForSequenceClassification"):
        return transformers.AutoModelForSequenceClassification
    if _is_encoder(config):
        return transformers.AutoModelForTokenClassification
    if architecture.endswith(("ForMaskedLM", "ForPreTraining", "ForTokenClassification", "ForQuestionAnswering")):
        raise BackboneError(
            f"{name!r} holds {architecture}; expected a model that generates text, or one with a trained head for "
            "sequence classification; or say how many classes a new head shall have, for prompts that bring their own."
        )
    return transformers.AutoModelForCausalLM


def _is_encoder(config: transformers.PreTrainedConfig) -> bool:
    """Whether a checkpoint is of an encoder that reads both ways, stored with no head over classes of whole inputs.

    All of these are loaded as the family's model for token classification, whose base is the same whatever head the
    checkpoint has.
    """
    architecture = next(iter(config.architectures or []), "")
    other = architecture.endswith(("ForSequenceClassification", "ForCausalLM", "LMHeadModel"))
    decodes = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    mappings = (transformers.MODEL_FOR_MASKED_LM_MAPPING, transformers.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING)
    return not other and not decodes and all(type(config) in mapping for mapping in mappings)


def _dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"dtype={dtype!r}: expected 'auto', 'float32', 'bfloat16', 'float16' or a torch dtype.")
    return found


def pick_device(device: str | torch.device) -> torch.device:
    """A torch device; `auto` takes CUDA or MPS where there is one, and each process of a launch a GPU of its own.

    Raises:
        ConfigError: If torch knows no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            process = os.environ.get("LOCAL_RANK") if process_count() > 1 else None
            return torch.device(f"cuda:{int(process) % torch.cuda.device_count()}" if process else "cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device={device!r}: {error}") from None
