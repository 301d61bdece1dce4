"""PEFT's checkpoints give PEFT's logits in softprompt, and softprompt's give softprompt's in PEFT."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from tests.parity import tiny

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError
from softprompt.prompts import MultitaskPrompt, PrefixTuning, PromptTuning, PTuning
from softprompt.store import load_peft, save_peft

peft = pytest.importorskip("peft", reason="peft is a development dependency; without it there is nothing to compare")

# transformers deprecates a property that PEFT still reads.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LENGTH = 5
CAUSAL = {"gpt2": tiny.gpt2, "llama": tiny.llama}
TWO_SIDED = {"t5": tiny.t5, "bart": tiny.bart}
TASK_TYPE = {**dict.fromkeys(CAUSAL, "CAUSAL_LM"), **dict.fromkeys(TWO_SIDED, "SEQ_2_SEQ_LM")}


def prompt_tuning(name, **settings):
    return peft.PromptTuningConfig(task_type=TASK_TYPE[name], num_virtual_tokens=LENGTH, **settings)


def prefix_tuning(name, **settings):
    return peft.PrefixTuningConfig(task_type=TASK_TYPE[name], num_virtual_tokens=LENGTH, **settings)


def p_tuning(name, **settings):
    return peft.PromptEncoderConfig(
        task_type=TASK_TYPE[name], num_virtual_tokens=LENGTH, encoder_hidden_size=7, **settings
    )


CHECKPOINTS = {
    **{f"{name}, prompt": (name, prompt_tuning, {}) for name in TASK_TYPE},
    **{
        f"{name}, prompt, one submodule": (name, prompt_tuning, {"num_transformer_submodules": 1}) for name in TASK_TYPE
    },
    **{f"{name}, P-tuning": (name, p_tuning, {}) for name in TASK_TYPE},
    "gpt2, P-tuning by LSTM": ("gpt2", p_tuning, {"encoder_reparameterization_type": "LSTM", "encoder_dropout": 0.0}),
    **{f"{name}, prefix": (name, prefix_tuning, {}) for name in CAUSAL},
    **{
        f"{name}, projected prefix": (name, prefix_tuning, {"prefix_projection": True, "encoder_hidden_size": 7})
        for name in CAUSAL
    },
}


def model_of(name):
    return tiny.make({**CAUSAL, **TWO_SIDED}[name])


def theirs(name, model):
    """PEFT's logits of every real position, zero elsewhere."""
    ids, mask = tiny.batch()
    with torch.no_grad():
        if name in TWO_SIDED:
            return model(input_ids=ids, attention_mask=mask, decoder_input_ids=tiny.targets()).logits
        logits = model(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]
    return logits * mask[:, :, None]


def ours(name, backbone, prompt):
    """softprompt's logits of the same positions; of the bare backbone without a prompt."""
    ids, mask = tiny.batch()
    model = Prompted(backbone, {} if prompt is None else {"prompt": prompt})
    decoder = tiny.targets() if name in TWO_SIDED else None
    names = [None if prompt is None else "prompt"] * len(ids)
    with torch.no_grad():
        return model(ids, mask, prompts=names, decoder_input_ids=decoder).logits


def assert_same(got, want, bare):
    """Equal to rounding, where the prompt itself makes a difference that is a thousand times larger."""
    effect = (want - bare).abs().max()
    assert effect > 0.05
    assert (got - want).abs().max() < 1e-3 * effect
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_a_checkpoint_of_peft_gives_its_logits(checkpoint, tmp_path):
    name, config, settings = CHECKPOINTS[checkpoint]
    base = model_of(name)
    backbone = Backbone.from_model(copy.deepcopy(base))
    model = peft.get_peft_model(base, config(name, **settings)).eval()
    with torch.no_grad():
        for parameter in model.prompt_encoder.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(3))
    model.save_pretrained(tmp_path)
    prompt = load_peft(tmp_path, backbone)
    assert_same(ours(name, backbone, prompt), theirs(name, model), ours(name, backbone, None))


def asked_of(model, task):
    """PEFT's multitask model, asked of one task; it reads the decoder's inputs off labels alone."""

    def call(decoder_input_ids=None, **inputs):
        if decoder_input_ids is not None:
            inputs["labels"] = torch.cat([decoder_input_ids[:, 1:], decoder_input_ids[:, :1]], dim=1)
        return model(**inputs, task_ids=torch.tensor([task] * len(inputs["input_ids"])))

    return call


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_each_task_of_a_multitask_checkpoint_gives_its_logits(name, tmp_path, monkeypatch):
    started = tiny.targets()
    started[:, 0] = 0
    monkeypatch.setattr(tiny, "targets", lambda: started)
    base = model_of(name)
    backbone = Backbone.from_model(copy.deepcopy(base))
    config = peft.MultitaskPromptTuningConfig(
        task_type=TASK_TYPE[name], num_virtual_tokens=LENGTH, num_tasks=3, num_ranks=2, num_transformer_submodules=1
    )
    model = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for parameter in model.prompt_encoder.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(3))
    model.save_pretrained(tmp_path)
    for task in range(3):
        prompt = load_peft(tmp_path, backbone, task=task)
        want = theirs(name, asked_of(model, task))
        assert_same(ours(name, backbone, prompt), want, ours(name, backbone, None))
    with pytest.raises(ConfigError, match="holds the prompts of 3 tasks; say which"):
        load_peft(tmp_path, backbone)
    with pytest.raises(ConfigError, match=r"task=3: .* holds the tasks 0 to 2"):
        load_peft(tmp_path, backbone, task=3)


def build(name, method, backbone):
    """One of our prompts, with values that matter."""
    prompt = method.build(backbone, seed=4)
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(5))
    return prompt


OURS = {
    **{f"{name}, prompt": (name, PromptTuning(length=LENGTH, init="random")) for name in TASK_TYPE},
    **{f"{name}, P-tuning": (name, PTuning(length=LENGTH)) for name in TASK_TYPE},
    "t5, multitask": ("t5", MultitaskPrompt(length=LENGTH, init="random")),
    **{f"{name}, prefix": (name, PrefixTuning(length=LENGTH, hidden=None)) for name in CAUSAL},
    **{f"{name}, reparameterised prefix": (name, PrefixTuning(length=LENGTH, hidden=6)) for name in CAUSAL},
}


@pytest.mark.parametrize("export", OURS)
def test_an_export_gives_our_logits_in_peft(export, tmp_path):
    name, method = OURS[export]
    base = model_of(name)
    backbone = Backbone.from_model(copy.deepcopy(base))
    prompt = build(name, method, backbone)
    folder = save_peft(prompt, tmp_path / "exported")
    model = peft.PeftModel.from_pretrained(base, folder).eval()
    assert_same(theirs(name, model), ours(name, backbone, prompt), ours(name, backbone, None))


@pytest.mark.parametrize("export", OURS)
def test_an_export_comes_back_as_it_was(export, tmp_path):
    name, method = OURS[export]
    backbone = Backbone.from_model(model_of(name))
    prompt = build(name, method, backbone)
    again = load_peft(save_peft(prompt, tmp_path / "exported"), backbone)
    assert again.info.fingerprint == prompt.info.fingerprint
    for key, value in prompt().named().items():
        assert torch.equal(again().named()[key], value)


@pytest.mark.parametrize(
    ("name", "config", "method"),
    [
        ("gpt2", prompt_tuning, PromptTuning(length=LENGTH, init="random")),
        ("gpt2", prefix_tuning, PrefixTuning(length=LENGTH, hidden=None)),
    ],
)
def test_an_export_is_written_as_peft_writes(name, config, method, tmp_path):
    """The same settings and the same tensors by name, shape and type as PEFT's own checkpoint."""
    base = model_of(name)
    save_peft(method.build(Backbone.from_model(copy.deepcopy(base))), tmp_path / "ours")
    peft.get_peft_model(base, config(name)).save_pretrained(tmp_path / "theirs")
    written, wanted = (json.loads((tmp_path / who / "adapter_config.json").read_text()) for who in ("ours", "theirs"))
    assert set(written) == set(wanted)
    own = {"base_model_name_or_path", "num_attention_heads", "num_layers", "peft_version"}
    assert {key: value for key, value in written.items() if key not in own} == {
        key: value for key, value in wanted.items() if key not in own
    }
    tensors = [load_file(tmp_path / who / "adapter_model.safetensors") for who in ("ours", "theirs")]
    kinds = [{key: (value.shape, value.dtype) for key, value in found.items()} for found in tensors]
    assert kinds[0] == kinds[1]


def test_half_of_the_rows_of_an_encoder_decoder_are_left_behind(tmp_path):
    """PEFT stores 2 x length rows for an encoder-decoder; no model reads the second half."""
    model = peft.get_peft_model(model_of("t5"), prompt_tuning("t5"))
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")["prompt_embeddings"]
    assert stored.shape == (2 * LENGTH, tiny.DIM)
    assert torch.equal(load_peft(tmp_path)().rows, stored[:LENGTH])
