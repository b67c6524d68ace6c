"""The peer: bare Celery on the same Valkey, doing what a team would write first."""

import asyncio
import os
import time

import redis
from celery import Celery

# Not the current one: else the bells of the process that measures would go to the peer.
app = Celery("peer", broker=os.environ.get("STN_REDIS_URL", ""), set_as_current=False)
app.conf.update(
    task_default_queue="peer", task_ignore_result=True, worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True, worker_hijack_root_logger=False,
)  # fmt: skip
LATENCIES = "peer:latencies"
DONE = "peer:done"
_clients: dict[int, "redis.Redis"] = {}


def _valkey() -> "redis.Redis":
    return _clients.setdefault(os.getpid(), redis.Redis.from_url(os.environ["STN_REDIS_URL"]))


@app.task
def noop(sent: float) -> None:
    """Start, say how long that took, end."""
    _valkey().rpush(LATENCIES, time.time() - sent)


@app.task
def converse(model_url: str, tools_url: str, model: str) -> None:
    """Two model calls with a tool call between them, in the obvious blocking way."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    def ask(messages: list[dict[str, str]]) -> None:
        litellm.completion(
            model=f"openai/{model}", messages=messages, api_base=model_url, api_key="none"
        )

    async def use_tool() -> None:
        from mcp import Client

        async with Client(tools_url) as client:
            await client.list_tools()
            await client.call_tool("append_line", {"text": "x"})

    question = {"role": "user", "content": f"task {time.time_ns()}"}
    ask([question])
    asyncio.run(use_tool())
    ask([question, {"role": "assistant", "content": "I look."}])
    _valkey().incr(DONE)
