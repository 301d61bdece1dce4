"""Giving an imported prompt the backbone that it belongs to."""

from __future__ import annotations

from softprompt.backbones import Backbone, Fingerprint
from softprompt.backbones.fitting import check_fit
from softprompt.errors import MismatchError
from softprompt.prompts import SoftPrompt

__all__ = ["bind"]


def bind(prompt: SoftPrompt, backbone: Backbone) -> SoftPrompt:
    """Say which backbone a prompt belongs to, if all that is known of both agrees.

    Other libraries' checkpoints name their model, but hold nothing to recognise it by. Who binds a prompt
    vouches that the weights are the ones it was trained on; only its shapes can be checked.

    Args:
        prompt: A prompt that is bound to no backbone, or to this one.
        backbone: The model that it was trained on.

    Returns:
        The same parameters with the backbone's name, kind, fingerprint and tokenizer digest.

    Raises:
        MismatchError: If the prompt is bound to another backbone, or is for another kind or of other shapes.
        UnsupportedError: If it is a prefix, and the backbone's layers cannot be given keys and values.
    """
    info, spec = prompt.info, backbone.spec
    if info.fingerprint and not Fingerprint.from_mapping(info.fingerprint).matches(backbone.fingerprint):
        raise MismatchError(
            f"The prompt is bound to {info.backbone}, which is another model than {backbone.name}; a prompt cannot be "
            "moved, so load the backbone that it was made for."
        )
    if info.kind is not None and info.kind != spec.kind:
        raise MismatchError(
            f"The prompt is for a model of kind {info.kind} ({info.backbone}), but {backbone.name} is {spec.kind}; "
            "load the backbone that it was made for."
        )
    tensors = prompt()
    check_fit(
        spec,
        tensors.rows,
        tensors.keys_values,
        layers=prompt.layers,
        prompt=f"The prompt for {info.backbone}",
        backbone=backbone.name,
        no_prefix=spec.no_prefix,
    )
    return prompt.with_info(
        backbone=backbone.name,
        fingerprint=backbone.fingerprint.to_mapping(),
        kind=spec.kind,
        tokenizer=backbone.tokenizer_digest,
    )
