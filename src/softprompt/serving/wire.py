"""What requests and answers look like on the wire: OpenAI's fields, and some of ours."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = [
    "ChatRequest",
    "Classified",
    "ClassifyRequest",
    "CompletionRequest",
    "Failed",
    "Model",
    "ModelList",
    "RankRequest",
    "SamplingFields",
    "ScoreRequest",
    "Scored",
    "Turn",
]

_Text = Annotated[str, Field(max_length=2**20)]
_Word = Annotated[str, Field(max_length=2**14)]
_Stop = Annotated[str, Field(max_length=2**8)]
"""What has a longest length is also looked at, and refused where it holds half a character."""
_Fields = dict[str, JsonValue]
_Input = _Text | _Fields
_MOST_INPUTS = 256
_MOST_STOPS = 16


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Asked(_Wire):
    """What every request has."""

    model: str = Field(min_length=1, max_length=256, description="A prompt, an ensemble, or the backbone's own name.")
    raw: bool = Field(False, description="Take texts as they are, without the template that is stored with the prompt.")
    truncate: bool = Field(False, description="Shorten an input that is too long, instead of failing.")
    user: str | None = Field(None, description="Not used.")
    metadata: dict[str, JsonValue] | None = Field(None, description="Not used.")


class StreamOptions(_Wire):
    """What a stream tells besides text."""

    include_usage: bool = False
    include_obfuscation: bool | None = Field(None, description="Not used.")


class SamplingFields(_Asked):
    """How text is generated; what is not said is as in the library: greedy, at most 128 tokens."""

    max_tokens: int | None = Field(None, ge=1, description="Longest answer, in tokens.")
    min_tokens: int = Field(0, ge=0, description="No end before so many tokens.")
    temperature: float | None = Field(None, ge=0, le=100, description="0, or nothing, takes the likeliest token.")
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    repetition_penalty: float | None = Field(None, gt=0, le=100)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: _Stop | Annotated[list[_Stop], Field(max_length=_MOST_STOPS)] | None = None
    n: int | None = Field(None, ge=1, le=64)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: float | None = Field(None, ge=0, le=0, description="0 only; use repetition_penalty.")
    presence_penalty: float | None = Field(None, ge=0, le=0, description="0 only; use repetition_penalty.")
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = Field(None, description="Empty only.")
    service_tier: str | None = Field(None, description="Not used.")
    store: bool | None = Field(None, description="Not used.")


class CompletionRequest(SamplingFields):
    """`/v1/completions`."""

    prompt: _Input | Annotated[list[_Input], Field(min_length=1, max_length=_MOST_INPUTS)] = Field(
        description="A text, which fills the prompt's template, or its fields by name; or several of these."
    )
    logprobs: int | None = Field(None, ge=0, le=20, description="Log-probabilities of so many likeliest tokens.")
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None


class TextPart(_Wire):
    """A part of a turn."""

    type: Literal["text"]
    text: _Text


class Turn(_Wire):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text | Annotated[list[TextPart], Field(min_length=1, max_length=_MOST_INPUTS)]
    name: str | None = Field(None, description="Not used.")

    @property
    def text(self) -> str:
        """All that is said."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(SamplingFields):
    """`/v1/chat/completions`."""

    messages: list[Turn] = Field(min_length=1, max_length=_MOST_INPUTS)
    max_completion_tokens: int | None = Field(None, ge=1, description="As max_tokens.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)


class RankRequest(_Asked):
    """What choosing and scoring have in common."""

    input: _Input | Annotated[list[_Input], Field(min_length=1, max_length=_MOST_INPUTS)] = Field(
        description="A text, which fills the prompt's template, or its fields by name; or several of these."
    )


class ClassifyRequest(RankRequest):
    """`/v1/classify`."""

    labels: Annotated[list[_Word], Field(min_length=1, max_length=1024)] | None = Field(
        None, description="What to choose from; the label words that the prompt was trained with if not given."
    )


class ScoreRequest(RankRequest):
    """`/v1/score`."""

    targets: list[_Word] = Field(min_length=1, max_length=1024, description="Texts that may follow the input.")


class Details(BaseModel):
    """What of a prompt is not text."""

    virtual_tokens: int = Field(description="Rows of the soft prompt, not counted in prompt_tokens.")


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Details


class LabelShare(BaseModel):
    """A label and its probability."""

    label: str
    probability: float


class OneClassified(BaseModel):
    """What was chosen for an input."""

    index: int
    label: str
    probabilities: list[LabelShare]


class Classified(BaseModel):
    """What was chosen for each input."""

    object: Literal["list"] = "list"
    model: str
    version: str | None
    data: list[OneClassified]
    usage: Usage


class TargetScore(BaseModel):
    """How likely a text is to follow."""

    target: str
    logprob: float = Field(description="In nats, summed over its tokens.")
    probability: float = Field(description="Among the targets.")


class OneScored(BaseModel):
    """The targets of an input."""

    index: int
    scores: list[TargetScore]


class Scored(BaseModel):
    """The targets of each input."""

    object: Literal["list"] = "list"
    model: str
    version: str | None
    data: list[OneScored]
    usage: Usage


class Model(BaseModel):
    """What can be asked: a prompt, an ensemble, or the backbone itself."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["softprompt"] = "softprompt"
    kind: Literal["prompt", "ensemble", "backbone", "damaged"]
    version: Annotated[
        str | None, Field(description="Digest of a prompt's files; told where one model is asked for.")
    ] = None
    card: dict[str, Any]


class ModelList(BaseModel):
    """All that can be asked."""

    object: Literal["list"] = "list"
    data: list[Model]


class WhatFailed(BaseModel):
    """Why there is no answer."""

    message: str
    type: str
    param: str | None
    code: str


class Failed(BaseModel):
    """An error, in OpenAI's shape."""

    error: WhatFailed
