"""The zoo: a tiny random model of every family, the same in every run, in which attention matters.

The initial weights of a fresh model make attention nearly uniform, so that a wrong mask or position would change
next to nothing. Weights are drawn again, larger; `test_zoo.py` shows that mistakes would be seen.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from softprompt.backbones import Backbone

VOCAB, DIM, POSITIONS, WINDOW, CHUNK = 97, 32, 64, 6, 8
PAD, END, START = 0, 1, 2
CLASSES = 3

TEXT = """a small model reads long texts and writes short ones the best film of the year was the worst one too
we saw it again and again and never grew tired nothing about this book is good or bad it is only dull"""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of models, and what is known of it.

    Attributes:
        name: What to call it.
        kind: As in a backbone's spec.
        config: Makes its configuration.
        shared: Whether the shared-prompt pass is exact on it.
        prefix: Whether it can take a prefix.
        window: Whether some of its layers see a window only.
        embedding_scale: What its encoder multiplies embedded tokens by.
        static_cache: Whether transformers can give it a static cache; it cannot where a decoder is the deeper stack.
        weights_scale: How much larger than one over the root of the width its weights are.
    """

    name: str
    kind: str
    config: Callable[[], PreTrainedConfig]
    shared: bool = False
    prefix: bool = True
    window: bool = False
    embedding_scale: float = 1.0
    weights_scale: float = 1.5
    static_cache: bool = True

    def __str__(self) -> str:
        return self.name


IDS = {"vocab_size": VOCAB, "pad_token_id": PAD, "eos_token_id": END, "bos_token_id": START}
PLAIN = {
    **IDS, "hidden_size": DIM, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS, "attention_dropout": 0.2,
}  # fmt: skip
GROUPED = {**PLAIN, "num_key_value_heads": 2}
GPT = {**IDS, "n_positions": POSITIONS, "n_embd": DIM, "n_layer": 3, "n_head": 4}
T5 = {
    **IDS, "d_model": DIM, "d_kv": 12, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4,
    "decoder_start_token_id": PAD, "dropout_rate": 0.2, "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
}  # fmt: skip
BART = {
    **IDS, "d_model": DIM, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": POSITIONS,
    "decoder_start_token_id": PAD, "forced_eos_token_id": None, "dropout": 0.2, "attention_dropout": 0.2,
}  # fmt: skip
SCALED = {**BART, "scale_embedding": True, "decoder_vocab_size": VOCAB}
BERT = {
    **IDS, "hidden_size": DIM, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_labels": CLASSES, "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2,
}  # fmt: skip


def _decoder(name: str, kind: type[PreTrainedConfig], settings: dict[str, Any], **facts: Any) -> Family:
    facts = {"shared": True, **facts}
    return Family(name=name, kind="decoder-only", config=functools.partial(kind, **settings), **facts)


def _translator(name: str, kind: type[PreTrainedConfig], settings: dict[str, Any], **facts: Any) -> Family:
    return Family(name=name, kind="encoder-decoder", config=functools.partial(kind, **settings), **facts)


def _classifier(name: str, kind: type[PreTrainedConfig], settings: dict[str, Any], **facts: Any) -> Family:
    return Family(name=name, kind="encoder-only", config=functools.partial(kind, **settings), **facts)


FAMILIES = (
    _decoder("gpt2", tf.GPT2Config, {**GPT, "resid_pdrop": 0.2, "embd_pdrop": 0.2, "attn_pdrop": 0.2}),
    _decoder("gpt-bigcode", tf.GPTBigCodeConfig, {**GPT, "multi_query": True, "attn_pdrop": 0.2}),
    _decoder("llama", tf.LlamaConfig, GROUPED),
    _decoder("qwen3", tf.Qwen3Config, {**GROUPED, "head_dim": 16}),
    _decoder("mistral", tf.MistralConfig, {**GROUPED, "sliding_window": WINDOW}, window=True),
    _decoder(
        "gemma2",
        tf.Gemma2Config,
        {
            **GROUPED,
            "head_dim": 16,
            "sliding_window": WINDOW,
            "attn_implementation": "eager",
            "query_pre_attn_scalar": 16,
        },
        window=True,
    ),
    _decoder(
        "gemma3",
        tf.Gemma3TextConfig,
        {
            **GROUPED,
            "head_dim": 16,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        },
        window=True,
    ),
    _decoder(
        "opt",
        tf.OPTConfig,
        {
            **IDS,
            "hidden_size": DIM,
            "ffn_dim": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": POSITIONS,
            "word_embed_proj_dim": 16,
            "dropout": 0.2,
            "attention_dropout": 0.2,
        },
    ),
    _decoder("gpt-neox", tf.GPTNeoXConfig, {**PLAIN, "hidden_dropout": 0.2}),
    _decoder("phi", tf.PhiConfig, {**PLAIN, "resid_pdrop": 0.2, "embd_pdrop": 0.2}),
    _decoder("stablelm", tf.StableLmConfig, GROUPED),
    _decoder(
        "llama4",
        tf.Llama4TextConfig,
        {
            **GROUPED,
            "head_dim": 8,
            "intermediate_size_mlp": 48,
            "num_local_experts": 2,
            "attention_chunk_size": CHUNK,
            "layer_types": ["chunked_attention", "chunked_attention", "full_attention"],
            "no_rope_layers": [1, 1, 0],
        },
        shared=False,
        prefix=False,
    ),
    _decoder(
        "phimoe",
        tf.PhimoeConfig,
        {**GROUPED, "sliding_window": WINDOW, "num_local_experts": 2},
        window=True,
    ),
    _decoder(
        "bloom",
        tf.BloomConfig,
        {**IDS, "hidden_size": DIM, "n_layer": 3, "n_head": 4, "hidden_dropout": 0.2, "attention_dropout": 0.2},
        shared=False,
        prefix=False,
    ),
    _translator("t5", tf.T5Config, T5),
    _translator("t5-v1.1", tf.T5Config, {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    _translator("mt5", tf.MT5Config, {**T5, "num_layers": 2, "num_decoder_layers": 3}, static_cache=False),
    _translator("bart", tf.BartConfig, BART),
    _translator("pegasus", tf.PegasusConfig, SCALED, embedding_scale=DIM**0.5),
    _translator("marian", tf.MarianConfig, SCALED, embedding_scale=DIM**0.5),
    _classifier("bert", tf.BertConfig, {**BERT, "max_position_embeddings": POSITIONS}),
    _classifier("roberta", tf.RobertaConfig, {**BERT, "max_position_embeddings": POSITIONS + 1}),
)
BY_NAME = {family.name: family for family in FAMILIES}

AUTO = {
    "decoder-only": tf.AutoModelForCausalLM,
    "encoder-decoder": tf.AutoModelForSeq2SeqLM,
    "encoder-only": tf.AutoModelForSequenceClassification,
}


def of_kind(*kinds: str) -> list[Family]:
    """The families of some kinds."""
    return [family for family in FAMILIES if family.kind in kinds]


@functools.cache
def stock(name: str) -> PreTrainedModel:
    """The model as transformers makes it; nothing of softprompt has touched it."""
    family = BY_NAME[name]
    torch.manual_seed(0)
    model = AUTO[family.kind].from_config(family.config())
    _draw(model, family)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def _draw(model: PreTrainedModel, family: Family) -> None:
    generator = torch.Generator().manual_seed(1)
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if id(parameter) in tables:
            parameter.copy_(0.2 * noise)
        elif parameter.ndim > 1:
            std = family.weights_scale / DIM**0.5
            unscaled = family.config().model_type in ("t5", "mt5") and name.endswith((".q.weight", ".k.weight"))
            parameter.copy_(noise * (0.5 * std if unscaled else std))  # T5 does not divide by the root of the width
        else:
            parameter.add_(0.1 * noise)


@functools.cache
def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A small tokenizer of word pieces, whose words begin with a blank."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    made.decoder = decoders.Metaspace(prepend_scheme="never")
    specials = ["<pad>", "</s>", "<s>", "<unk>"]
    made.train_from_iterator([f" {TEXT} :"], trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=specials))
    whole = {"encoder-decoder": "$A </s>", "encoder-only": "<s> $A </s>"}.get(kind)
    if whole:
        made.post_processor = processors.TemplateProcessing(
            single=whole, special_tokens=[("</s>", END), ("<s>", START)]
        )
    names = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


@functools.cache
def backbone(name: str) -> Backbone:
    """The same model as a backbone; shared by all tests, which leave it as it is."""
    return fresh(name)


def fresh(name: str) -> Backbone:
    """A backbone of a test's own."""
    family = BY_NAME[name]
    return Backbone.from_model(copy.deepcopy(stock(name)), tokenizer(family.kind), name=f"tiny {name}")


def ids_of(families: Iterable[Family]) -> list[str]:
    """Names for pytest's list of parameters."""
    return [family.name for family in families]
