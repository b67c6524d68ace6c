"""Serving an SDK server over the transport its command line asks for."""

import argparse
import socket

from mcp.server.mcpserver import MCPServer


def add_transport_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--http PORT`` and ``--sse PORT``; without either, the server speaks stdio."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--http", type=int, metavar="PORT", help="streamable HTTP at /mcp; 0: any")
    where.add_argument("--sse", type=int, metavar="PORT", help="legacy SSE at /sse; 0: any")


def serve(server: MCPServer, options: argparse.Namespace) -> None:
    """Serve until told to stop. HTTP listens on 127.0.0.1 only and prints ``listening on PORT``."""
    if options.http is None and options.sse is None:
        server.run("stdio")
        return
    import uvicorn  # noqa: PLC0415 - only for HTTP

    app = server.streamable_http_app() if options.sse is None else server.sse_app()
    # Named as TCP, because asyncio sets TCP_NODELAY only then; without it each answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.http or options.sse or 0))
    listener.listen(1024)
    print(f"listening on {listener.getsockname()[1]}", flush=True)  # noqa: T201
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])
