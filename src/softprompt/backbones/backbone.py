"""A frozen model with its tokenizer, shared by all prompts."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from softprompt.backbones import adapters, launch, loading, offloading, quantization, sharding
from softprompt.backbones.attention import KERNELS, prepare_head, wrapped
from softprompt.backbones.carrying import Carried, Recorder, Site, carrying
from softprompt.backbones.checkpointing import checkpointed
from softprompt.backbones.fingerprint import Fingerprint, fingerprint
from softprompt.backbones.heads import ClassificationHead, TokenHead, start_token_head
from softprompt.backbones.observation import classifies, observe
from softprompt.backbones.spec import BackboneSpec
from softprompt.errors import BackboneError, ConfigError, UnsupportedError

__all__ = ["Backbone"]

_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Backbone:
    """A frozen Hugging Face model with its tokenizer.

    The model is in evaluation mode and none of its parameters takes a gradient. Its attention goes through
    softprompt's attention function, which changes nothing until a prompt is applied. Any number of prompts
    and threads may share one backbone.

    Attributes:
        model: The model.
        tokenizer: Its tokenizer, or None if token ids come from elsewhere.
        name: Hub id, folder or `bundled:NAME`; what messages and artefacts call it.
        spec: Its facts.
        classifies: Whether it is an encoder with a head over classes, trained or not.
        has_untrained_head: Whether it is an encoder without a classification head that knows anything, so that every
            prompt must bring a head.
        quantized: How its weights are kept, if in fewer bits; None otherwise.
        sharded: Whether its weights are spread over processes, which then have to take every pass together.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None,
        name: str,
        *,
        has_untrained_head: bool = False,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.sharded = sharding.is_sharded(model)
        self.tokenizer = tokenizer
        self.name = name
        injectable = _set_attention(model)
        seen = observe(model, injectable=injectable)
        self.spec: BackboneSpec = seen.spec
        self.quantized: str | None = None
        self.classifies: bool = self.spec.kind == "encoder-only" and classifies(model)
        self.has_untrained_head = has_untrained_head or (self.spec.kind == "encoder-only" and not self.classifies)
        self.sites: Mapping[nn.Module, Site] = seen.sites
        self.takes_positions = seen.takes_positions
        self._embedding_scale = seen.embedding_scale
        self._target_factor = seen.target_scale / seen.embedding_scale
        head = model.get_output_embeddings()
        self.head_is_separable = head is not None
        if head is not None and prepare_head not in head._forward_pre_hooks.values():
            head.register_forward_pre_hook(prepare_head)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device = "auto",
        attention: str | None = None,
        quantize: str | None = None,
        classes: int | None = None,
        sharded: bool = False,
        offload: bool = False,
        device_map: str | Mapping[str, Any] | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> Backbone:
        """Load a model and its tokenizer.

        Args:
            name: A hub id, a folder, or `bundled:NAME` for one that comes with softprompt; or those of a peft adapter,
                which is put into the model that it names.
            dtype: A torch dtype or its name; `auto` takes the checkpoint's own.
            device: A torch device; `auto` takes CUDA or MPS where there is one.
            attention: Attention kernel, `sdpa` or `eager`; None takes the model's default of these.
            quantize: Keep the frozen weights of linear layers in fewer bits: `int8` or `nf4` (needs torchao). Prompts
                that are trained so also fit the model as it was, and the other way round.
            classes: Load an encoder that was stored without a classification head, and give it one of so many classes,
                which knows nothing: prompts of methods with `head=True` bring their own. Prompts that tag words or
                find answers need no such head.
            sharded: In several processes (`torchrun`, `accelerate launch`), give each a part of every layer, which all
                gather while that layer computes: none ever holds the whole model. For models that generate text.
                In one process the model is loaded whole.
            offload: Keep each process's part in CPU memory, with `sharded`.
            device_map: In one process, spread the model over its devices, CPU and disk, as transformers does; `auto`,
                or a mapping from parts of the model. `device` is then not heeded.
            revision: Branch, tag or commit on the hub.
            trust_remote_code: Whether code that comes with the model may run.

        Raises:
            BackboneError: If there is no such model, or it cannot be used, or not in the places of `device_map`.
            MismatchError: If it is an adapter that was trained on another model than the one that it names.
            UnsupportedError: If it is an adapter for a model that carries another, which cannot be merged, or has no
                layers that can be quantised, or keeps them outside of its devices.
            LostProcessError: If it is sharded, and another process died or hangs before all have their parts.
            MissingDependencyError: If it is to be quantised, but torchao is not there.
            ConfigError: If a setting is unknown, or contradicts another or how processes were launched.
        """
        launch.check_launch(sharded=sharded, offload=offload, spread=device_map is not None)
        spread = sharded and launch.process_count() > 1
        if spread and any(setting is not None for setting in (quantize, classes, device_map)):
            raise UnsupportedError(
                f"{name}: a sharded backbone can neither be quantised, nor get a new head or a device_map; drop these,"
                " or sharded."
            )
        if attention is not None and attention not in KERNELS:
            raise ConfigError(f"attention={attention!r}: expected one of {', '.join(KERNELS)}, or None.")
        if quantize is not None:
            quantization.check_quantization(quantize)
        with launch.loading_together(str(name)) if spread else contextlib.nullcontext():
            model, tokenizer, untrained = loading.load(
                str(name),
                dtype=dtype,
                attention=attention,
                classes=classes,
                revision=revision,
                trust_remote_code=trust_remote_code,
                device_map=device_map,
                sharded=spread,
                offload=offload,
            )
            placed = model if spread or device_map is not None else model.to(loading.pick_device(device))
            with contextlib.nullcontext() if device_map is None else offloading.finding_weights(str(name), placed):
                backbone = cls(placed, tokenizer, str(name), has_untrained_head=untrained)
            if spread:
                _ = backbone.fingerprint  # all processes have to look at the weights together
        if quantize is not None:
            _ = backbone.fingerprint  # of the weights as they were, by which its prompts know it
            head = backbone.head.parts if backbone.classifies else ()
            quantization.quantize(backbone.model, quantize, keep=[model.get_submodule(part) for part in head])
            backbone.quantized = quantize
        return backbone

    @classmethod
    def from_model(
        cls, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None = None, *, name: str | None = None
    ) -> Backbone:
        """Take a transformers model that is in memory already; it is frozen and put in evaluation mode.

        Args:
            model: Any transformers model that generates text or classifies sequences, or an encoder with whatever
                head or none; also one that carries an adapter, merged or not, wrapped by peft or not.
            tokenizer: Its tokenizer; None if texts are not needed.
            name: What to call it; the path it was loaded from, or its class, if None.

        Raises:
            BackboneError: If it is no such model, has no usable head, carries a prompt of peft's, or runs on an
                attention kernel that takes no masks.
        """
        inner = adapters.unwrap(model)
        return cls(inner, tokenizer, name or inner.config.name_or_path or type(inner).__name__)

    def drop_layers(self) -> None:
        """Keep the embedding table alone, and give back the memory of all other weights.

        For whoever embeds here what is computed elsewhere. The fingerprint is known from before; a pass fails.
        """
        _ = self.fingerprint
        table = {id(weight) for weight in self.model.get_input_embeddings().parameters()}
        for module in self.model.modules():
            for name, weight in module.named_parameters(recurse=False):
                if id(weight) not in table:
                    setattr(module, name, nn.Parameter(weight.to("meta"), requires_grad=False))

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return sharding.device_of(self.model.get_input_embeddings())

    @property
    def dtype(self) -> torch.dtype:
        """What prompts are cast to when they are applied."""
        dtype: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return dtype

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """Which model this is, independent of dtype and name; of a head that knows nothing, too."""
        return fingerprint(self.model.base_model if self.has_untrained_head else self.model)

    @functools.cached_property
    def tokenizer_digest(self) -> str | None:
        """Digest of the tokenizer's vocabulary and chat template; None without tokenizer."""
        if self.tokenizer is None:
            return None
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        template = self.tokenizer.chat_template
        return hashlib.sha256(repr((vocabulary, template)).encode()).hexdigest()[:16]

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on beside the prompt: model, tokenizer and dtype, as plain values."""
        return {
            "backbone": self.fingerprint.to_mapping(),
            "tokenizer": self.tokenizer_digest,
            "dtype": str(self.dtype),
            **({"quantized": self.quantized} if self.quantized else {}),
        }

    @property
    def pad_id(self) -> int:
        """The token id that fills masked positions; any id will do, as nothing attends to it."""
        config = self.model.config.get_text_config()
        known = (self.tokenizer and self.tokenizer.pad_token_id, config.pad_token_id)
        return next((token for token in known if isinstance(token, int) and 0 <= token < self.spec.vocab), 0)

    @property
    def end_id(self) -> int | None:
        """The token id that ends a text, or None if the model has none."""
        end = self.model.generation_config.eos_token_id if self.model.can_generate() else None
        if self.tokenizer is not None and self.tokenizer.eos_token_id is not None:
            end = self.tokenizer.eos_token_id
        return end[0] if isinstance(end, list) else end

    def embed(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """Embed token ids as the model does, scale included, so that the result can stand for the ids."""
        embedded = sharding.look_up(self.model, ids)
        return embedded * self._embedding_scale if self._embedding_scale != 1 else embedded

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text.

        Args:
            text: Any text.
            special: Whether to add what the tokenizer adds to a whole input (such as a closing `</s>`).

        Raises:
            BackboneError: If the backbone has no tokenizer.
        """
        return self.tokenize_all([text], special=special)[0]

    def tokenize_all(self, texts: Sequence[str], *, special: bool = False, as_targets: bool = False) -> list[list[int]]:
        """Token ids of many texts, much faster than one by one.

        Args:
            texts: Any texts.
            special: As in `tokenize`.
            as_targets: Whether they are an encoder-decoder's targets, which some tokenizers cut with another
                vocabulary (Marian) or close with another language (mBART).

        Raises:
            BackboneError: If the backbone has no tokenizer.
        """
        tokenizer = self.need_tokenizer()
        if not texts:
            return []
        given = {"text_target" if as_targets else "text": list(texts)}
        ids: list[list[int]] = tokenizer(**given, add_special_tokens=special, verbose=False).input_ids
        return ids

    def tokenize_with_offsets(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Token ids of many texts, without special tokens, and where each token begins and ends, in characters.

        Raises:
            BackboneError: If the backbone has no tokenizer, or one that does not know where its tokens are.
        """
        tokenizer = self.need_tokenizer()
        if not tokenizer.is_fast:
            raise BackboneError(
                f"The tokenizer of {self.name} does not say where in a text its tokens stand, which tags and spans"
                " need; load it with a fast one (tokenizer.json)."
            )
        made = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(zip(made.input_ids, made.offset_mapping, strict=True))

    @functools.cached_property
    def special_ends(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and behind a whole input, as token ids."""
        return self._ends(as_targets=False)

    @functools.cached_property
    def target_ends(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and behind a whole target of an encoder-decoder, as token ids."""
        return self._ends(as_targets=True)

    def _ends(self, *, as_targets: bool) -> tuple[list[int], list[int]]:
        (bare,), (whole,) = (
            self.tokenize_all([":"], special=special, as_targets=as_targets) for special in (False, True)
        )
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return whole[:start], whole[start + len(bare) :]
        return [], []

    def need_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer.

        Raises:
            BackboneError: If the backbone has none.
        """
        if self.tokenizer is None:
            raise BackboneError(
                f"{self.name} has no tokenizer: pass token ids, or Backbone.from_model(model, tokenizer)."
            )
        return self.tokenizer

    def common_tokens(self, count: int) -> list[int]:
        """The tokenizer's first `count` real entries, which are its most common pieces (Lester et al. 2021, §3.2).

        Special, added and single-byte pieces are no real entries. Without a tokenizer, the first rows of the table.
        """
        if self.tokenizer is None:
            return list(range(min(count, self.spec.vocab)))
        unreal = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        pieces = sorted((index, piece) for piece, index in self.tokenizer.get_vocab().items())
        real = [
            i for i, piece in pieces if i not in unreal and i < self.spec.vocab and not _BYTE_PIECE.fullmatch(piece)
        ]
        return real[:count]

    @functools.cached_property
    def head(self) -> ClassificationHead:
        """The classification head of an encoder-only model, by itself.

        Raises:
            UnsupportedError: If the model is of another kind, or head and base cannot be told apart.
        """
        if self.spec.kind != "encoder-only":
            raise UnsupportedError(
                f"{self.name} is {self.spec.kind} and has no classification head; it answers in label words: drop head."
            )
        if not self.classifies:
            raise UnsupportedError(
                f"{self.name} has no classification head; say how many classes a new head shall have: load it with"
                " classes=N."
            )
        return ClassificationHead(self.model)

    def start_head(self, classes: int | None, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Weights of a new classification head, by name.

        Args:
            classes: How many; as many as the model's own head if None.
            generator: The only source of randomness.

        Raises:
            UnsupportedError: As of `head`.
        """
        return self.head.start(classes or self.head.classes, generator)

    def start_token_head(self, kind: TokenHead, outputs: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Weights of a new head over an encoder's last layer, by name.

        Args:
            kind: What it reads off each token.
            outputs: How many numbers for each token.
            generator: The only source of randomness.

        Raises:
            UnsupportedError: If the model is no encoder.
        """
        if self.spec.kind != "encoder-only":
            raise UnsupportedError(
                f"{self.name} is {self.spec.kind} and takes no head over tokens; it answers in text: drop head, or load"
                " an encoder such as BERT."
            )
        return start_token_head(kind, self.model.config.get_text_config().hidden_size, outputs, generator)

    def call(
        self, load: Carried | None = None, *, checkpointing: bool = False, headless: bool = False, **inputs: Any
    ) -> Any:
        """The model's forward pass, or that of its base without the head, with what a call carries to its layers."""
        recompute = checkpointed(self.model) if checkpointing else contextlib.nullcontext()
        with carrying(load), recompute:
            return self.model.base_model(**inputs) if headless else self.model(**inputs)

    def record(
        self,
        embeddings: Float[Tensor, "prompts prompt dim"],
        mask: Bool[Tensor, "prompts prompt"],
        *,
        checkpointing: bool = False,
    ) -> dict[Site, tuple[Tensor, Tensor]]:
        """Run rows of embeddings through the layers and note each layer's keys and values.

        Args:
            embeddings: In the backbone's dtype and device, padded on the right.
            mask: True where a row is real.
            checkpointing: Whether layers are recomputed in the backward pass.

        Returns:
            By site, keys and values `[prompts, kv_heads, prompt, head_dim]`. An encoder-decoder runs the rows
            through its encoder and, as a target, through its decoder.

        Raises:
            UnsupportedError: If the model's attention does not go through the attention interface.
        """
        if not self.sites:
            raise UnsupportedError(f"{self.name}: nothing can be recorded, because {self.spec.no_prefix}.")
        recorder = Recorder()
        inputs: dict[str, Any] = {"inputs_embeds": embeddings, "attention_mask": mask}
        if self.spec.kind == "encoder-decoder":
            inputs |= {"decoder_inputs_embeds": embeddings * self._target_factor, "decoder_attention_mask": mask}
        if self.spec.kind != "encoder-only":
            inputs["use_cache"] = False
        if self.spec.kind == "decoder-only" and self.takes_positions:
            inputs["position_ids"] = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape[0], -1)
        nowhere = torch.zeros_like(mask)
        nowhere[:, :1] = True  # the head is not wanted: one position a row keeps it cheap
        load = Carried(recorder=recorder, kept=nowhere if self.head_is_separable else None)
        output = self.call(load, checkpointing=checkpointing, **inputs)[0]
        parts = [part for _, keys, values in recorder.calls for part in (keys, values)]
        if self.sharded and output.requires_grad:
            parts = sharding.reached_together(parts, output)
        device = embeddings.device  # beside the other prompts' keys and values, wherever the layer stands
        modules = [module for module, _, _ in recorder.calls]
        return {
            self.sites[module]: (keys.to(device), values.to(device))
            for module, keys, values in zip(modules, parts[::2], parts[1::2], strict=True)
        }


def _set_attention(model: PreTrainedModel) -> bool:
    """Route the model's attention through softprompt's function; False if the model does not allow it."""
    kernel = str(model.config.get_text_config()._attn_implementation)
    if kernel in map(wrapped, KERNELS):
        return True
    if not model._can_set_attn_implementation():
        return False
    if kernel not in KERNELS:
        raise BackboneError(
            f"The model runs on the attention kernel {kernel!r}, which takes no masks of prompts; load it with "
            "attn_implementation='sdpa' (or 'eager')."
        )
    model.set_attn_implementation(wrapped(kernel))
    return True
