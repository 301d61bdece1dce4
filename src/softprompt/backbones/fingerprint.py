"""Which model a prompt belongs to: a digest of its architecture and a sketch of its weights.

A prompt is meaningless on other weights, and two models can share a name. The sketch holds a few values of
every parameter, so fine-tuned siblings differ; it is compared with the tolerance of bfloat16, so the same
model matches itself in every dtype.

The configuration is left out but for what the weights' shapes do not show of the architecture. Users set padding
ids and output flags, and every release of transformers adds keys and renames some: a digest of it all made prompts
unreadable on their own model. Settings that come with a checkpoint (such as a rotary base) are known by its weights.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from softprompt.backbones.adapters import computed_weights
from softprompt.backbones.sharding import sample_values
from softprompt.errors import ArtefactError, UnsupportedError

__all__ = ["Fingerprint", "fingerprint"]

_VALUES_PER_PARAMETER = 4


@dataclass(frozen=True)
class Fingerprint:
    """What tells one backbone from another.

    Attributes:
        architecture: Hexadecimal digest of the model's type, its attention heads and every parameter's shape.
        weights: A fixed sample of every parameter, as base64 of bfloat16 values.
    """

    architecture: str
    weights: str

    @property
    def short(self) -> str:
        """Eight characters of each part, for messages and file names."""
        return f"{self.architecture[:8]}-{hashlib.sha256(self.weights.encode()).hexdigest()[:8]}"

    def matches(self, other: Fingerprint) -> bool:
        """Whether both are of one model, whatever dtypes it was loaded in."""
        mine, theirs = _decode(self.weights), _decode(other.weights)
        if self.architecture != other.architecture or mine.shape != theirs.shape:
            return False
        return bool(torch.isclose(mine, theirs, rtol=2**-6, atol=1e-6).all())

    def to_mapping(self) -> dict[str, str]:
        """As plain values."""
        return {"architecture": self.architecture, "weights": self.weights}

    def is_of(self, values: Mapping[str, Any]) -> bool:
        """Whether what `to_mapping` wrote is of the same model.

        Raises:
            ArtefactError: If a part of it is missing.
        """
        return self.matches(Fingerprint.from_mapping(values))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Fingerprint:
        """Read what `to_mapping` wrote.

        Raises:
            ArtefactError: If a part is missing.
        """
        try:
            return cls(architecture=str(values["architecture"]), weights=str(values["weights"]))
        except (KeyError, TypeError):
            raise ArtefactError("A fingerprint needs 'architecture' and 'weights'; the artefact is damaged.") from None


@torch.no_grad()
def fingerprint(model: PreTrainedModel) -> Fingerprint:
    """Compute a model's fingerprint; costs a few values of every parameter.

    Raises:
        UnsupportedError: If its weights were quantised by another.
    """
    config = model.config.get_text_config()
    heads = [getattr(config, name, None) for name in ("num_attention_heads", "num_key_value_heads")]
    weights = list(computed_weights(model))  # which has refusals of its own
    try:
        sampled = sample_values(weights, [_places(weight.numel()) for weight in weights])
    except NotImplementedError as error:  # of a tensor that is none of torch's own
        raise UnsupportedError(
            f"{type(model).__name__} keeps its weights in a form that tells nothing of the model that they were; load "
            "it by Backbone.from_pretrained(…, quantize=…)."
        ) from error
    shapes = [list(weight.shape) for weight in weights]  # not their names, which releases change
    architecture = json.dumps([model.config.model_type, heads, shapes])
    values = torch.cat(sampled).to(torch.bfloat16)
    data = values.view(torch.int16).numpy().astype("<i2").tobytes()
    return Fingerprint(hashlib.sha256(architecture.encode()).hexdigest()[:32], base64.b64encode(data).decode())


def _places(count: int) -> Tensor:
    """Indices of the values that are sampled of so many."""
    steps = torch.linspace(0, 1, _VALUES_PER_PARAMETER + 2, dtype=torch.float64)[1:-1]
    return (steps * (count - 1)).long()


def _decode(weights: str) -> Tensor:
    data = bytearray(base64.b64decode(weights))
    return torch.frombuffer(data, dtype=torch.int16).view(torch.bfloat16).float() if data else torch.empty(0)
