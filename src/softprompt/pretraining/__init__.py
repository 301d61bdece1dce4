"""Small backbones from raw text: tokenizer, objectives, architectures, and the trainer that joins them."""

from softprompt.pretraining.checking import check_backbone
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.trainer import pretrain

__all__ = ["PretrainConfig", "check_backbone", "pretrain"]
