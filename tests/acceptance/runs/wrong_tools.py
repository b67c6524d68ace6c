"""Tool servers that speak the protocol wrongly, each in its own way.

``python wrong_tools.py MODE [--sink FILE]``: ``http`` talks HTTP, ``version`` a version of the
protocol that does not exist, ``shape`` lists tools that are none, ``pages`` lists them without an
end, ``strangers`` answers questions nobody asked, ``mute`` greets and then says nothing.
``unusable`` lists tools that nobody can use, ``mixed`` the same beside a good one, which it lists
on two pages. ``halves`` writes half a character wherever it can.
"""

import json
import sys
from typing import Any

Json = dict[str, Any]
_ANY = {"type": "object"}
_UNUSABLE = [
    {"name": "", "inputSchema": _ANY},
    {"name": "x" * 201, "inputSchema": _ANY},
    {"name": "nul\0", "inputSchema": _ANY},
    {"name": "infinite", "inputSchema": {"type": "object", "maximum": float("inf")}},
    {"name": "nan", "inputSchema": {"type": "object", "default": {"x": [float("nan")]}}},
    {"name": "twice", "inputSchema": _ANY},
    {"name": "twice", "inputSchema": _ANY, "description": "Something else."},
]


def answer(mode: str, message: Json) -> Json | None:
    """The result that is sent back; ``None`` to say nothing."""
    params = message.get("params", {})
    if message["method"] == "initialize":
        return {
            "protocolVersion": "1066-10-14" if mode == "version" else params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "wrong", "version": "0"},
        }
    if message["method"] == "tools/call" and mode == "halves":
        return {"content": [{"type": "text", "text": "cut \ud83d"}]}
    return _list(mode, f"{message['id']}", first="cursor" not in params)


def _list(mode: str, number: str, *, first: bool) -> Json | None:
    """A page of tools."""
    match mode:
        case "shape":
            return {"tools": [{"nome": 7}, "tool", None]}
        case "pages":
            return {
                "tools": [{"name": f"t{number}", "inputSchema": _ANY}],
                "nextCursor": f"after {number}",
            }
        case "halves":
            half = {"type": "object", "properties": {"x": {"description": "\ude00"}}}
            return {"tools": [{"name": "good", "description": "cut \ud83d", "inputSchema": half}]}
        case "unusable" | "mixed":
            good = [{"name": "good", "inputSchema": _ANY}] if mode == "mixed" else []
            page = {"tools": [*_UNUSABLE, *good]}
            return {**page, "nextCursor": "more"} if first else page
    return None


def main() -> None:
    mode = sys.argv[1]
    while mode == "http":
        sys.stdout.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n")
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(mode, message)
        if result is not None:
            number = "77" if mode == "strangers" else message["id"]
            reply = {"jsonrpc": "2.0", "id": number, "result": result}
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
