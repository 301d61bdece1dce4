"""Prompts on the hub: a repository holds the files of one prompt's folder, and no others are read or written."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from softprompt.artefact import read_folder, write_folder
from softprompt.errors import ArtefactError
from softprompt.prompts import SoftPrompt

__all__ = ["pull_prompt", "push_prompt"]

_NAME, _CARD = "prompt", "README.md"
_FILES = [f"{_NAME}.safetensors", f"{_NAME}.json", _CARD]
_REFUSED = (401, 403)


def push_prompt(
    path: str | Path,
    repo_id: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    token: str | None = None,
) -> str:
    """Put a stored prompt into a repository of the hub, which is created if there is none.

    Args:
        path: A folder that `SoftPrompt.save` wrote; it is read once first, so that nothing damaged is published.
        repo_id: `user/name` or `organisation/name`.
        revision: A branch, created if there is none; the main one if None.
        private: Whether a repository that is created is private; None takes the account's default.
        token: An access token; the one that `hf auth login` stored, if None.

    Returns:
        The address of the commit.

    Raises:
        ArtefactError: If the folder is no prompt, or the hub cannot be reached or refuses.
    """
    SoftPrompt.load(path)
    api = HfApi(token=token)
    with _explained("push to", repo_id, revision):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=path,
            allow_patterns=_FILES,
            revision=revision,
            commit_message="Upload a soft prompt",
        )
    return str(commit.commit_url)


def pull_prompt(repo_id: str, path: str | Path, *, revision: str | None = None, token: str | None = None) -> Path:
    """Fetch a prompt from the hub into a folder, atomically; an older prompt there is replaced.

    Three names are asked for, whatever the repository lists; everything else in it stays where it is.

    Args:
        repo_id: `user/name` or `organisation/name`.
        path: The folder to write.
        revision: Branch, tag or commit; the main branch if None.
        token: An access token; the one that `hf auth login` stored, if None.

    Returns:
        The folder.

    Raises:
        ArtefactError: If the hub cannot be reached or refuses, the repository holds no prompt, the prompt is
            damaged, or something else is at `path`.
    """
    with tempfile.TemporaryDirectory() as cache:  # a stale copy of another day never stands in for the hub's
        with _explained("pull from", repo_id, revision):
            found = Path(
                snapshot_download(repo_id, revision=revision, token=token, cache_dir=cache, allow_patterns=_FILES)
            )
        if missing := [name for name in _FILES[:2] if not (found / name).is_file()]:
            raise ArtefactError(
                f"{repo_id} holds no prompt: expected {' and '.join(_FILES[:2])}, missing {', '.join(missing)}. A PEFT "
                "checkpoint is downloaded with huggingface_hub and read with load_peft."
            )
        SoftPrompt.load(found)
        tensors, metadata = read_folder(found, _NAME)
        card = found / _CARD
        files = {_CARD: card.read_text(encoding="utf-8")} if card.is_file() else {}
        return write_folder(path, _NAME, tensors, metadata, files)


@contextlib.contextmanager
def _explained(action: str, repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn the hub's errors into one that names the repository and the remedy."""
    place = f"{repo_id} at {revision}" if revision else repo_id
    try:
        try:
            yield
        except LocalEntryNotFoundError as error:  # what it says when it found no copy after the hub's real answer
            raise error.__cause__ or error from None
    except HFValidationError as error:
        raise ArtefactError(f"{repo_id!r} is no name of a repository ({error}); expected 'user/name'.") from None
    except GatedRepoError:
        raise ArtefactError(f"Cannot {action} {place}: ask for access on its page, then pass token=.") from None
    except RepositoryNotFoundError:
        raise ArtefactError(
            f"Cannot {action} {place}: there is no such repository, or it is private; check the name, or pass token= "
            "(or run `hf auth login`)."
        ) from None
    except RevisionNotFoundError:
        raise ArtefactError(f"Cannot {action} {repo_id}: it has no revision {revision!r}.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = "pass token= of an account that may do that" if status in _REFUSED else str(error)
        raise ArtefactError(f"Cannot {action} {place}: the hub answered {status}; {remedy}.") from None
    except (HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise ArtefactError(
            f"Cannot {action} {place}: the hub cannot be reached ({type(error).__name__}); check the connection, "
            "HF_ENDPOINT and HF_HUB_OFFLINE."
        ) from None
