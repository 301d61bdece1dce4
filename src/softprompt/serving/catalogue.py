"""What can be asked of a server: its prompts and ensembles with their cards, and the backbone itself."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, final

from softprompt.errors import ArtefactError, ConfigError, UnknownPromptError
from softprompt.inference import PromptFolder
from softprompt.serving.engines import AnsweringEngine
from softprompt.serving.failures import invalid
from softprompt.serving.wire import Model
from softprompt.tasks import TextFormat

__all__ = ["Catalogue"]


@final
class Catalogue:
    """The models of a server by name. Threads may share it.

    Cards are kept as long as their files stay as they are.

    Args:
        engine: Whose prompts these are.
    """

    def __init__(self, engine: AnsweringEngine) -> None:
        self._engine = engine
        self._started = int(time.time())
        self._lock = threading.Lock()
        self._cards: dict[str, tuple[object, Model]] = {}
        name = engine.backbone.name
        self.backbone = name.partition(":")[2] if name.startswith("bundled:") else PurePath(name).name or name

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """Paths that clients must not be told, with what to say instead."""
        folder = self._engine.folder
        places = [(f"{folder.files.path}/", ""), (str(folder.files.path), "the folder of prompts")] if folder else []
        return [*places, (self._engine.backbone.name, self.backbone)]

    def models(self) -> list[Model]:
        """The backbone first, then prompts and ensembles by name; a damaged one is said to be."""
        folder = self._engine.folder
        found = [self._backbone()]
        if folder is None:
            return found
        names = folder.files.names()
        with self._lock:
            for gone in self._cards.keys() - set(names):
                del self._cards[gone]
        for name in names:
            with contextlib.suppress(UnknownPromptError):  # removed in this moment
                found.append(self._of(folder, name))
        return found

    def model(self, name: str) -> Model:
        """One of them, with its version.

        Raises:
            UnknownPromptError: If there is none of that name.
        """
        prompt = self.prompt_of(name)
        folder = self._engine.folder
        if prompt is None or folder is None:
            return self._backbone()
        return self._of(folder, prompt).model_copy(update={"version": folder.files.version_now(prompt)})

    def prompt_of(self, name: str) -> str | None:
        """The prompt that a request names; None for the bare backbone, by its own name.

        Whether there is one is seen where it is read, which waits for one that is being replaced.

        Raises:
            UnknownPromptError: If there are no prompts at all.
            FailureError: If a prompt is called like the backbone, so that nobody knows which is meant.
        """
        folder = self._engine.folder
        if name == self.backbone:
            if folder is not None and name in folder.files:
                raise invalid(
                    f"{name!r} is both a prompt and the backbone's own name; rename the prompt.",
                    param="model",
                    status=409,
                )
            return None
        if folder is None:
            raise UnknownPromptError(f"There is no model {name[:128]!r}; GET /v1/models lists all there are.")
        return name

    def _backbone(self) -> Model:
        backbone = self._engine.backbone
        card = {"architecture": backbone.spec.kind, "parameters": backbone.model.num_parameters()}
        return Model(id=self.backbone, created=self._started, kind="backbone", card=card)

    def _of(self, folder: PromptFolder, name: str) -> Model:
        stamp = folder.files.stamp(name)
        with self._lock:
            known = self._cards.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        created = stamp[1] // 10**9
        try:
            metadata, unfit = folder.files.card(name), folder.why_unfit(name)
            model = Model(
                id=name,
                created=created,
                kind="ensemble" if "members" in metadata else "prompt",
                card={**_public(metadata), **({} if unfit is None else {"unfit": unfit})},
            )
            model.model_dump_json()  # what cannot be written must not spoil the others
        except UnknownPromptError:
            raise
        except (ArtefactError, KeyError, TypeError, ValueError, AttributeError):
            model = Model(id=name, created=created, kind="damaged", card={})
        with self._lock:
            self._cards[name] = (stamp, model)
        return model


def _public(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a client may know of a prompt: how it was made and what it takes, but no places on the server's disk."""
    form = _format_in(metadata)
    card: dict[str, Any] = {
        "task": metadata["task"],
        "parameters": metadata["parameters"],
        "template": form.to_mapping()["input"] if form else None,
        "fields": list(form.fields) if form else None,
        "labels": list(form.labels) if form and form.labels else None,
    }
    if "members" in metadata:
        members = metadata["members"]
        card |= {"combine": metadata["combine"], "members": len(members)}
        card["virtual_tokens"] = sum(one["method"]["length"] for one in members)
    else:
        method = metadata["method"]
        card |= {"method": method["name"], "virtual_tokens": method["length"], "placement": method["placement"]}
        card["metrics"] = metadata["metrics"]
    return card


def _format_in(metadata: Mapping[str, Any]) -> TextFormat | None:
    """The format of a prompt, or of an ensemble's first member, which is that of all."""
    try:
        stored = (metadata["members"][0] if "members" in metadata else metadata)["format"]
        return None if stored is None else TextFormat.from_mapping(stored)
    except (KeyError, IndexError, ConfigError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"The stored format cannot be used: {error}") from None
