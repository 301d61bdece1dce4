"""Models as frozen backbones: loading, facts, the attention function."""

from softprompt.backbones.backbone import Backbone
from softprompt.backbones.fingerprint import Fingerprint
from softprompt.backbones.spec import BackboneSpec, StackSpec

__all__ = ["Backbone", "BackboneSpec", "Fingerprint", "StackSpec"]
