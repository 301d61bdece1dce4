"""What sharding asks for and refuses; sharded models themselves are in `tests/training`, in several processes."""

from __future__ import annotations

import pytest
import torch
from tests.models import tiny_backbone
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig, T5Config, XLNetConfig

from softprompt.backbones import Backbone, loading, sharding
from softprompt.errors import BackboneError, ConfigError, LostProcessError, UnsupportedError


@pytest.fixture
def in_four_processes(monkeypatch):
    launched = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("kind", "config", "layers"),
    [
        (AutoModelForCausalLM, LlamaConfig(num_hidden_layers=2), ["model.layers.*"]),
        (AutoModelForSeq2SeqLM, T5Config(num_layers=2), ["decoder.block.*", "encoder.block.*"]),
    ],
)
@pytest.mark.usefixtures("in_four_processes")
def test_a_model_is_spread_layer_by_layer(kind, config, layers):
    """It is looked at without memory for its weights."""
    made = sharding.sharding_of(kind, config, offload=True, trust_remote_code=False)
    assert list(made.fsdp_plan) == layers
    assert (made.fsdp_size, made.fsdp_cpu_offload) == (4, True)


def test_a_model_without_layers_to_gather_is_refused():
    with pytest.raises(UnsupportedError, match="XLNetLMHeadModel has no layers that could be gathered one by one"):
        sharding.sharding_of(AutoModelForCausalLM, XLNetConfig(n_layer=2), offload=False, trust_remote_code=False)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator to offload from")
@pytest.mark.usefixtures("in_four_processes")
def test_without_an_accelerator_there_is_nothing_to_offload():
    with pytest.raises(ConfigError, match="brings layers from CPU memory to a GPU, and there is none"):
        Backbone.from_pretrained("bundled:gpt-mini", sharded=True, offload=True)


@pytest.mark.usefixtures("in_four_processes")
def test_settings_that_do_not_fit_together_are_refused(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="say sharded=True, and start several processes"):
        Backbone.from_pretrained("bundled:gpt-mini", offload=True)
    with pytest.raises(UnsupportedError, match="can neither be quantised, nor get a new head or a device_map"):
        Backbone.from_pretrained("bundled:gpt-mini", sharded=True, device_map="auto")
    with pytest.raises(ConfigError, match="devices of one process, and 4 would each take them all; say sharded=True"):
        Backbone.from_pretrained("bundled:gpt-mini", device_map="auto")
    tiny_backbone("encoder-only").model.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match="is an encoder, and small enough for one device"):
        Backbone.from_pretrained(tmp_path, sharded=True)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="launch with distributed_type: MULTI_GPU, and keep sharded=True"):
        Backbone.from_pretrained("bundled:gpt-mini", sharded=True)


@pytest.mark.usefixtures("in_four_processes")
def test_a_process_that_dies_while_all_load_is_told_of(monkeypatch):
    """Those that were left ended in gloo's own error, or were told that the model could not be loaded."""

    def fail(*given, **settings):
        raise RuntimeError(said)

    monkeypatch.setattr(sharding, "sharding_of", lambda *given, **settings: None)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    said = "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:35351"
    with pytest.raises(LostProcessError, match="Another of 4 processes died or hangs while they loaded bundled:gpt-mi"):
        Backbone.from_pretrained("bundled:gpt-mini", sharded=True)
    said = "a file is damaged"
    with pytest.raises(BackboneError, match="a file is damaged"):
        Backbone.from_pretrained("bundled:gpt-mini", sharded=True)
    monkeypatch.setattr(loading, "load", fail)
    with pytest.raises(RuntimeError, match="a file is damaged"):
        Backbone.from_pretrained("bundled:gpt-mini", sharded=True)


def test_one_process_has_nothing_to_offload_and_loads_the_whole():
    with pytest.raises(ConfigError, match="In one process, device_map spreads a model"):
        Backbone.from_pretrained("bundled:gpt-mini", sharded=True, offload=True)
    assert not Backbone.from_pretrained("bundled:gpt-mini", sharded=True).sharded


def test_gradients_come_back_through_the_output_too():
    """What was taken from inside a pass has its gradient; the output has one of zeros, which wakes what made it."""
    inside, output = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    (found,) = sharding.reached_together([inside * 2], output * 1)
    found.sum().backward()
    assert inside.grad.tolist() == [2, 2]
    assert output.grad.tolist() == [0, 0, 0]
