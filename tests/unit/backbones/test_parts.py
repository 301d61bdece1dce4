"""What a process would hold of a sharded model, by hand; what two hold is in `tests/training`."""

from __future__ import annotations

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, XLNetConfig, XLNetLMHeadModel

from softprompt.backbones.parts import Parts, parts_of
from softprompt.errors import UnsupportedError

WIDTH, INNER, VOCAB = 8, 10, 7
LAYER = 4 * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER + 2 * WIDTH)
AROUND = 4 * (2 * VOCAB * WIDTH + WIDTH)


def llama() -> LlamaForCausalLM:
    shape = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": 3, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, **shape))


def test_two_processes_share_rows_and_gather_layers():
    odd = 2 * 4 * WIDTH  # two tables of seven rows, of which each process has four
    model = llama()
    assert parts_of(model, 2) == Parts(
        kept=(3 * LAYER + AROUND + odd) // 2,
        buffers=sum(buffer.nbytes for buffer in model.buffers()),
        gathered=AROUND + odd + 2 * LAYER,
        gathering=2 * (AROUND + odd) + LAYER,
    )


def test_what_is_in_cpu_memory_comes_before_it_is_gathered():
    here, away = (parts_of(llama(), 2, offload=offload) for offload in (False, True))
    assert away.kept == here.kept
    assert away.gathered - here.gathered == LAYER // 2


def test_gloo_puts_a_layer_together_once_more():
    here, other = (parts_of(llama(), 2, gloo=gloo) for gloo in (False, True))
    assert (other.gathered - here.gathered, other.gathering - here.gathering) == (LAYER, LAYER)


def test_a_model_without_layers_is_not_spread():
    with pytest.raises(UnsupportedError, match="XLNetLMHeadModel has no layers that could be gathered one by one"):
        parts_of(XLNetLMHeadModel(XLNetConfig(n_layer=1, d_model=8, n_head=2, d_inner=8, vocab_size=9)), 2)
