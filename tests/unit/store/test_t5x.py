"""Arrays of Google's prompt-tuning library."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.unit.store import tiny

from softprompt.conditioning import Prompted
from softprompt.errors import ArtefactError, MismatchError, UnsupportedError
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.store import bind, load_t5x, save_t5x

VALUES = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)


def write(folder, values, name="prompt.npy"):
    with (folder / name).open("wb") as file:
        np.save(file, values, allow_pickle=True)
    return folder / name


@pytest.mark.parametrize("name", ["sst2.npy", "encoder.prompt.prompt.prompt"])
def test_an_array_is_read_whatever_its_name(tmp_path, name):
    prompt = load_t5x(write(tmp_path, VALUES, name))
    assert torch.equal(prompt().rows, torch.from_numpy(VALUES))
    assert prompt.length == 3
    assert prompt.info.kind is None
    assert prompt.info.fingerprint == {}
    assert prompt.info.lineage == (f"imported from the array {name}",)


@pytest.mark.parametrize("convert", [lambda v: v.astype("<f8"), lambda v: v.astype(">f4"), np.asfortranarray])
def test_other_layouts_become_float32(tmp_path, convert):
    rows = load_t5x(write(tmp_path, convert(VALUES)))().rows
    assert rows.dtype == torch.float32
    assert torch.equal(rows, torch.from_numpy(VALUES))


def test_a_backbone_binds_it(tmp_path):
    backbone = tiny.two_sided()
    prompt = load_t5x(write(tmp_path, VALUES), backbone)
    assert prompt.info.backbone == "tiny-two-sided"
    ids = torch.tensor([[5, 6, 7]])
    got = Prompted(backbone, {"p": prompt})(ids, decoder_input_ids=ids).logits
    joined = torch.cat([torch.from_numpy(VALUES)[None], backbone.embed(ids)], dim=1)
    want = backbone.model(inputs_embeds=joined, decoder_input_ids=ids).logits
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("make", [tiny.two_sided, tiny.causal])
def test_its_kind_is_that_of_its_backbone(tmp_path, make):
    backbone = make()
    prompt = bind(load_t5x(write(tmp_path, VALUES)), backbone)
    assert prompt.info.kind == backbone.spec.kind
    assert torch.equal(load_t5x(save_t5x(prompt, tmp_path / "again.npy"))().rows, prompt().rows)


def test_another_width(tmp_path):
    with pytest.raises(MismatchError, match="width 9, but tiny-two-sided expects 8"):
        load_t5x(write(tmp_path, np.zeros((3, 9), np.float32)), tiny.two_sided())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(8, np.float32), r"expected an array \[length, dim\].*found \[8\] of float32"),
        (np.zeros((0, 8), np.float32), r"found \[0, 8\]"),
        (np.zeros((3, 8), np.int64), "of int64"),
        (np.full((3, 8), np.nan, np.float32), "NaN or infinite"),
        (np.full((3, 8), 1e300), "NaN or infinite in float32"),
        (np.array([[object()]]), "Object arrays cannot be loaded"),
    ],
)
def test_arrays_that_are_no_prompt(tmp_path, values, message):
    with pytest.raises(ArtefactError, match=message):
        load_t5x(write(tmp_path, np.array([[{}]]) if values.dtype == object else values))


def archive():
    buffer = io.BytesIO()
    np.savez(buffer, prompt=VALUES)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"not an array", b"\x80\x04N.", archive()], ids=["empty", "text", "pickle", "npz"]
)
def test_foreign_files(tmp_path, content):
    (tmp_path / "prompt.npy").write_bytes(content)
    with pytest.raises(ArtefactError, match="truncated or not an array in numpy's own format"):
        load_t5x(tmp_path / "prompt.npy")


def test_a_truncated_file(tmp_path):
    file = write(tmp_path, VALUES)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ArtefactError, match="truncated"):
        load_t5x(file)


def test_a_folder_is_no_array(tmp_path):
    with pytest.raises(ArtefactError, match="is a folder; name the file in it"):
        load_t5x(tmp_path)


def test_a_missing_file(tmp_path):
    with pytest.raises(ArtefactError, match=r"There is no file .*prompt.npy"):
        load_t5x(tmp_path / "prompt.npy")


@pytest.mark.parametrize("name", ["checkpoint_1000", "checkpoint"])
def test_a_checkpoint_is_refused_with_the_way_round(tmp_path, name):
    (tmp_path / "checkpoint_1000").mkdir()
    (tmp_path / "checkpoint").write_bytes(b"\x81")
    with pytest.raises(UnsupportedError, match=r"T5X checkpoint.*numpy_checkpoints/checkpoint_STEP"):
        load_t5x(tmp_path / name)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5)),
                     elements=st.floats(-(2.0**100), 2.0**100, width=32)))  # fmt: skip
def test_what_is_written_comes_back(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("prompt")
    prompt = load_t5x(write(folder, values))
    again = load_t5x(save_t5x(prompt, folder / "new" / "prompt.npy"))
    assert tiny.same(again, prompt)
    assert np.array_equal(np.load(folder / "new" / "prompt.npy", allow_pickle=False), values)


def test_writing_replaces_and_leaves_nothing_else(tmp_path):
    file = write(tmp_path, np.zeros((9, 8), np.float32))
    prompt = PromptTuning(length=3, init="random").build(tiny.two_sided())
    save_t5x(prompt, file)
    assert tiny.same(load_t5x(file), prompt)
    assert [path.name for path in tmp_path.iterdir()] == ["prompt.npy"]


@pytest.mark.parametrize(
    ("method", "backbone", "message"),
    [
        (PrefixTuning(length=2, hidden=None), tiny.two_sided, "has keys_values.*keys_values.encoder"),
        (PrefixTuning(length=2, hidden=None), tiny.causal, "has keys_values.decoder"),
        (PromptTuning(length=2, init="random", placement="append"), tiny.two_sided, "placement='append'"),
    ],
)
def test_what_has_no_such_form(tmp_path, method, backbone, message):
    with pytest.raises(UnsupportedError, match=message):
        save_t5x(method.build(backbone()), tmp_path / "prompt.npy")


def test_not_finite(tmp_path):
    prompt = PromptTuning(length=2, init="random").build(tiny.two_sided())
    prompt.parametrization.rows.data[0, 0] = torch.nan
    with pytest.raises(ArtefactError, match="NaN or infinite"):
        save_t5x(prompt, tmp_path / "prompt.npy")


def test_a_folder_in_its_place(tmp_path):
    with pytest.raises(ArtefactError, match="is a folder; name the file to write"):
        save_t5x(PromptTuning(length=2, init="random").build(tiny.two_sided()), tmp_path)
