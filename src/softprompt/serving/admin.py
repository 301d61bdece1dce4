"""`/admin`: what is served is looked at and changed while the server runs."""

from __future__ import annotations

import io
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from softprompt.inference import PromptFolder
from softprompt.prompts import Members, SoftPrompt
from softprompt.serving.failures import invalid
from softprompt.serving.guard import ADMIN
from softprompt.serving.service import Service

__all__ = ["routes"]

_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def routes(service: Service, folder: PromptFolder) -> APIRouter:
    """The routes that change a folder of prompts."""
    router = APIRouter(prefix=ADMIN)
    in_thread = service.answering.in_thread

    @router.get("/prompts")
    async def look() -> dict[str, Any]:
        """What is in memory, with its versions, and the folder's counts."""
        loaded = await in_thread(folder.loaded)
        return {"loaded": [asdict(one) for one in loaded], "counts": asdict(folder.counts())}

    @router.put("/prompts/{name}", openapi_extra=_UPLOAD)
    async def replace(name: str, http: Request) -> dict[str, Any]:
        """Store a prompt or an ensemble, sent as a tar file of its folder; the next request is answered by it."""
        body = await http.body()
        version = await in_thread(lambda: folder.replace(name, _unpacked(body, folder.path)))
        return {"name": name, "version": version}

    @router.delete("/prompts/{name}")
    async def remove(name: str) -> dict[str, Any]:
        """Delete a prompt; requests that are being answered by it still are."""
        await in_thread(lambda: folder.remove(name))
        return {"name": name, "removed": True}

    @router.post("/prompts/{name}/load")
    async def load(name: str) -> dict[str, Any]:
        """Bring a prompt into memory, and check it, before it is asked for."""

        def version() -> str:
            with folder.lease(name) as lease:
                return lease.version

        return {"name": name, "version": await in_thread(version)}

    @router.post("/prompts/{name}/unload")
    async def unload(name: str) -> dict[str, Any]:
        """Take a prompt out of memory; the next request reads it again."""
        return {"name": name, "unloaded": await in_thread(lambda: folder.unload(name))}

    @router.post("/reload")
    async def reload() -> dict[str, Any]:
        """Forget what has changed on disk; the next requests read it again."""
        return {"changed": await in_thread(folder.reload)}

    return router


def _unpacked(body: bytes, beside: Path) -> SoftPrompt | Members:
    """The prompt in a tar file: two files by their known names, and nothing else that is looked at.

    Raises:
        FailureError: If it is none.
        ArtefactError: If the prompt is damaged.
    """
    with tempfile.TemporaryDirectory(prefix=".upload.", dir=beside) as draft:
        found = set()
        try:
            with tarfile.open(fileobj=io.BytesIO(body)) as packed:
                for member in packed:
                    name = Path(member.name).name
                    if not member.isfile() or name not in _FILES or name in found:
                        continue
                    content = packed.extractfile(member)
                    assert content is not None
                    (Path(draft) / name).write_bytes(content.read())
                    found.add(name)
        except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
            raise invalid(
                f"The body is no tar file that can be read ({error}); send tar -cf - of a prompt's files."
            ) from None
        kinds = [kind for kind in (SoftPrompt, Members) if _files_of(kind) <= found]
        if len(kinds) != 1:
            raise invalid(
                "The tar file has to hold prompt.json and prompt.safetensors, or ensemble.json and "
                f"ensemble.safetensors; it holds {', '.join(sorted(found)) or 'none of these'}."
            )
        return kinds[0].load(draft)


def _files_of(kind: type[SoftPrompt] | type[Members]) -> set[str]:
    stem = "ensemble" if kind is Members else "prompt"
    return {f"{stem}.json", f"{stem}.safetensors"}


_FILES = _files_of(SoftPrompt) | _files_of(Members)
