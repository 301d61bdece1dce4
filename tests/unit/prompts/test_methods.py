"""What the methods build: sizes as in the papers, starts, information, refusals."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.unit.prompts.hosts import FINGERPRINT, GPT2_MEDIUM, SMALL, TRANSLATOR, Letters, Spec, Stack

from softprompt.errors import ConfigError, MismatchError, UnsupportedError
from softprompt.prompts import MultitaskPrompt, PrefixTuning, PromptTuning, PTuning, PTuningV2, SoftPrompt, initializers
from softprompt.training import find_method

TASK = SimpleNamespace(labels=["ab", "z"], tags=None, context=None, start_words=(), segments=())


@pytest.mark.parametrize(("length", "count"), [(5, 245_760), (10, 491_520)])
@pytest.mark.parametrize("hidden", [None, 512])
def test_prefixes_of_gpt2_medium_are_as_large_as_published(length, count, hidden):
    """Li & Liang 2021: what is stored does not depend on how it was trained."""
    prompt = PrefixTuning(length=length, hidden=hidden).build(GPT2_MEDIUM)
    assert prompt.num_parameters() == count
    outputs = 24 * 2 * 1024
    mlp = length * 1024 + (1024 + 1) * 512 + (512 + 1) * outputs
    assert prompt.num_trainable() == (count if hidden is None else mlp)


@pytest.mark.parametrize(
    ("dim", "length", "count"), [(512, 20, 10_240), (1024, 100, 102_400), (4096, 5, 20_480), (4096, 100, 409_600)]
)
def test_prompts_of_t5_are_as_large_as_published(dim, length, count):
    """Lester et al. 2021, by the width of T5 1.1 Small, Large and XXL."""
    prompt = PromptTuning(length=length, init="vocab").build(Letters(Spec("encoder-decoder", dim)))
    assert prompt.num_parameters() == prompt.num_trainable() == count


def test_a_prompt_says_what_it_belongs_to():
    prompt = PromptTuning(length=2, init="vocab", placement="append").build(SMALL)
    assert (prompt.info.backbone, prompt.info.fingerprint, prompt.info.tokenizer) == ("letters", FINGERPRINT, "abc")
    assert prompt.info.lineage == ()
    assert (prompt.length, prompt.placement) == (2, "append")


def test_class_labels_come_from_the_task():
    rows = PromptTuning(length=3).build(SMALL, TASK)().rows
    assert rows[:2, 0].tolist() == [1.5, 26]  # a and b averaged; z
    assert rows[2, 0].item() in set(map(float, range(1, 1027)))


def test_start_words_stand_in_for_labels_that_a_task_lacks():
    """ReCoRD and WSC, whose targets are free text, had no start of their own as in Lester et al. 2021, §3.2."""
    free = SimpleNamespace(labels=None, start_words=("ab", "z"), tags=None, context=None, segments=())
    assert PromptTuning(length=3).build(SMALL, free)().rows[:2, 0].tolist() == [1.5, 26]
    labelled = SimpleNamespace(**{**vars(free), "labels": ["b"]})
    assert PromptTuning(length=1).build(SMALL, labelled)().rows[:, 0].tolist() == [2]
    with pytest.raises(ConfigError, match="a row for each of 2 labels or start words, but the prompt has 1"):
        PromptTuning(length=1).build(SMALL, free)


def test_class_labels_need_a_task():
    with pytest.raises(ConfigError, match="needs a task with label words"):
        PromptTuning(length=3).build(SMALL)


def test_the_most_common_tokens_are_asked_for():
    asked = []
    host = Letters(Spec("decoder-only", 2))
    host.common_tokens = lambda count: asked.append(count) or [3, 4]
    assert set(PromptTuning(length=2, init="vocab").build(host)().rows[:, 0].tolist()) == {3, 4}
    assert asked == [5000]


def test_text_is_tokenized():
    assert PromptTuning(length=4, init="text", text="bad").build(SMALL)().rows[:, 0].tolist() == [2, 1, 4, 2]


@pytest.mark.parametrize(
    ("method", "task", "what"),
    [
        (PromptTuning(init="text", text="?!"), None, "The text '[?]!'"),
        (
            PromptTuning(),
            SimpleNamespace(labels=["a", "..."], tags=None, context=None, start_words=(), segments=()),
            "The label '[.]+'",
        ),
    ],
)
def test_words_without_tokens_are_refused(method, task, what):
    with pytest.raises(ConfigError, match=f"{what} has no tokens for letters; give words that it knows"):
        method.build(SMALL, task)


@pytest.mark.parametrize("hidden", [None, 7])
def test_a_prefix_starts_from_the_activations_of_words(hidden):
    prompt = PrefixTuning(length=3, hidden=hidden, init="text", text="bad").build(TRANSLATOR)
    found = prompt().keys_values
    assert set(found) == {"encoder", "cross", "decoder"}
    for name, stack in TRANSLATOR.spec.stacks.items():
        assert found[name].shape == (stack.layers, 2, stack.kv_heads, 3, stack.head_dim)
        for layer, (keys, values) in enumerate(found[name]):
            assert keys[0, :, 0].tolist() == [2, 1, 4]
            assert (values == layer).all()


def test_a_random_prefix_is_small():
    values = PrefixTuning(length=50, hidden=None).build(SMALL)().keys_values["decoder"]
    assert values.std().allclose(torch.tensor(0.02), rtol=0.1)


@pytest.mark.parametrize(
    ("off", "left"), [({"encoder": False}, ["cross", "decoder"]), ({"cross": False, "decoder": False}, ["encoder"])]
)
def test_each_prefix_can_be_switched_off(off, left):
    assert list(PrefixTuning(length=2, **off).build(TRANSLATOR)().keys_values) == left


def test_not_every_prefix_can_be_switched_off():
    with pytest.raises(ConfigError, match="Every prefix that letters could take is switched off: decoder"):
        PrefixTuning(decoder=False).build(SMALL)


def test_a_backbone_without_places_for_a_prefix_is_refused():
    with pytest.raises(UnsupportedError, match="cannot take prefix tuning, because it is odd; use PromptTuning"):
        PrefixTuning().build(Letters(Spec("decoder-only", 2, no_prefix="it is odd")))


def test_a_prefix_stands_in_front_except_in_decoders():
    with pytest.raises(UnsupportedError, match="letters is encoder-decoder: use placement='prepend'"):
        PrefixTuning(placement="append").build(TRANSLATOR)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "method", [PromptTuning(length=3, init="random"), PrefixTuning(hidden=None), PrefixTuning(hidden=3)]
)
def test_a_seed_decides_everything(method, seed):
    first, again, other = (method.build(SMALL, seed=s)().named() for s in (seed, seed, seed + 1))
    assert all(first[name].equal(again[name]) for name in first)
    assert not any(first[name].equal(other[name]) for name in first)


def test_building_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    PrefixTuning(length=2, hidden=3).build(SMALL)
    PromptTuning(length=2, init="vocab").build(SMALL)
    assert torch.get_rng_state().equal(state)


def test_a_prompt_starts_from_another(tmp_path):
    source = PromptTuning(length=2, init="vocab", placement="append").build(SMALL)
    path = str(source.save(tmp_path / "source"))
    prompt = PromptTuning(length=5, init="prompt", source=path).build(SMALL)
    assert prompt().rows.equal(source().rows[[0, 1, 0, 1, 0]])
    assert prompt.info.lineage == (f"started from {path}",)


def test_a_prefix_starts_from_another(tmp_path):
    source = PrefixTuning(length=2, hidden=3).build(TRANSLATOR)
    path = str(source.save(tmp_path / "source"))
    prompt = PrefixTuning(length=3, hidden=None, init="prompt", source=path).build(TRANSLATOR)
    for stack, values in prompt().keys_values.items():
        assert values.equal(source().keys_values[stack][:, :, :, [0, 1, 0]])


def test_a_prefix_needs_all_of_its_stacks_in_its_source(tmp_path):
    path = str(PrefixTuning(length=2, cross=False).build(TRANSLATOR).save(tmp_path / "source"))
    with pytest.raises(ConfigError, match=r"a prefix for the cross of the layers \[0, 1\], but .*source has none; set"):
        PrefixTuning(init="prompt", source=path).build(TRANSLATOR)


def test_a_prefix_of_another_shape_is_no_start(tmp_path):
    """One of no model's, with heads of another width, ended in an error of torch."""
    wide = Letters(Spec("decoder-only", 4, {"decoder": Stack(3, 2, 7)}))
    path = str(PrefixTuning(length=2).build(wide).with_info(fingerprint={}).save(tmp_path / "source"))
    with pytest.raises(
        ConfigError,
        match=r"form \[3, 2, 2, 10, 5\] .*, but .*source has \[3, 2, 2, 10, 7\]; start from a prefix of a model",
    ):
        PrefixTuning(init="prompt", source=path).build(SMALL)


def test_a_prefix_of_other_layers_is_no_start(tmp_path):
    """As many layers were enough: keys and values of the first became those of the last."""
    path = str(PrefixTuning(length=2, layers=(0,)).build(SMALL).save(tmp_path / "source"))
    with pytest.raises(ConfigError, match=r"of the layers \[2\], but .* has one of the layers \[0\]; set layers"):
        PrefixTuning(init="prompt", source=path, layers=(-1,)).build(SMALL)
    PrefixTuning(init="prompt", source=path, layers=(-3,)).build(SMALL)


@pytest.mark.parametrize("method", [PromptTuning, PTuning, MultitaskPrompt, PrefixTuning])
def test_a_prompt_of_another_model_is_no_start(method, tmp_path):
    """One of the same width was taken in silence, though its values mean nothing there."""
    source = (
        PromptTuning(length=2, init="vocab")
        .build(SMALL)
        .with_info(backbone="others", fingerprint={**FINGERPRINT, "weights": ""})
    )
    path = str(source.save(tmp_path / "source"))
    with pytest.raises(
        MismatchError, match=r"source was made for others, and letters is another model, .* of no model"
    ):
        method(length=2, init="prompt", source=path).build(SMALL)
    path = str(source.with_info(fingerprint={}).save(tmp_path / "unbound"))
    method(length=2, init="prompt", source=path).build(SMALL)


@pytest.mark.parametrize("method", [PromptTuning, PrefixTuning])
def test_rows_and_prefixes_have_no_mean(method, tmp_path):
    """It was said that there is no prefix for some stack, or that all of them are prefixes."""
    paths = [
        str(made.build(SMALL).save(tmp_path / name))
        for name, made in (("rows", PromptTuning(length=2, init="vocab")), ("keys", PrefixTuning(length=2)))
    ]
    with pytest.raises(ConfigError, match=r"keys, \S+rows holds rows and the others keys and values, .* of one kind"):
        method(length=2, init="prompt", source=paths).build(SMALL)


def test_a_prefix_starts_from_the_activations_of_another_prompts_rows(tmp_path):
    source = PromptTuning(length=2, init="vocab").build(SMALL)
    path = str(source.save(tmp_path / "source"))
    keys = PrefixTuning(length=2, hidden=None, init="prompt", source=path).build(SMALL)().keys_values["decoder"]
    assert keys[0, 0, 0, :, 0].equal(source().rows[:, 0])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (PromptTuning, {"length": 0}, "length=0: a prompt has at least one virtual token"),
        (PrefixTuning, {"length": -1}, "length=-1: a prompt has at least one virtual token"),
        (PrefixTuning, {"hidden": 0}, "hidden=0: expected a positive width, or None"),
        (PrefixTuning, {"placement": "infix"}, "Unknown placement 'infix'"),
        (PromptTuning, {"text": "a"}, "text= is used by init='text' only, but init='class_labels'"),
        (PromptTuning, {"source": "a"}, "source= is used by init='prompt' only, but init='class_labels'"),
        (PromptTuning, {"init": "text"}, r"init='text' needs text=\.\.\."),
        (PrefixTuning, {"init": "prompt"}, r"init='prompt' needs source=\.\.\."),
    ],
)
def test_settings_are_checked(kind, settings, message):
    with pytest.raises(ConfigError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("prompt_tuning", {"source": 5}, "source=5: expected a list of texts, or a text, or nothing"),
        ("prompt_tuning", {"length": "5"}, "length='5': expected a whole number, but got str"),
        ("prompt_tuning", {"segments": 5}, "segments=5: expected a list of whole numbers, or nothing"),
        ("prefix_tuning", {"layers": -1}, "layers=-1: expected a list of whole numbers, or nothing"),
        ("p_tuning_v2", {"layers": "-1"}, "layers='-1': expected a list of whole numbers"),
        ("prefix_tuning", {"layers": ["1"]}, r"layers=\['1'\]: expected a list of whole numbers"),
        ("prefix_tuning", {"layers": [True]}, r"layers=\[True\]: expected a list of whole numbers"),
        ("lora", {"targets": 3}, "targets=3: expected a list of texts, or a text, or nothing"),
        ("lora", {"targets": []}, r"targets=\[\]: expected names of layers, as in targets=\['q_proj', 'v_proj'\]"),
        ("ia3", {"feedforward": [0]}, r"feedforward=\[0\]: expected a list of texts"),
        ("ia3", {"targets": "all-linear"}, "'all-linear' is for LoRA; name the layers that IA3 scales"),
    ],
)
def test_values_of_another_type_are_refused(method, settings, message):
    """Numbers and texts where lists belong ended in errors of Python's, or were taken apart into letters."""
    with pytest.raises(ConfigError, match=message):
        find_method(method, settings)


@pytest.mark.parametrize("kind", [PromptTuning, PrefixTuning])
def test_an_unknown_initializer_is_told_when_a_prompt_is_built(kind):
    with pytest.raises(ConfigError, match=r"Unknown initializer 'vocabs'\. Did you mean 'vocab'"):
        kind(length=2, init="vocabs").build(SMALL)


@pytest.mark.parametrize("method", [PromptTuning(length=2, init="theirs"), PrefixTuning(length=2, init="theirs")])
def test_a_stored_prompt_needs_no_longer_what_it_started_from(method, tmp_path, monkeypatch):
    """Reading a prompt that another package's initializer had started failed where that package was not installed."""
    with monkeypatch.context() as installed:
        installed.setattr(initializers.ROWS, "_values", {"theirs": initializers.vocab})
        prompt = method.build(SMALL)
    path = prompt.save(tmp_path / "prompt")
    assert SoftPrompt.load(path).method == method


def test_settings_are_read_from_plain_values():
    assert PrefixTuning.from_settings({"length": 3, "cross": False}) == PrefixTuning(length=3, cross=False)
    with pytest.raises(ConfigError, match="Unknown setting of PromptTuning 'lenght'"):
        PromptTuning.from_settings({"lenght": 3})


DIVIDED = SimpleNamespace(labels=None, tags=None, context=None, start_words=(), segments=(2, 1))


def test_a_templates_places_divide_the_rows():
    prompt = PromptTuning(length=3, init="vocab", placement="template").build(SMALL, DIVIDED)
    assert (prompt.segments, prompt.method.segments) == ((2, 1), (2, 1))
    again = PromptTuning.from_settings({"length": 3, "init": "vocab", "placement": "template", "segments": [2, 1]})
    assert again == prompt.method
    assert again.build(SMALL).segments == (2, 1), "a task is not needed where the segments are known"
    assert PromptTuning(length=3, init="vocab").build(SMALL).segments == (3,)


@pytest.mark.parametrize(
    ("settings", "task", "message"),
    [
        (
            {"length": 3},
            DIVIDED,
            r"divides 3 virtual tokens among 2 places, but placement='prepend'; use placement='te",
        ),
        ({"length": 4, "placement": "template"}, DIVIDED, "length=4, but .* places for 3 virtual tokens; use length=3"),
        ({"length": 3, "placement": "template"}, TASK, r"needs a task whose input has places such as \{soft:20\}"),
        (
            {"length": 3, "placement": "template", "segments": (1, 2)},
            DIVIDED,
            r"segments=\[1, 2\], but .* has \[2, 1\]",
        ),
        ({"length": 3, "placement": "template", "segments": (1, 1)}, None, "at least 1 each, 3 in all"),
        ({"length": 3, "segments": (1, 2)}, None, "is used by placement='template' only, not 'prepend'"),
    ],
)
def test_rows_that_cannot_be_divided(settings, task, message):
    with pytest.raises(ConfigError, match=message):
        PromptTuning(init="vocab", **settings).build(SMALL, task)


def test_a_prefix_is_not_divided():
    with pytest.raises(UnsupportedError, match="A prefix has no rows that a template could divide"):
        PrefixTuning(placement="template").build(SMALL, DIVIDED)


@pytest.mark.parametrize("encoder", ["lstm", "mlp"])
def test_p_tuning_is_folded_to_rows(encoder, tmp_path):
    prompt = PTuning(length=3, encoder=encoder, hidden=5).build(SMALL, seed=1)
    assert prompt().rows.shape == (3, SMALL.spec.dim)
    assert prompt.num_parameters() == 3 * SMALL.spec.dim < prompt.num_trainable()
    loaded = SoftPrompt.load(prompt.save(tmp_path / "p"))
    assert loaded().rows.equal(prompt().rows)
    assert loaded.method == prompt.method
    assert not PTuning(length=3, encoder=encoder).build(SMALL, seed=2)().rows.equal(prompt().rows)


def test_p_tuning_may_start_from_words():
    assert PTuning(length=2, init="text", text="ab").build(SMALL)().rows[:, 0].tolist() == [1, 2]


def test_p_tuning_v2_is_a_prefix_without_mlp(tmp_path):
    prompt = PTuningV2(length=4).build(SMALL)
    assert isinstance(prompt.method, PrefixTuning)
    assert prompt.num_trainable() == prompt.num_parameters()
    assert SoftPrompt.load(prompt.save(tmp_path / "p")).method == PTuningV2(length=4)


@pytest.mark.parametrize("hidden", [None, 3])
def test_a_prefix_of_some_layers(hidden, tmp_path):
    whole = PrefixTuning(length=2, hidden=hidden, init="text", text="ab").build(TRANSLATOR)()
    prompt = PrefixTuning(length=2, hidden=hidden, init="text", text="ab", layers=[-1, 0]).build(TRANSLATOR)
    for stack, values in prompt().keys_values.items():
        assert values.equal(whole.keys_values[stack][[0, -1]])
    assert SoftPrompt.load(prompt.save(tmp_path / "p")).layers == prompt.layers == (-1, 0)
    with pytest.raises(ConfigError, match=r"Every prefix that letters could take is switched off.*mind .* layers"):
        PrefixTuning(layers=[99]).build(TRANSLATOR)


def test_rows_are_kept_near_to_the_words_of_a_text():
    prompt = PromptTuning(length=3, init="vocab", towards="ab", towards_weight=2.0).build(SMALL)
    rows = prompt().rows
    distance = (rows - torch.tensor([1.0, 2.0, 1.0])[:, None]).square().sum() / 3
    assert prompt.parametrization.penalty().item() == pytest.approx(2 * distance.item())
    assert prompt.fold().parametrization.penalty() is None
    with pytest.raises(ConfigError, match=r"towards_weight=0.5 is used with towards= only; give the text, or drop"):
        PromptTuning(length=3, init="vocab", towards_weight=0.5).build(SMALL)
    with pytest.raises(ConfigError, match="towards_weight=-1: expected a number of at least 0"):
        PromptTuning(towards="ab", towards_weight=-1)


def test_a_prompt_starts_from_the_mean_of_several(tmp_path):
    paths = [str(PromptTuning(length=2, init="vocab").build(SMALL, seed=i).save(tmp_path / str(i))) for i in range(2)]
    prompt = PromptTuning(length=2, init="prompt", source=paths).build(SMALL)
    assert prompt().rows.allclose((SoftPrompt.load(paths[0])().rows + SoftPrompt.load(paths[1])().rows) / 2)
    assert prompt.info.lineage == tuple(f"started from {path}" for path in paths)
