"""Where words and contexts stand among tokens, under tokenizers that cut them in different ways."""

from __future__ import annotations

import pytest
import torch
from tests.models import tiny_backbone
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from softprompt.backbones import Backbone
from softprompt.conditioning.losses import IGNORED
from softprompt.conditioning.places import ContextPlaces, WordPlaces, find_places
from softprompt.conditioning.texts import encode_inputs, render_input
from softprompt.errors import ConfigError
from softprompt.tasks import TextFormat

TEXT = "Zürich's Übermut, naïve people (42 of them) visited New York in 1998 and 1999"
TAGGED = TextFormat(input="who? {tokens} {prompt} .", target="{ner}", words="tokens", label_words={"O": "O", "X": "X"})
ASKED = TextFormat(input="{context} {prompt} question: {question}", target="{answers}", context="context")


def word_pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return trained(tokenizer, trainers.WordPieceTrainer(vocab_size=60, special_tokens=["[UNK]", "<s>", "</s>"]))


def byte_pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made = trained(
        tokenizer,
        trainers.BpeTrainer(vocab_size=300, special_tokens=["[UNK]", "<s>", "</s>"], initial_alphabet=alphabet),
    )
    made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), made.post_processor])
    return made


def sentence_pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return trained(
        tokenizer,
        trainers.UnigramTrainer(vocab_size=60, special_tokens=["[UNK]", "<s>", "</s>"], unk_token="[UNK]"),
    )


def trained(tokenizer: Tokenizer, trainer) -> Tokenizer:
    tokenizer.train_from_iterator([TEXT] * 3 + ["who visited question: . ?"], trainer)
    ends = [(end, tokenizer.token_to_id(end)) for end in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return tokenizer


@pytest.fixture(params=[word_pieces, byte_pieces, sentence_pieces])
def backbone(request) -> Backbone:
    tiny = tiny_backbone("encoder-only")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=request.param(), pad_token="</s>", unk_token="[UNK]")
    return Backbone(tiny.model, tokenizer, "pieces")


def placed(backbone: Backbone, kind: str, form: TextFormat, columns):
    rendered = render_input(backbone, form, columns)
    (encoded,) = encode_inputs(backbone, [rendered], offsets=True)
    (plain,) = encode_inputs(backbone, [rendered])
    assert (encoded.ids, encoded.marks) == (plain.ids, plain.marks)
    assert len(encoded.offsets) == len(encoded.ids)
    assert encoded.offsets[0] == encoded.offsets[-1] == (0, 0)
    return rendered, encoded, find_places(kind, form, rendered, encoded, outputs=2, longest=10)


def test_a_words_first_token_begins_where_the_word_does(backbone):
    words = TEXT.split()
    rendered, encoded, places = placed(backbone, "tokens", TAGGED, {"tokens": words})
    assert isinstance(places, WordPlaces)
    assert len(places.tokens) == len(words)
    assert len(set(places.tokens)) == len(words)
    for word, token in zip(words, places.tokens, strict=True):
        start, end = encoded.offsets[token]
        piece = rendered.filled.text[start:end].strip()
        assert piece
        assert word.startswith(piece)
    tags = ["X" if word[0].isupper() else "O" for word in words]
    targets = places.targets(" ".join(tags))
    assert [targets[token] for token in places.tokens] == [int(tag == "X") for tag in tags]
    assert sum(target != IGNORED for target in targets) == len(words)
    logits = torch.zeros(len(encoded.ids), 3)
    logits[torch.arange(len(targets)), torch.tensor(targets).clamp(min=0)] = 1
    logits[:, 2] = 5  # another head's, in a mixed batch
    assert places.text_of(logits).split() == tags


@pytest.mark.parametrize("answer", ["Zürich", "naïve people", "New York", "42", "1999", "(42 of them)", "19", TEXT])
def test_an_answer_that_is_learned_is_said(backbone, answer):
    _, encoded, places = placed(backbone, "span", ASKED, {"context": TEXT, "question": "New York 1999"})
    assert isinstance(places, ContextPlaces)
    found = places.targets(answer)
    logits = torch.zeros(len(encoded.ids), 2)
    logits[found[0], 0] = logits[found[1], 1] = 1
    places = ContextPlaces(places.text, places.tokens, longest=len(encoded.ids))
    said = places.text_of(logits)
    assert answer in said
    assert said in TEXT
    assert len(said) - len(answer) <= 4  # where tokens are coarser than the answer


def test_a_head_has_as_many_outputs_as_there_are_tags():
    tiny = tiny_backbone("encoder-only")
    rendered = render_input(tiny, TAGGED, {"tokens": ["good", "film"]})
    (encoded,) = encode_inputs(tiny, [rendered], offsets=True)
    with pytest.raises(ConfigError, match=r"knows 3 tags, but the task has 2 \(O, X\); give label_words"):
        find_places("tokens", TAGGED, rendered, encoded, outputs=3)


def test_whole_words_are_found_first():
    tiny = tiny_backbone("encoder-only")
    columns = {"context": "goods good film", "question": "x"}
    rendered = render_input(tiny, ASKED, columns)
    (encoded,) = encode_inputs(tiny, [rendered], offsets=True)
    places = find_places("span", ASKED, rendered, encoded, outputs=2)
    assert places.targets("good") == [2, 2]
    assert places.targets("oods good") == [1, 2]
    assert places.targets("x") == []


def test_the_best_span_is_in_order_and_no_longer_than_it_may_be():
    text = "a b c d"
    tokens = tuple((index + 3, 2 * index, 2 * index + 1) for index in range(4))
    logits = torch.full((9, 2), -9.0)
    logits[3:7] = torch.tensor([[1.0, 0.0], [0.0, 5.0], [4.0, 0.0], [0.0, 2.0]])
    logits[0] = logits[8] = 99  # outside of the context
    assert ContextPlaces(text, tokens, longest=4).text_of(logits) == "a b"  # 1 + 5, as good as 4 + 2 and first
    logits[5, 0] = 4.5
    assert ContextPlaces(text, tokens, longest=4).text_of(logits) == "c d"
    assert ContextPlaces(text, tokens, longest=1).text_of(logits) == "b"
    assert ContextPlaces(text, (), longest=4).text_of(logits) == ""
