"""Routes of questions: lists, reasons, what if, similar items, words of a text, chat."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from forwhy.errors import Unknown, UserError
from forwhy.serve.schemas import Chat, Explain, Light, Name, Recommend, WhatIf
from forwhy.serve.service import Service

router = APIRouter(prefix="/v1")
RunName = Annotated[Name | None, Query(description="Which run; the first one, if left out.")]
UNBUFFERED = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def service_of(request: Request) -> Service:  # no thread for it
    """What all requests share."""
    found: Service = request.app.state.service
    return found


Shared = Annotated[Service, Depends(service_of)]


@router.post("/recommend")
async def recommend(body: Recommend, service: Shared) -> dict[str, Any]:
    """The best items for a person, each with what carried its score."""
    return await run_in_threadpool(service.recommend, body)  # the answer is checked without a thread more


@router.post("/what-if")
def what_if(body: WhatIf, service: Shared) -> dict[str, Any]:
    """The list and reasons with other words of the person, beside what they are."""
    return service.what_if(body)


@router.post("/explain", response_model=None)
async def explain(body: Explain, request: Request, service: Shared) -> StreamingResponse | dict[str, Any]:
    """Why this person would want this item; as server-sent events where these are asked for."""
    if not (body.stream or "text/event-stream" in request.headers.get("accept", "")):
        return await service.reasons.whole(await run_in_threadpool(service.why, body))
    events = await service.reasons.streamed(await run_in_threadpool(service.why, body))
    return StreamingResponse(events, media_type="text/event-stream", headers=UNBUFFERED)


@router.get("/items/{item:path}/similar")
def similar(
    item: Name, service: Shared, run: RunName = None, k: Annotated[int, Query(ge=1, le=100)] = 10
) -> dict[str, Any]:
    """Items most like this one, with the words they share."""
    return {"items": service.loaded(run).similar(item, k)}


@router.post("/words/light")
def light(body: Light, service: Shared) -> dict[str, Any]:
    """The words that a history or a few sentences light up, and from whom each comes."""
    run = service.loaded(body.run)
    if not body.history and not body.text.strip():
        raise UserError("give a `history`, a `text`, or both")
    about = body.text if body.text.strip() else None
    tokens = run.person(run.asking(None, body.history, about, ()))
    return service.named(run.name, {"run": run.name, "tokens": tokens})


@router.post("/chat/completions")
async def chat(body: Chat, service: Shared) -> dict[str, Any]:
    """OpenAI's interface: the last message of the user is `{"user": …, "item": …}`, and the answer says why."""
    if body.stream:
        raise UserError("stream: not for chat; ask /v1/explain with stream")
    said = next((one.content for one in reversed(body.messages) if one.role == "user"), "")
    try:
        asked = json.loads(said)
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        such = '{"user": "17", "item": "233"}'
        raise UserError(f"messages: the last one of the user must be JSON such as {such}")
    names = ("user", "history", "about", "item", "item_text")
    run = body.model if body.model in service.runs else None
    try:
        question = Explain(**{name: asked[name] for name in names if name in asked}, run=run)
    except ValidationError as error:
        raise UserError(f"messages: the last one of the user: {error.errors()[0]['msg']}") from None
    told = await service.reasons.whole(await run_in_threadpool(service.why, question))
    answer = {"index": 0, "message": {"role": "assistant", "content": told["text"]}, "finish_reason": "stop"}
    words = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    shared = {"created": int(time.time()), "model": run or next(iter(service.runs))}
    kind = {"id": f"forwhy-{told['id']}", "object": "chat.completion", "usage": words}
    return {**kind, **shared, "choices": [answer], "forwhy": told}


@router.get("/users/{user:path}")
def user(user: Name, service: Shared, run: RunName = None) -> dict[str, Any]:
    """A person's words and history."""
    loaded = service.loaded(run)
    live = service.database.history(user)
    known = service.database.one("users", id=user)
    if not (loaded.trained(user) or live or known):
        raise Unknown(f"unknown user {user[:80]!r}: neither training nor an event knows them")
    asking, catalogue = loaded.asking(user, None, None, live), loaded.catalogue
    trained = catalogue.histories[catalogue.users.index(user)].tolist() if loaded.trained(user) else []
    taken = list(dict.fromkeys([*(str(catalogue.items.values[number]) for number in trained), *live]))
    numbers = catalogue.items.numbers(taken).tolist() if taken else []
    titles = [catalogue.titles[number] if number >= 0 else "" for number in numbers]
    found = {
        "id": user,
        "tokens": loaded.person(asking),
        "history": [{"item_id": it, "title": title} for it, title in zip(taken, titles, strict=True)],
        "live": bool(live),
        "source": asking.source,
        "data": known["data"] if known else {},
    }
    return service.named(loaded.name, found)


@router.get("/items/{item:path}")
def item(item: Name, service: Shared, run: RunName = None) -> dict[str, Any]:
    """An item's words, text, and how many took it."""
    loaded = service.loaded(run)
    stored = service.database.one("items", id=item) or {}
    number = loaded.catalogue.items.find(item)
    if number < 0 and not stored:
        raise Unknown(f"unknown item {item[:80]!r}: neither training nor the database knows it")
    inside = number >= 0
    names = loaded.words.token_names("item", number) if inside and loaded.has_words else []
    return {
        "id": item,
        "title": stored.get("title") or (loaded.catalogue.titles[number] if inside else ""),
        "text": stored.get("text", ""),
        "available": stored.get("available", True),
        "tokens": [{"token": name, "gloss": loaded.words.phrases[name]} for name in names],
        "takers": loaded.takers(number) if inside else 0,
        "trained": inside and item not in loaded.offered,
    }
