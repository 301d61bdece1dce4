"""Backbone, prompts and a batch become loss, scores and text: the two passes, and the probe that chooses."""

from softprompt.conditioning.losses import Output
from softprompt.conditioning.probe import Verdict, probe
from softprompt.conditioning.prompted import Prompted

__all__ = ["Output", "Prompted", "Verdict", "probe"]
