"""A cache that begins with prompts: it grows in place, counts the text alone, and is cut, reordered and repeated."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

from softprompt.backbones import Backbone
from softprompt.backbones.prompt_cache import PromptedLayer
from softprompt.conditioning import Prompted
from softprompt.errors import ShapeError
from softprompt.prompts import PrefixTuning, PromptTuning

PROMPT, HEADS, DIM = 3, 2, 4


def states(batch: int, columns: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, batch, HEADS, columns, DIM, generator=generator)
    return keys, values


def layer(rows=(0, 1), room: int = 0) -> tuple[PromptedLayer, torch.Tensor]:
    keys, values = states(2, PROMPT, 0)
    return PromptedLayer(keys, values, torch.tensor(rows), room=room), keys


def test_a_text_stands_behind_each_rows_prompt_and_counts_alone():
    cache, bank = layer(rows=(1, 0, 1))
    assert cache.get_seq_length() == 0
    first, second = states(3, 5, 1), states(3, 1, 2)
    assert cache.update(*first)[0].equal(torch.cat([bank[[1, 0, 1]], first[0]], dim=2))
    assert cache.get_mask_sizes(1) == (6, 0)
    keys, values = cache.update(*second)
    assert keys.equal(torch.cat([bank[[1, 0, 1]], first[0], second[0]], dim=2))
    assert values[:, :, -1:].equal(second[1])
    assert cache.get_seq_length() == 6


def test_beams_repeat_the_rows_of_prompts():
    cache, bank = layer()
    keys, _ = cache.update(*states(6, 2, 1))
    assert keys[:, :, :PROMPT].equal(bank[[0, 0, 0, 1, 1, 1]])
    with pytest.raises(ShapeError, match="no multiple"):
        layer()[0].update(*states(3, 2, 1))


@pytest.mark.parametrize("room", [0, 40])
def test_it_grows_in_place(room):
    cache, _ = layer(room=room)
    cache.update(*states(2, 5, 1))
    places = set()
    for step in range(40):
        keys, _ = cache.update(*states(2, 1, step))
        places.add(keys.data_ptr())
    assert len(places) == (1 if room else 2)
    assert cache.get_seq_length() == 45


def test_what_transformers_does_to_a_cache_is_seen():
    cache, bank = layer()
    text = states(2, 5, 1)
    cache.update(*text)
    cache.reorder_cache(torch.tensor([1, 1]))
    cache.crop(-2)
    assert cache.get_seq_length() == 3
    new = states(2, 1, 3)
    keys, _ = cache.update(*new)
    assert keys.equal(torch.cat([bank[[1, 1]], text[0][[1, 1], :, :3], new[0]], dim=2))
    cache.batch_select_indices(torch.tensor([1]))
    cache.batch_repeat_interleave(2)
    assert cache.update(*states(2, 1, 4))[0].shape == (2, HEADS, PROMPT + 5, DIM)
    cache.reset()
    assert cache.get_seq_length() == 0
    assert cache.update(*text)[0].equal(torch.cat([bank, text[0]], dim=2))


def test_layers_that_keep_something_else_are_refused():
    cache, _ = layer()
    with pytest.raises(ShapeError, match="is to hold"):
        cache.update(torch.zeros(2, 1, 5, DIM), torch.zeros(2, 1, 5, DIM))


def shared_layers() -> Backbone:
    """Gemma 3n's last layers have no keys and values of their own, but prefixes of their own."""
    torch.manual_seed(0)
    kinds = ["full_attention"] * 4
    config = tf.Gemma3nTextConfig(
        vocab_size=64, hidden_size=32, intermediate_size=[48] * 4, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, num_kv_shared_layers=2, layer_types=kinds,
        hidden_size_per_layer_input=8, vocab_size_per_layer_input=64, laurel_rank=4, altup_num_inputs=2,
        activation_sparsity_pattern=None, pad_token_id=0, eos_token_id=63, bos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        model = tf.AutoModelForCausalLM.from_config(config).float().eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return Backbone.from_model(model)


def test_layers_that_share_keys_and_values_have_prefixes_of_their_own():
    backbone = shared_layers()
    prompts = {
        "whole": PrefixTuning(length=5, hidden=None).build(backbone, seed=0),
        "last": PrefixTuning(length=3, hidden=None, layers=[-1]).build(backbone, seed=1),
        "rows": PromptTuning(length=4, init="vocab").build(backbone, seed=2),
    }
    for name in ("whole", "last"):
        for parameter in prompts[name].parameters():
            torch.nn.init.normal_(parameter)
    model = Prompted(backbone, prompts)
    ids = torch.randint(3, 60, (4, 6), generator=torch.Generator().manual_seed(1))
    for names in (["whole", "last", None, "rows"], ["whole"] * 4, ["last", None, "last", "last"]):
        asked = {"input_ids": ids, "prompts": names, "max_new_tokens": 8, "do_sample": False}
        assert model.generate(**asked).equal(model.generate(**asked, use_cache=False))
    assert not model.may_join(["whole"])


def test_a_returned_cache_answers_a_second_turn():
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0, eos_token_id=63,
    )  # fmt: skip
    backbone = Backbone.from_model(tf.LlamaForCausalLM(config).eval())
    model = Prompted(backbone, {"p": PromptTuning(length=4, init="vocab").build(backbone, seed=0)})
    ids = torch.randint(3, 60, (1, 6), generator=torch.Generator().manual_seed(1))
    options = {"prompts": "p", "max_new_tokens": 4, "do_sample": False, "return_dict_in_generate": True}
    first = model.generate(input_ids=ids, **options)
    longer = torch.cat([first.sequences, torch.tensor([[7, 8, 9]])], dim=1)
    again = model.generate(input_ids=longer, **{**options, "past_key_values": first.past_key_values})
    assert again.sequences.equal(model.generate(input_ids=longer, **options).sequences)
