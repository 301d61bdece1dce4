"""`/admin`: what is served is looked at and changed while the server runs."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from softprompt.errors import ArtefactError
from softprompt.prompts import Members, SoftPrompt
from softprompt.serving.failures import Failure, FailureError, invalid
from softprompt.serving.guard import ADMIN
from softprompt.serving.loading import Loading
from softprompt.serving.service import Service

__all__ = ["routes"]

_NO_STORAGE = 507
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def routes(service: Service, loading: Loading) -> APIRouter:
    """The routes that change a folder of prompts."""
    folder = loading.folder
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
        if name == service.catalogue.backbone:
            raise invalid(
                f"{name!r} is the backbone's own name, and nobody could ask for it alone; take another name.",
                status=409,
            )
        body = await http.body()

        def store() -> str:
            with _storing():
                return folder.replace(name, _unpacked(body, folder.files.path))

        version = await loading.in_thread(store)
        return {"name": name, "version": version}

    @router.delete("/prompts/{name}")
    async def remove(name: str) -> dict[str, Any]:
        """Delete a prompt; requests that are being answered by it still are."""
        await in_thread(lambda: folder.remove(name))
        return {"name": name, "removed": True}

    @router.post("/prompts/{name}/load")
    async def load(name: str) -> dict[str, Any]:
        """Bring a prompt into memory, and check it, before it is asked for."""
        async with loading.holding(name) as lease:
            return {"name": name, "version": lease.version}

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
    try:
        files = _files_in(body)
    except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
        raise invalid(
            f"The body is no tar file that can be read ({error}); send tar -cf - of a prompt's files."
        ) from None
    kinds = [kind for kind in (SoftPrompt, Members) if _files_of(kind) <= files.keys()]
    if len(kinds) != 1:
        raise invalid(
            "The tar file has to hold prompt.json and prompt.safetensors, or ensemble.json and ensemble.safetensors; "
            f"it holds {', '.join(sorted(files)) or 'none of these'}."
        )
    with tempfile.TemporaryDirectory(prefix=".draft.upload.", dir=beside) as draft:
        for name, content in files.items():
            (Path(draft) / name).write_bytes(content)
        try:
            return kinds[0].load(draft)
        except ArtefactError as error:
            raise ArtefactError(str(error).replace(f"{draft}/", "").replace(draft, "The tar file")) from None


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    """A disk that cannot be written to is no fault of the prompt's.

    Raises:
        FailureError: If it cannot.
    """
    try:
        yield
    except OSError as error:
        message = (
            f"The prompt could not be stored ({error.strerror or 'writing failed'}); make room on the server's disk, "
            "then send it again."
        )
        raise FailureError(Failure(status=_NO_STORAGE, message=message, type="server_error", code="storage")) from error


def _files_in(body: bytes) -> dict[str, bytes]:
    """Contents by name; never more than what was sent: packed bodies and files with holes are not read."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as packed:
        for member in packed:
            name = Path(member.name).name
            if not member.isfile() or name not in _FILES or name in found:
                continue
            if member.issparse() or member.size > len(body):
                raise invalid(f"{name} is larger than the tar file that holds it; pack it without --sparse.")
            content = packed.extractfile(member)
            assert content is not None
            found[name] = content.read()
    return found


def _files_of(kind: type[SoftPrompt] | type[Members]) -> set[str]:
    stem = "ensemble" if kind is Members else "prompt"
    return {f"{stem}.json", f"{stem}.safetensors"}


_FILES = _files_of(SoftPrompt) | _files_of(Members)
