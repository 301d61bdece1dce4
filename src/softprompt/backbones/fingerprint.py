"""Which model a prompt belongs to: a digest of the configuration and a sketch of the weights.

A prompt is meaningless on other weights, and two models can share a name. The sketch holds a few values of
every parameter, so fine-tuned siblings differ; it is compared with the tolerance of bfloat16, so the same
model matches itself in every dtype.
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

from softprompt.errors import ArtefactError

__all__ = ["Fingerprint", "fingerprint"]

_VALUES_PER_PARAMETER = 4
_VOLATILE = (
    "_name_or_path", "architectures", "attn_implementation", "dtype", "experts_implementation", "id2label",
    "label2id", "quantization_config", "torch_dtype", "transformers_version", "use_cache",
)  # fmt: skip


@dataclass(frozen=True)
class Fingerprint:
    """What tells one backbone from another.

    Attributes:
        config: Hexadecimal digest of the configuration, without what does not change the function.
        weights: A fixed sample of every parameter, as base64 of bfloat16 values.
    """

    config: str
    weights: str

    @property
    def short(self) -> str:
        """Eight characters of each part, for messages and file names."""
        return f"{self.config[:8]}-{hashlib.sha256(self.weights.encode()).hexdigest()[:8]}"

    def matches(self, other: Fingerprint) -> bool:
        """Whether both are of one model, whatever dtypes it was loaded in."""
        mine, theirs = _decode(self.weights), _decode(other.weights)
        if self.config != other.config or mine.shape != theirs.shape:
            return False
        return bool(torch.isclose(mine, theirs, rtol=2**-6, atol=1e-6).all())

    def to_mapping(self) -> dict[str, str]:
        """As plain values."""
        return {"config": self.config, "weights": self.weights}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Fingerprint:
        """Read what `to_mapping` wrote.

        Raises:
            ArtefactError: If a part is missing.
        """
        try:
            return cls(config=str(values["config"]), weights=str(values["weights"]))
        except (KeyError, TypeError):
            raise ArtefactError("A fingerprint needs 'config' and 'weights'; the artefact is damaged.") from None


@torch.no_grad()
def fingerprint(model: PreTrainedModel) -> Fingerprint:
    """Compute a model's fingerprint; costs a few values of every parameter."""
    config = json.dumps(_stable(model.config.to_dict()), sort_keys=True, default=str)
    samples = [_sample(parameter) for _, parameter in sorted(model.named_parameters())]
    values = torch.cat(samples).to(torch.bfloat16)
    data = values.view(torch.int16).numpy().astype("<i2").tobytes()
    return Fingerprint(hashlib.sha256(config.encode()).hexdigest()[:32], base64.b64encode(data).decode())


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items() if key not in _VOLATILE}
    return value


def _sample(parameter: Tensor) -> Tensor:
    flat = parameter.detach().flatten()
    steps = torch.linspace(0, 1, _VALUES_PER_PARAMETER + 2, dtype=torch.float64)[1:-1]
    return flat[(steps * (flat.numel() - 1)).long().to(flat.device)].float().cpu()


def _decode(weights: str) -> Tensor:
    data = bytearray(base64.b64decode(weights))
    return torch.frombuffer(data, dtype=torch.int16).view(torch.bfloat16).float() if data else torch.empty(0)
