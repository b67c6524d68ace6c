"""The HTTP client that model requests share."""

import httpx

from runs.llm.transport import LONGEST_CONNECT, http_client


async def test_connecting_is_bounded_and_answering_is_not() -> None:
    seen: list[dict[str, float]] = []

    def provider(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200, json={})

    async with http_client(httpx.MockTransport(provider)) as client:
        await client.get("http://127.0.0.1/", timeout=httpx.Timeout(120.0))
        await client.get("http://127.0.0.1/", timeout=httpx.Timeout(120.0, connect=1.0))
        await client.get("http://127.0.0.1/", timeout=None)
    assert [each["connect"] for each in seen] == [LONGEST_CONNECT, 1.0, LONGEST_CONNECT]
    assert [each["read"] for each in seen] == [120.0, 120.0, None]
