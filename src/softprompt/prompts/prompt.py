"""A soft prompt: what is learned, what it belongs to, and how it is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from softprompt.artefact import read_folder, write_folder
from softprompt.config import to_mapping
from softprompt.errors import ArtefactError, ConfigError
from softprompt.prompts import card, registry
from softprompt.prompts.parameters import DirectPrefix, DirectRows, Parameters, PromptTensors, WithHead, split_head

__all__ = ["SCHEMA_VERSION", "PromptInfo", "PromptTensors", "SoftPrompt"]

SCHEMA_VERSION = 1
_NAME = "prompt"


@dataclass(frozen=True, kw_only=True)
class PromptInfo:
    """What is known of a prompt besides its values; plain values only.

    Attributes:
        backbone: Name of the backbone that it was built for.
        fingerprint: That backbone's fingerprint, as a mapping; empty until an imported prompt is bound to a backbone.
        kind: That backbone's kind: `encoder-decoder`, `decoder-only` or `encoder-only`; None if it is not known.
        tokenizer: Digest of that backbone's tokenizer and chat template; None if it had none.
        task: Name of the task that it was trained on.
        format: The task's text format (templates, label words), applied again at inference.
        run: Settings of the training run, and how it ended: `status`, `reason`, and the step that the prompt is of.
        metrics: Scores by split and name.
        lineage: Where it came from: the prompts it started from, the format it was imported from.
    """

    backbone: str
    fingerprint: Mapping[str, str]
    kind: str | None = None
    tokenizer: str | None = None
    task: str | None = None
    format: Mapping[str, Any] | None = None
    run: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    lineage: tuple[str, ...] = ()


@final
class SoftPrompt(nn.Module):
    """A soft prompt: trainable parameters, the method that made them, and what they belong to.

    Called without arguments, it gives its tensors in float32; whoever applies it casts them.

    Attributes:
        parametrization: The trainable parameters.
        method: The method, a settings class registered in `softprompt.prompts.registry`.
        info: Backbone, task, run and metrics.
    """

    def __init__(self, parametrization: Parameters, method: registry.Method, info: PromptInfo) -> None:
        super().__init__()
        self.parametrization = parametrization
        self.method = method
        self.info = info

    def forward(self) -> PromptTensors:
        """The prompt's tensors, with gradients to its parameters."""
        tensors: PromptTensors = self.parametrization()
        return tensors

    @property
    def length(self) -> int:
        """Virtual tokens."""
        return self.method.length

    @property
    def placement(self) -> str:
        """Where it goes in an input: the name of a placement."""
        return self.method.placement

    @property
    def segments(self) -> tuple[int, ...]:
        """Virtual tokens in each part of it: one part, unless `placement="template"` divides it."""
        return tuple(getattr(self.method, "segments", None) or (self.length,))

    @property
    def layers(self) -> Sequence[int] | None:
        """To which layers of each stack a prefix gives keys and values, from 0 or, behind, from -1; None for all."""
        layers: Sequence[int] | None = getattr(self.method, "layers", None)
        return layers

    def num_parameters(self) -> int:
        """Values of the prompt as it is stored and applied, any reparameterisation computed away."""
        return sum(tensor.numel() for tensor in self().named().values())

    def num_trainable(self) -> int:
        """Values that training changes, those of a reparameterisation included."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def digest(self) -> str:
        """Hexadecimal SHA-256 of the method and the values as they are stored, whatever else is known of them."""
        described = [registry.name_of(self.method), to_mapping(self.method)]
        state = hashlib.sha256(json.dumps(described, default=str).encode())
        for name, value in sorted(self().named().items()):
            state.update(name.encode())
            state.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return state.hexdigest()

    def fold(self) -> SoftPrompt:
        """The same prompt with its tensors as direct parameters (Li & Liang 2021, §4.3: the MLP is dropped)."""
        return SoftPrompt(_direct(self().named()), self.method, self.info)

    def common(self) -> SoftPrompt | None:
        """What it shares with the prompts of other tasks, as a prompt of its own; None if nothing."""
        found = self.parametrization.common()
        return None if found is None else SoftPrompt(found, self.method, self.info)

    def with_info(self, **changes: Any) -> SoftPrompt:
        """The same parameters with other information, e.g. `metrics`."""
        return SoftPrompt(self.parametrization, self.method, dataclasses.replace(self.info, **changes))

    def save(self, path: str | Path) -> Path:
        """Write the prompt as a folder: `prompt.safetensors`, `prompt.json`, `README.md`; atomically.

        Args:
            path: The folder; an older prompt there is replaced.

        Returns:
            The folder.

        Raises:
            ArtefactError: If something else is there, or a value is NaN or infinite.
        """
        tensors, metadata = self.to_parts()
        return write_folder(path, _NAME, tensors, metadata, {"README.md": card.render(Path(path).name, metadata)})

    def to_parts(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a folder holds of it: tensors by name, and plain values.

        Raises:
            ArtefactError: If a value is NaN or infinite.
        """
        tensors = self().named()
        for name, value in tensors.items():
            if not value.isfinite().all():
                raise ArtefactError(f"The prompt's {name} holds NaN or infinite values; it is not saved.")
        metadata = {
            "schema_version": SCHEMA_VERSION,
            "method": {"name": registry.name_of(self.method), **to_mapping(self.method)},
            "parameters": self.num_parameters(),
            **to_mapping(self.info),
        }
        return tensors, metadata

    @classmethod
    def load(cls, path: str | Path) -> SoftPrompt:
        """Read a prompt that `save` wrote. Whether it fits a backbone is checked when it is applied to one.

        Raises:
            ArtefactError: If the folder is missing, damaged, foreign, or of a newer schema.
        """
        return cls.from_parts(*read_folder(path, _NAME), path)

    @classmethod
    def from_parts(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], path: str | Path, told_by: str = "prompt.json"
    ) -> SoftPrompt:
        """A prompt of what `to_parts` gave.

        Args:
            tensors: The tensors by name.
            metadata: The plain values.
            path: The folder that they are from, for errors to name.
            told_by: Where in it the plain values stand.

        Raises:
            ArtefactError: If the two do not belong together, or are of a newer schema.
        """
        version = metadata.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ArtefactError(
                f"{path} has schema version {version!r}; this softprompt reads {SCHEMA_VERSION}. Update softprompt."
            )
        try:
            settings = {**metadata["method"]}
            method = registry.find(settings.pop("name")).from_settings(settings)
            known = {f.name for f in dataclasses.fields(PromptInfo)}
            values = {key: value for key, value in metadata.items() if key in known}
            info = PromptInfo(**{**values, "lineage": tuple(values.get("lineage", ()))})
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(f"{path}/{told_by} is incomplete ({error!r}); copy the folder again.") from None
        except ConfigError as error:
            raise ArtefactError(f"{path}/{told_by} names what this softprompt cannot read: {error}") from None
        prompt = cls(_direct(tensors, path), method, info)
        if prompt().length != method.length:
            raise ArtefactError(
                f"{path} holds {prompt().length} virtual tokens, but its {told_by} says {method.length}; the two "
                "files are of different prompts."
            )
        return prompt


def _direct(tensors: Mapping[str, Tensor], path: str | Path = "The prompt") -> Parameters:
    if kinds := {str(value.dtype) for value in tensors.values() if not value.is_floating_point()}:
        raise ArtefactError(f"{path} holds values of {', '.join(sorted(kinds))}; expected floating-point numbers.")
    inner, head = split_head(tensors)
    if head:
        return WithHead(_direct(inner, path), head)
    if set(tensors) == {"rows"} and tensors["rows"].ndim == 2:
        return DirectRows(tensors["rows"].detach())
    shaped = all(
        name.startswith("keys_values.") and value.ndim == 5 and value.shape[1] == 2 for name, value in tensors.items()
    )
    if tensors and shaped and len({value.shape[3] for value in tensors.values()}) == 1:
        stacks = PromptTensors.from_named(tensors).keys_values
        return DirectPrefix({stack: value.detach() for stack, value in stacks.items()})
    shapes = {name: list(value.shape) for name, value in tensors.items()}
    raise ArtefactError(
        f"{path}: expected 'rows' [length, dim] or 'keys_values.STACK' [layers, 2, kv_heads, length, head_dim], "
        "perhaps beside a head's weights, "
        f"found {shapes}."
    )
