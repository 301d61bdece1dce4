"""Tiny random backbones with a word-level tokenizer, for tests of what works on texts."""

from __future__ import annotations

import functools

import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.prompts import PrefixTuning, PromptTuning

SPECIAL = ["<pad>", "</s>", "<unk>", "<s>"]
TEXT = """: good bad great terrible film book plot song the a was is it very so boring funny long short sad happy
review topic sport travel food money name place pub cheap city centre river near serves fish in and Answer { } |"""
WORDS = TEXT.split()
PAD, END, START = 0, 1, 3
CLASSES = 2
POSITIONS = 96


def word_tokenizer(kind: str, *, end: str = "</s>") -> tf.PreTrainedTokenizerFast:
    """Whole words; an end token behind inputs of an encoder-decoder, both ends around those of an encoder."""
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(SPECIAL + WORDS)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(":", "isolated")]
    )
    around = {"encoder-decoder": "$A </s>", "encoder-only": "<s> $A </s>", "decoder-only": "$A"}[kind]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[("</s>", END), ("<s>", START)]
    )
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token=end,
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


@functools.cache
def tiny_backbone(kind: str) -> Backbone:
    """A random model of a kind, the same in every run; large weights, so that every token matters."""
    ids = {"vocab_size": len(SPECIAL + WORDS), "pad_token_id": PAD, "eos_token_id": END}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        match kind:
            case "encoder-decoder":
                model: tf.PreTrainedModel = tf.T5ForConditionalGeneration(
                    tf.T5Config(
                        **ids, d_model=24, d_kv=6, d_ff=32, num_layers=2, num_heads=4, decoder_start_token_id=PAD
                    )
                )
            case "decoder-only":
                model = tf.GPT2LMHeadModel(
                    tf.GPT2Config(**ids, bos_token_id=END, n_positions=POSITIONS, n_embd=24, n_layer=2, n_head=4)
                )
            case _:
                model = tf.BertForSequenceClassification(
                    tf.BertConfig(
                        **ids,
                        hidden_size=24,
                        intermediate_size=32,
                        num_hidden_layers=2,
                        num_attention_heads=4,
                        max_position_embeddings=POSITIONS,
                        num_labels=CLASSES,
                    )
                )
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.35)
    return Backbone.from_model(model, word_tokenizer(kind), name=f"tiny {kind}")


def tiny_prompted(kind: str) -> Prompted:
    """A backbone with three prompts: `rows` and `longer` at the embedding, `keys` at every layer."""
    backbone = tiny_backbone(kind)
    methods = {
        "rows": PromptTuning(length=3, init="vocab"),
        "longer": PromptTuning(length=7, init="random"),
        "keys": PrefixTuning(length=4, hidden=None, init="vocab"),
    }
    return Prompted(backbone, {name: method.build(backbone, seed=5) for name, method in methods.items()})
