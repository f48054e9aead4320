"""A stand-in for `labkit serve`: PORT STATE FAULT --profile prod. With a fault, it does one thing wrong."""

import asyncio
import json
import sys
import time
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

KEY, ADMIN = "lk-student", "lk-admin"
PAGE = "labkit_requests_total 1\nlabkit_queue_depth 0\nlabkit_backend_up 1\n"


def make(state: Path, fault: str) -> FastAPI:
    app = FastAPI(docs_url=None)
    log, bursts = state / "audit.jsonl", list[float]()
    for file in (log, state / "keys.sqlite"):
        file.touch(mode=0o644 if fault == "private" else 0o600)

    def key_of(request: Request) -> str:
        return request.headers.get("authorization", "").removeprefix("Bearer ")

    @app.get("/health")
    @app.get("/ready")
    def health() -> JSONResponse:
        return JSONResponse({}, 503 if fault == "health" else 200)

    @app.get("/metrics")
    def metrics(request: Request) -> PlainTextResponse:
        if key_of(request) != ADMIN and fault != "metrics":
            return PlainTextResponse("", 401)
        return PlainTextResponse(PAGE)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> JSONResponse | StreamingResponse:
        key, body = key_of(request), b""
        if key != KEY and fault != "keys":
            return JSONResponse({}, 401)
        async for piece in request.stream():
            body += piece
            if len(body) > 2**21 and fault != "limits":
                return JSONResponse({}, 413)
        try:
            asked = json.loads(body.strip() or b"{}")
        except ValueError:
            told = {"error": {"code": "bad_json"}}
            return PlainTextResponse("Traceback", 500) if fault == "errors" else JSONResponse(told, 400)
        if asked.get("model") == "no-such-model":
            return JSONResponse({"error": {"code": "model_not_found"}}, 404)
        if any("poison" in str(turn["content"]) for turn in asked.get("messages", [])) and fault != "content":
            return JSONResponse({"error": {"code": "content_filter"}}, 400)
        if asked.get("max_tokens") == 1:
            bursts.append(time.monotonic())
            if len(bursts) == 5 and fault != "rate":
                return JSONResponse({"error": {"code": "rate"}}, 429, {"Retry-After": "1"})
        if asked.get("max_tokens", 0) > 10_000:
            return JSONResponse({}, 400)
        if fault != "audit":
            with log.open("a") as file:
                cost = {"total": 0.1, "prompt_tokens": 9, "completion_tokens": 8}
                told = {"at": time.time(), "id": "a", "user": "u-1", "status": 200, **cost}
                file.write(json.dumps({"at": 1} if fault == "thin" else told) + "\n")
        if fault == "leak":
            with log.open("a") as file:
                file.write(json.dumps({**told, "user": key}) + "\n")
        if not asked.get("stream"):
            return JSONResponse({}, 500 if fault == "answers" else 200)

        async def events():  # type: ignore[no-untyped-def]
            for n in range(10):
                yield f"data: {n}\n\n"
                await asyncio.sleep(0.1)
            if fault != "shutdown":
                yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    port, state, fault, *_ = sys.argv[1:]
    uvicorn.run(make(Path(state), fault), port=int(port), log_level="error")
