"""litellm as a library: how it is imported, and where a request enters it.

It costs seconds and some 170 MB to import, so it is imported on first use and by nobody else; a
worker calls :func:`load` before it takes work. Requests enter at
``litellm.completion(acompletion=True)``, the coroutine that ``acompletion`` itself runs, with
litellm's own logging object: ``acompletion`` adds a hop through asyncio's default executor, prices
every answer, and queues logging callbacks (4.9 ms of CPU a call against 3.2 ms, measured with
litellm 1.106 and five tools).
"""

import functools
import logging
import os
import sys
import types
from datetime import UTC, datetime
from typing import Any

_CONNECTIONS = "10000"


@functools.cache
def load() -> types.ModuleType:
    """Import litellm (seconds of CPU) and switch off all it does beside asking models."""
    # Without this, importing it fetches its price list from the network.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    # Without this, it reads a .env file of the working folder into our environment.
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    os.environ.setdefault("AIOHTTP_CONNECTOR_LIMIT", _CONNECTIONS)
    os.environ.setdefault("AIOHTTP_CONNECTOR_LIMIT_PER_HOST", _CONNECTIONS)
    import litellm  # noqa: PLC0415 - lazily, see above

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.drop_params = False
    litellm.num_retries = 0
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.CRITICAL)
    # The first request imports half as much again: prepare one, and drop it unsent.
    import runs.llm.openai  # noqa: F401, PLC0415

    tool = {"type": "function", "function": {"name": "none", "parameters": {}}}
    prepared({"model": "openai/none", "messages": [], "tools": [tool], "api_key": "none"}).close()
    return litellm


def prepared(options: dict[str, Any]) -> Any:
    """litellm's completion coroutine, not begun; why not acompletion: see above."""
    litellm = sys.modules["litellm"]
    log, options = litellm.utils.function_setup(
        "acompletion",
        litellm.utils.Rules(),
        datetime.now(UTC),
        **options,
        litellm_call_id="station",
    )
    return litellm.completion(acompletion=True, **options, litellm_logging_obj=log)
