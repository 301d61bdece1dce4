"""Rows as vLLM's clients load them."""

from __future__ import annotations

import base64
import io

import pytest
import torch
from tests.unit.store import tiny

from softprompt.conditioning import Prompted
from softprompt.errors import ArtefactError, ConfigError, MismatchError, UnsupportedError
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.store import load_vllm, pack_embeddings, save_vllm

VALUES = torch.linspace(-1, 1, 24).reshape(3, 8)


def write(folder, value, name="prompt.pt"):
    torch.save(value, folder / name)
    return folder / name


def rows(**settings):
    return PromptTuning(length=3, init="vocab", **settings).build(tiny.causal(), seed=2)


def test_what_is_written_is_one_tensor_that_torch_loads(tmp_path):
    prompt = rows()
    path = save_vllm(prompt, tmp_path / "deep" / "prompt.pt")
    assert torch.equal(torch.load(path, weights_only=True), prompt().rows)
    for dtype in ("bfloat16", "float16"):
        found = torch.load(save_vllm(prompt, path, dtype=dtype), weights_only=True)
        assert torch.equal(found, prompt().rows.to(getattr(torch, dtype)))
    assert [one.name for one in path.parent.iterdir()] == ["prompt.pt"]


def test_a_part_of_a_larger_tensor_is_sent_without_the_rest():
    """torch.save writes the whole storage of a view."""
    whole = torch.zeros(5000, 8)
    packed = base64.b64decode(pack_embeddings(whole[:3]))
    assert len(packed) < 5000
    assert torch.load(io.BytesIO(packed), weights_only=True).shape == (3, 8)


def test_a_prompt_comes_back_as_it_went(tmp_path):
    prompt = rows()
    back = load_vllm(save_vllm(prompt, tmp_path / "prompt.pt"), tiny.causal())
    assert tiny.same(prompt, back)
    ids = torch.tensor([[5, 6, 7]])
    got, want = (Prompted(tiny.causal(), {"p": one})(ids).logits for one in (back, prompt))
    assert torch.equal(got, want)
    assert back.info.lineage == ("imported from the embeddings prompt.pt",)


@pytest.mark.parametrize("value", [VALUES[None], VALUES.double(), VALUES.half(), VALUES.t().contiguous().t()])
def test_other_layouts_become_float32_rows(tmp_path, value):
    found = load_vllm(write(tmp_path, value))().rows
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, VALUES, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (VALUES[0], r"expected a tensor \[length, dim\]"),
        (VALUES.long(), r"expected a tensor \[length, dim\]"),
        (VALUES[:0], r"expected a tensor \[length, dim\]"),
        (VALUES.to_sparse(), r"expected a tensor \[length, dim\]"),
        (VALUES / 0, "NaN or infinite"),
        ({"rows": VALUES}, "holds dict"),
        (PromptTuning(length=2), "other pickles are not opened"),
    ],
)
def test_whatever_is_no_prompt_is_refused(tmp_path, value, told):
    with pytest.raises(ArtefactError, match=told):
        load_vllm(write(tmp_path, value))


def test_files_that_are_missing_or_cut_are_told(tmp_path):
    with pytest.raises(ArtefactError, match="There is no file"):
        load_vllm(tmp_path / "nowhere.pt")
    with pytest.raises(ArtefactError, match="is a folder; name the file in it"):
        load_vllm(tmp_path)
    path = write(tmp_path, VALUES)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtefactError, match="truncated"):
        load_vllm(path)


def test_it_is_for_the_model_that_it_fits(tmp_path):
    path = write(tmp_path, VALUES)
    with pytest.raises(MismatchError, match=r"decoder-only .* but tiny-two-sided is encoder-decoder"):
        load_vllm(path, tiny.two_sided())
    with pytest.raises(MismatchError):
        load_vllm(path, tiny.causal(dim=16))


def test_what_embeddings_do_not_stand_for_is_not_written(tmp_path):
    path = tmp_path / "prompt.pt"
    prefix = PrefixTuning(length=2, hidden=None).build(tiny.causal(), seed=0)
    other = PromptTuning(length=2, init="vocab").build(tiny.two_sided(), seed=0)
    for prompt in (prefix, rows(placement="append"), other):
        with pytest.raises(UnsupportedError, match="in front of a decoder-only model's input"):
            save_vllm(prompt, path)
    large = rows()
    with torch.no_grad():
        next(large.parameters()).fill_(1e5)
    with pytest.raises(ArtefactError, match="infinite in float16"):
        save_vllm(large, path, dtype="float16")
    with pytest.raises(ConfigError, match="int8"):
        save_vllm(rows(), path, dtype="int8")
    with pytest.raises(ArtefactError, match="is a folder"):
        save_vllm(rows(), tmp_path)
    assert list(tmp_path.iterdir()) == []
