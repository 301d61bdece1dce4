"""The application: routes over an engine, behind the guard."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import Response

from softprompt.errors import SoftpromptError
from softprompt.serving import admin, chat, completions, ranking
from softprompt.serving.answering import Answering
from softprompt.serving.bodies import App
from softprompt.serving.catalogue import Catalogue
from softprompt.serving.engines import AnsweringEngine
from softprompt.serving.failures import Failure, FailureError, failure_of, report
from softprompt.serving.guard import ADMIN, Guard
from softprompt.serving.loading import Loading
from softprompt.serving.metrics import Metrics
from softprompt.serving.service import Service
from softprompt.serving.settings import ServerSettings
from softprompt.serving.wire import Failed, Model, ModelList

__all__ = ["create_app"]

log = logging.getLogger(__name__)

_PAGE = Path(__file__).parent / "page"
_MOST_PROBLEMS = 3
_FAILED = {"4XX": "The request is at fault.", "5XX": "The server is, or has too much to do."}


def create_app(engine: AnsweringEngine, settings: ServerSettings | None = None) -> App:
    """An ASGI application that serves an engine in OpenAI's conventions.

    Args:
        engine: Answers; whoever made it closes it.
        settings: The server's.

    Raises:
        ArtefactError: If a file of keys cannot be read.
    """
    settings = settings or ServerSettings()
    metrics = Metrics(engine)
    service = Service(
        answering=Answering(engine, metrics),
        loading=None if engine.folder is None else Loading(engine.folder),
        catalogue=Catalogue(engine),
        metrics=metrics,
        settings=settings,
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(_watch(service)) if settings.watch_s and engine.folder else None
        yield
        if watching is not None:
            watching.cancel()

    told: dict[int | str, dict[str, Any]] = {
        kind: {"model": Failed, "description": text} for kind, text in _FAILED.items()
    }
    app = FastAPI(title="softprompt", lifespan=lifespan, docs_url=None, redoc_url=None, responses=told)
    for module in (completions, chat, ranking):
        app.include_router(module.routes(service))
    if service.loading is not None:
        app.include_router(admin.routes(service, service.loading))
    _add_looks(app, service)
    _add_failures(app, service)
    return Guard(app, settings, metrics)


def _add_looks(app: FastAPI, service: Service) -> None:
    """What is only looked at: models, health, metrics, the page."""
    engine, catalogue = service.answering.engine, service.catalogue

    @app.get("/v1/models")
    async def models() -> ModelList:
        """All prompts and ensembles with their cards, and the backbone."""
        return ModelList(data=await service.answering.in_thread(catalogue.models))

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Model:
        """One of them."""
        return await service.answering.in_thread(lambda: catalogue.model(name))

    @app.get("/v1/load")
    async def load() -> dict[str, Any]:
        """What the engine and its folder have to do at this moment, and have done."""
        folder = engine.folder
        return {"engine": asdict(engine.counts()), "prompts": None if folder is None else asdict(folder.counts())}

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "live"}

    @app.get("/health/ready", response_model=None, responses={503: {"description": "Not now."}})
    async def ready() -> Response | dict[str, str]:
        """Whether requests are taken, and what computes can be reached."""
        if not engine.is_open:
            return JSONResponse({"status": "closing"}, status_code=503)
        if not await service.answering.in_thread(engine.is_reachable):
            return JSONResponse({"status": "unreachable"}, status_code=503)
        return {"status": "ready"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """For Prometheus."""
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=_PAGE), name="page")


def _add_failures(app: FastAPI, service: Service) -> None:
    """Every failure in OpenAI's shape."""

    def told(http: Request, failure: Failure) -> JSONResponse:
        http.state.facts["code"] = failure.code
        return JSONResponse(failure.body(), status_code=failure.status, headers=dict(failure.headers))

    @app.exception_handler(FailureError)
    @app.exception_handler(SoftpromptError)
    @app.exception_handler(RecursionError)
    @app.exception_handler(Exception)
    async def failed(http: Request, error: Exception) -> JSONResponse:
        if isinstance(error, RecursionError):
            return told(http, Failure(status=400, message="The body is nested too deeply.", code="invalid_json"))
        failure = failure_of(error, service.catalogue.hidden, admin=http.url.path.startswith(ADMIN))
        if failure.status >= 500:
            report(log, "a request failed", error, http.state.request_id)
        return told(http, failure)

    @app.exception_handler(RequestValidationError)
    async def wrong(http: Request, error: RequestValidationError) -> JSONResponse:
        problems = [(".".join(map(str, one["loc"][1:])), one["msg"]) for one in error.errors()]
        message = "; ".join(f"{place}: {text}" if place else text for place, text in problems[:_MOST_PROBLEMS])
        failure = Failure(status=400, message=message, code="invalid_value", param=problems[0][0] or None)
        return told(http, failure)

    @app.exception_handler(HTTPException)
    async def refused(http: Request, error: HTTPException) -> JSONResponse:
        messages = {404: "There is nothing at this address; GET /openapi.json tells what there is."}
        failure = Failure(
            status=error.status_code,
            message=messages.get(error.status_code, f"{error.detail}."),
            code="not_found" if error.status_code == 404 else "refused",
            headers=error.headers or {},
        )
        return told(http, failure)


async def _watch(service: Service) -> None:
    """Look now and then whether prompts in memory have changed on disk."""
    folder, every = service.answering.engine.folder, service.settings.watch_s
    assert folder is not None
    assert every is not None
    while True:
        await asyncio.sleep(every)
        try:
            if changed := await service.answering.in_thread(folder.reload):
                log.info("prompts have changed on disk", extra={"prompts": changed})
        except OSError as error:
            log.error("the folder of prompts cannot be looked at: %s", error)
