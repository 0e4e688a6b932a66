"""Applications behind real servers: work that takes a while, a stream, an event stream, a websocket."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

import regrow

TRACE = Path(os.environ.get("SHOP_TRACE", os.devnull))


def note(text):
    with TRACE.open("a") as trace:
        trace.write(f"{text}\n")


@regrow.drain.on_shutdown
async def close_pool():
    note("pool closed")


@regrow.drain.on_shutdown
def stop_consumer():
    note("consumer stopped")


async def work(request):
    await asyncio.sleep(float(request.query_params.get("seconds", 0.2)))
    return PlainTextResponse("done")


async def stream(request):
    async def parts():
        for number in range(10):
            yield f"{number}\n".encode()
            await asyncio.sleep(0.1)

    return StreamingResponse(parts(), media_type="text/plain")


async def events(request):
    async def parts():
        while True:
            yield b"data: tick\n\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(parts(), media_type="text/event-stream")


async def ready(request):
    return PlainTextResponse("ready")


async def talk(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await asyncio.sleep(0.3)
        await websocket.send_text(f"answer to {text}")
    note("session ended")


app = Starlette(
    routes=[
        Route("/work", work),
        Route("/stream", stream),
        Route("/events", events),
        Route("/health/ready", ready),
        WebSocketRoute("/talk", talk),
    ]
)
app.add_middleware(regrow.asgi.ReliabilityMiddleware, drain_on_signals=True)


def shop(environ, start_response):
    query = environ.get("QUERY_STRING", "")
    time.sleep(float(query.removeprefix("seconds=") or 0.2))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"done"]


application = regrow.wsgi.ReliabilityMiddleware(shop)
