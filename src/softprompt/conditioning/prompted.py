"""A backbone with prompts: forward, generate, score; each row of a batch with its own prompt, or none."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from softprompt.backbones import Backbone
from softprompt.conditioning import encoders, forward, generation, scoring
from softprompt.conditioning.collection import Conditioning, PassTaken, PromptCollection
from softprompt.conditioning.decoding import Decoding, may_join
from softprompt.conditioning.holding import Held
from softprompt.conditioning.input_cache import InputCache
from softprompt.conditioning.inputs import check_batch, check_devices, check_labels, check_list
from softprompt.conditioning.joining import Applied, Rows, join
from softprompt.conditioning.losses import Output
from softprompt.conditioning.probe import Verdict
from softprompt.conditioning.texts import RenderedInput, collate_inputs, encode_inputs, render_input
from softprompt.config import choose
from softprompt.errors import ConfigError, ShapeError, UnsupportedError
from softprompt.prompts import SoftPrompt
from softprompt.tasks import TextFormat

__all__ = ["PromptNames", "Prompted"]

PromptNames = str | Sequence[str | None] | None


@final
class Prompted:
    """A frozen backbone and any number of prompts for it.

    Args:
        backbone: The frozen model; it may be shared with others.
        prompts: Prompts by name.
        conditioning: `auto` takes the shared-prompt pass wherever the probe proves it exact; `shared` insists on
            it; `concatenation` forbids it.
        gradient_checkpointing: Whether layers are recomputed in the backward pass, to save memory.
        input_cache_bytes: Most bytes of keys and values that are kept, while prompts are trained, of inputs that stand
            before their prompts in a decoder-only model (`append`, `middle`): they are read once. 0 keeps none.

    Raises:
        MismatchError: If a prompt was made for another backbone.
        UnsupportedError: If a prompt, or the forced pass, cannot be exact on this backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: Mapping[str, SoftPrompt] | None = None,
        *,
        conditioning: Conditioning = "auto",
        gradient_checkpointing: bool = False,
        input_cache_bytes: int = 0,
    ) -> None:
        self.backbone = backbone
        self._inputs = InputCache(input_cache_bytes) if input_cache_bytes else None
        self.gradient_checkpointing = gradient_checkpointing
        self._prompts = PromptCollection(backbone, conditioning)
        self._held: Held | None = None
        for name, prompt in (prompts or {}).items():
            self.add(name, prompt)

    @property
    def verdict(self) -> Verdict:
        """What the probe found exact on this backbone."""
        return self._prompts.verdict

    @property
    def prompts(self) -> Mapping[str, SoftPrompt]:
        """The prompts by name."""
        return self._prompts

    @property
    def reads_whole(self) -> bool:
        """Whether each row is trained on in one pass through all layers, none of its start kept for what follows.

        Layers are recomputed without a cache, and processes that gather weights from each other take passes alike.
        """
        return self.gradient_checkpointing or self.backbone.sharded

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trainable parameters of every prompt; the backbone has none."""
        for prompt in self._prompts.values():
            yield from prompt.parameters()

    def add(self, name: str, prompt: SoftPrompt, *, fixed: bool = False) -> None:
        """Add a prompt, or replace the one of that name.

        Args:
            name: What passes call it.
            prompt: The prompt.
            fixed: Whether its values never change, so that nobody has to look.

        Raises:
            MismatchError: If it was made for another backbone.
            UnsupportedError: If it cannot be exact on this backbone.
        """
        self._prompts.add(name, prompt, fixed=fixed)

    def remove(self, name: str) -> None:
        """Forget a prompt.

        Raises:
            ConfigError: If there is none of that name.
        """
        self._prompts.remove(name)

    def pass_of(self, name: str) -> PassTaken:
        """Which way a prompt takes: recorded once and shared, inserted among the inputs, or keys and values given."""
        return self._prompts.pass_of(name)

    @torch.no_grad()
    def compile(self, prompts: Sequence[str] | None = None) -> int:
        """Compute prompts now; without this, the first batch that takes a prompt waits for it.

        Args:
            prompts: Their names; all if None.

        Returns:
            Bytes that they take up: their values, and what was computed of them.

        Raises:
            ConfigError: If there is none of a name.
            NonFiniteError: If one has NaN or infinite values in the backbone's dtype, or gives such to a layer.
        """
        return self._prompts.compile(list(self._prompts) if prompts is None else prompts)

    @contextlib.contextmanager
    def hold(self, prompts: Sequence[str | None]) -> Iterator[Prompted]:
        """Give the same model with some prompts computed once, for several passes with gradients.

        The gradients of these passes reach the prompts' parameters together, when the block ends without an error.

        Args:
            prompts: Names, as in a forward pass; only rows with these may be in the passes.
        """
        names = list(dict.fromkeys(name for name in prompts if name is not None))
        applied = self._prompts.applied(names, checkpointing=self.gradient_checkpointing)
        held = copy.copy(self)
        held._held = Held(dict(zip(names, applied, strict=True)))
        yield held
        held._held.release()

    def __call__(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Tensor | None = None,
        prompts: PromptNames = None,
        labels: Tensor | None = None,
        decoder_input_ids: Int[Tensor, "batch target"] | None = None,
        return_logits: bool | None = None,
        marks: Int[Tensor, "batch marks"] | None = None,
    ) -> Output:
        """One forward pass.

        Args:
            input_ids: Token ids; in a decoder-only model with targets behind the inputs.
            attention_mask: 1 or True where a token is real; padding may be on either side. All are if None.
            prompts: A prompt's name for each row, None for the bare backbone; one name for all rows; or None for
                the only prompt there is.
            labels: `[batch, seq]` token ids, -100 without loss (decoder-only; the target's in an encoder-decoder);
                `[batch]` class indices (encoder-only), or `[batch, targets]` with heads over tokens, padded with -100:
                a tag for each token, or first and last token of a span.
            decoder_input_ids: What the decoder reads; made from labels if None.
            return_logits: Whether to return logits although labels are given.
            marks: Token indices of a template's marks in each row, for `placement="middle"` and `"template"`; -1 where
                a row has fewer than another.

        Raises:
            ShapeError: If shapes or devices do not fit each other, a row has no tokens, or no token is labelled.
            LengthError: If a row with its prompt is longer than the backbone's positions.
        """
        names = self._names(prompts, input_ids.shape[0])
        check_devices(self.backbone, {"labels": labels, "decoder_input_ids": decoder_input_ids})
        check_labels(self.backbone, input_ids, labels, decoder_input_ids)
        kind = self.backbone.spec.kind
        targets = labels if kind == "decoder-only" else None
        rows = self._rows(names, input_ids, attention_mask, targets, marks)
        checkpointing = self.gradient_checkpointing and torch.is_grad_enabled()
        applied = self._applied(names, checkpointing=checkpointing)
        if kind == "encoder-only":
            return encoders.read_heads(self.backbone, applied, rows, labels, checkpointing=checkpointing)
        options: dict[str, Any] = {"return_logits": bool(return_logits), "checkpointing": checkpointing}
        if kind == "decoder-only":
            return forward.continue_text(self.backbone, applied, rows, labels, known=self._inputs, **options)
        return forward.translate(self.backbone, applied, rows, labels, decoder_input_ids, **options)

    @torch.no_grad()
    def generate(
        self,
        texts: Sequence[str | Mapping[str, object]] | None = None,
        *,
        input_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Tensor | None = None,
        prompts: PromptNames = None,
        marks: Int[Tensor, "batch marks"] | None = None,
        raw: bool = False,
        truncate: bool = False,
        **options: Any,
    ) -> Any:
        """Generate with transformers' `generate`, whose options all apply.

        Args:
            texts: Inputs; a prompt's stored template is filled with them (a text for a template of one field, a
                mapping for several).
            input_ids: Token ids instead of texts.
            attention_mask: 1 or True where a token of `input_ids` is real.
            prompts: As in a forward pass.
            marks: As in a forward pass, with `input_ids`.
            raw: Whether texts are taken as they are, without template.
            truncate: Whether inputs that are too long are shortened, in what fills their template; otherwise they
                are an error.
            **options: What `transformers` knows: `max_new_tokens` (20 unless options or model say otherwise),
                `num_beams`, `do_sample`, `streamer`, `generation_config`, …; lengths never count virtual tokens.

        Returns:
            For texts, the generated texts alone: one for each input, or with `num_return_sequences` that many, those
            of an input side by side. For ids, what transformers returns, with scores if `return_dict_in_generate`.

        Raises:
            ShapeError: If neither or both of texts and ids are given, a row has no tokens, or there are no rows.
            LengthError: If an input is too long, with its prompt and what is to be generated.
        """
        if (texts is None) == (input_ids is None):
            raise ShapeError("generate needs either texts or input_ids; give exactly one.")
        if texts is not None:
            room = generation.room_for(self.backbone, options)
            input_ids, attention_mask, marks = self.encode(texts, prompts, raw=raw, truncate=truncate, room=room)
        assert input_ids is not None
        names = self._names(prompts, input_ids.shape[0])
        rows = self._rows(names, input_ids, attention_mask, None, marks)
        made = generation.generate(self.backbone, self._applied(names, checkpointing=False), rows, options)
        if texts is None:
            return made
        return generation.decode(self.backbone, made, rows.ids.shape[1])

    @torch.no_grad()
    def score(
        self,
        texts: Sequence[str | Mapping[str, object]],
        candidates: Sequence[str] | Sequence[Sequence[str]],
        *,
        prompts: PromptNames = None,
        raw: bool = False,
        truncate: bool = False,
    ) -> Float[Tensor, "batch candidates"]:
        """Log-probabilities of candidate targets; prompt and input are computed once per row.

        Args:
            texts: Inputs, as in `generate`.
            candidates: Targets, the same for every row, or a list for each row.
            prompts: As in a forward pass.
            raw: Whether texts are taken as they are, without template.
            truncate: Whether inputs that are too long are shortened, in what fills their template; otherwise they
                are an error.

        Returns:
            Sums over each candidate's tokens, its end token included, in nats; -inf where a row has fewer
            candidates than the longest list.

        Raises:
            ConfigError: If the backbone is encoder-only: its classes are its logits.
            ShapeError: If there are no candidates, or not a list for every row, or an input has no tokens.
        """
        check_list("texts", texts)
        check_list("candidates", candidates)
        names = self._names(prompts, len(texts))
        shared = all(isinstance(candidate, str) for candidate in candidates)
        lists: list[Sequence[str]] = [candidates] * len(texts) if shared else list(candidates)  # type: ignore[list-item]
        if len(lists) != len(texts) or not all(lists):
            raise ShapeError(
                f"score needs candidates for each of {len(texts)} rows; got {len(lists)} lists, none empty."
            )
        if self.backbone.spec.kind == "encoder-only":
            raise ConfigError(f"{self.backbone.name} scores its own classes only; read the logits of a forward pass.")
        rendered = self._render(texts, names, raw)
        targets = scoring.encode(self.backbone, rendered, lists)
        room = max(len(ids) for row in targets for ids in row)
        input_ids, mask, marks = self._encode(rendered, names, truncate=truncate, room=room)
        return self.score_ids(input_ids, mask, targets, prompts=names, marks=marks)

    def score_ids(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Tensor,
        targets: Sequence[Sequence[list[int]]],
        *,
        prompts: PromptNames = None,
        marks: Int[Tensor, "batch marks"] | None = None,
    ) -> Float[Tensor, "batch candidates"]:
        """`score` for inputs and candidates that are token ids already; prompts get gradients where they are enabled.

        Args:
            input_ids: Token ids of the inputs.
            attention_mask: 1 or True where a token of `input_ids` is real.
            targets: For each row, the token ids of its candidates.
            prompts: As in a forward pass.
            marks: As in a forward pass.

        Returns:
            As `score` does.
        """
        names = self._names(prompts, input_ids.shape[0])
        rows = self._rows(names, input_ids, attention_mask, None, marks)
        return scoring.score(self.backbone, self._applied(names, checkpointing=False), rows, targets, self._inputs)

    @torch.no_grad()
    def judge_ids(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Tensor,
        targets: Sequence[Sequence[list[int]]],
        *,
        prompts: PromptNames = None,
        marks: Int[Tensor, "batch marks"] | None = None,
    ) -> tuple[Float[Tensor, "batch candidates"], Bool[Tensor, "batch candidates"]]:
        """`score_ids`, and whether each candidate is what greedy decoding would say in as many tokens.

        Args:
            input_ids: As in `score_ids`, and so are all others.
            attention_mask: 1 or True where a token of `input_ids` is real.
            targets: For each row, the token ids of its candidates.
            prompts: As in a forward pass.
            marks: As in a forward pass.
        """
        names = self._names(prompts, input_ids.shape[0])
        rows = self._rows(names, input_ids, attention_mask, None, marks)
        return scoring.judge(self.backbone, self._applied(names, checkpointing=False), rows, targets)

    @torch.no_grad()
    def embed_ids(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Tensor | None = None,
        *,
        prompts: PromptNames = None,
        marks: Int[Tensor, "batch marks"] | None = None,
    ) -> list[Float[Tensor, "joined dim"]]:
        """What the model reads of each row: embedded tokens, and its prompt's rows where they stand among them.

        Another engine that is given these as its input continues them as this one does.

        Args:
            input_ids: Token ids of the inputs.
            attention_mask: 1 or True where a token of `input_ids` is real.
            prompts: As in a forward pass.
            marks: As in a forward pass.

        Returns:
            Of each row as many vectors as it has tokens, real and virtual, in the backbone's dtype.

        Raises:
            UnsupportedError: If a prompt reaches the layers as keys and values: its own, or, unless the model was made
                with `conditioning="concatenation"`, those recorded of its rows.
        """
        names = self._names(prompts, input_ids.shape[0])
        rows = self._rows(names, input_ids, attention_mask, None, marks)
        joined = join(self.backbone, self._applied(names, checkpointing=False), rows)
        if joined.injection is not None:
            raise UnsupportedError(
                "A prompt gives keys and values to layers, which no embeddings stand for; take prompts of rows, and "
                "conditioning='concatenation'."
            )
        embeddings = joined.model_inputs.get("inputs_embeds")
        if embeddings is None:
            embeddings = self.backbone.embed(joined.model_inputs["input_ids"])  # [batch, joined, dim]
        return [row[mask] for row, mask in zip(embeddings, joined.mask, strict=True)]

    @torch.no_grad()
    def may_join(self, prompts: Sequence[str | None]) -> bool:
        """Whether rows with these prompts may come into a batch that runs already; see `JoiningDecoding`."""
        names = [name for name in dict.fromkeys(prompts) if name is not None]
        return may_join(self.backbone, self._applied(names, checkpointing=False))

    @torch.no_grad()
    def admit(
        self,
        decoding: Decoding,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Tensor,
        *,
        prompts: Sequence[str | None],
        marks: Int[Tensor, "batch marks"] | None = None,
    ) -> Float[Tensor, "batch vocab"]:
        """Read inputs into a batch that generates step by step.

        Args:
            decoding: The running batch.
            input_ids: Token ids of the inputs.
            attention_mask: 1 or True where a token of `input_ids` is real.
            prompts: As in a forward pass.
            marks: As in a forward pass.

        Returns:
            Logits of the first token behind each input.
        """
        names = self._names(prompts, input_ids.shape[0])
        rows = self._rows(names, input_ids, attention_mask, None, marks)
        return decoding.admit(self._applied(names, checkpointing=False), rows)

    def encode(
        self,
        texts: Sequence[str | Mapping[str, object]],
        prompts: PromptNames = None,
        *,
        raw: bool = False,
        truncate: bool = False,
        room: int = 0,
    ) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"], Int[Tensor, "batch marks"]]:
        """Tokenize inputs as `generate` and `score` do, padded on the right.

        Args:
            texts: Inputs, as in `generate`.
            prompts: As in a forward pass.
            raw: Whether texts are taken as they are, without template.
            truncate: Whether inputs that are too long are shortened.
            room: Positions to leave free behind the input, in tokens.

        Returns:
            Token ids, their mask, and the token indices of the marks.
        """
        check_list("texts", texts)
        names = self._names(prompts, len(texts))
        return self._encode(self._render(texts, names, raw), names, truncate=truncate, room=room)

    def longest_input(self, prompt: str | None, *, room: int = 0) -> int | None:
        """Most tokens that an input may have beside a prompt; None where positions are unbounded.

        Args:
            prompt: The prompt's name; None for the bare backbone.
            room: Positions to leave free behind the input, in tokens.
        """
        limit = self.backbone.spec.max_positions
        if limit is None:
            return None
        behind = room if self.backbone.spec.kind == "decoder-only" else 0
        return limit - self._prompts.positions(prompt) - behind

    def _applied(self, names: Sequence[str | None], *, checkpointing: bool) -> list[Applied]:
        if self._held is not None and torch.is_grad_enabled():
            return self._held.applied(names)
        return self._prompts.applied(names, checkpointing=checkpointing)

    def _render(
        self, texts: Sequence[str | Mapping[str, object]], names: Sequence[str | None], raw: bool
    ) -> list[RenderedInput]:
        """Inputs in the templates that are stored with their prompts; as they are, if raw."""
        stored = {name: None if raw or name is None else self._prompts[name].info.format for name in set(names)}
        forms = {name: None if found is None else TextFormat.from_mapping(found) for name, found in stored.items()}
        return [render_input(self.backbone, forms[name], text) for name, text in zip(names, texts, strict=True)]

    def _encode(
        self, rendered: Sequence[RenderedInput], names: Sequence[str | None], *, truncate: bool, room: int
    ) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"], Int[Tensor, "batch marks"]]:
        longest = {name: self.longest_input(name, room=room) for name in set(names)}
        bounded = [
            replace(one, max_tokens=longest[name], truncate=truncate) for one, name in zip(rendered, names, strict=True)
        ]
        return collate_inputs(self.backbone, encode_inputs(self.backbone, bounded))

    def _rows(
        self,
        names: Sequence[str | None],
        ids: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor | None,
        marks: Tensor | None,
    ) -> Rows:
        """A batch as the passes take it, once it is known to be sound."""
        check_devices(self.backbone, {"input_ids": ids, "attention_mask": attention_mask, "marks": marks})
        mask = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        check_batch(ids, mask, marks)
        order = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
        device = self.backbone.device
        index = torch.tensor([-1 if name is None else order[name] for name in names], device=device)
        if marks is None:
            marks = torch.full_like(index, -1)[:, None]
        return Rows(ids=ids, mask=mask, index=index, inputs=forward.count_inputs(mask, labels), marks=marks)

    def _names(self, prompts: PromptNames, batch: int) -> list[str | None]:
        if batch == 0:
            raise ShapeError("The batch has no rows; give it at least one.")
        if prompts is None:
            if len(self._prompts) != 1:
                raise ConfigError(
                    f"There are {len(self._prompts)} prompts; say which each row takes: prompts=[...], with None for "
                    "the bare backbone."
                )
            prompts = next(iter(self._prompts))
        names: list[str | None] = [prompts] * batch if isinstance(prompts, str) else list(prompts)
        if len(names) != batch:
            raise ShapeError(f"prompts names {len(names)} rows, but the batch has {batch}.")
        for name in names:
            if name is not None and name not in self._prompts:
                raise choose("prompt", name, self._prompts)
        if None in names and self.backbone.has_untrained_head:
            raise ConfigError(f"{self.backbone.name} has no head that was trained; give each row a prompt with a head.")
        return names
