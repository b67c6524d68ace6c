# Station: one image for every role. `docker run station` is `station server`; `docker run station
# worker` is one role alone. The root file system may be read-only: only /app/data and /tmp are
# written to. `docker build -t station:latest .`

# A tag that gets security updates; for a build that repeats exactly, pass a digest of it.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder

# Another package index, if you have one (without a password: it stays in the build's history).
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never

WORKDIR /src

# The dependencies first: they change less often than the code does.
COPY requirements/bootstrap.lock requirements/runtime.lock requirements/
RUN python -m pip install --require-hashes --root-user-action=ignore -r requirements/bootstrap.lock \
    && python -m venv --without-pip /opt/station/venv \
    && uv pip sync --python /opt/station/venv/bin/python --require-hashes --compile-bytecode \
        requirements/runtime.lock

# dev.lock has the hashes of what builds the wheel.
COPY requirements/dev.lock requirements/
COPY pyproject.toml README.md ./
COPY station station/
COPY agents agents/
COPY runs runs/
COPY mcp mcp/
COPY sshgw sshgw/
RUN uv build --wheel --build-constraints requirements/dev.lock --require-hashes --out-dir /wheels \
    && uv pip install --python /opt/station/venv/bin/python --offline --no-deps --compile-bytecode \
        /wheels/*.whl


FROM ${PYTHON_IMAGE}

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Station" \
      org.opencontainers.image.description="Run AI agents as jobs: submit, follow, decide, audit." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"

# tini is process 1. Every role can be started alone, and of those only `station server` would take
# care of processes that lost their parent (what a tool server leaves behind); it also makes SIGTERM
# work before Python has installed its handlers.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 station \
    && useradd --uid 10001 --gid station --no-create-home --home-dir /app/data \
        --shell /usr/sbin/nologin station \
    && install --directory --owner=station --group=station --mode=0750 /app /app/data

COPY --from=builder /opt/station /opt/station
COPY deploy/docker/healthcheck.py /opt/station/healthcheck.py

ENV PATH=/opt/station/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STN_DATA_DIR=/app/data

WORKDIR /app
# A number: Kubernetes cannot tell from a name that it is not root.
USER 10001:10001

# web (with /health, /ready and /metrics), SSH, MCP
EXPOSE 8080 2222 3000

STOPSIGNAL SIGTERM

# For `station server` and `station web`; switch it off where another role runs alone.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "/opt/station/healthcheck.py"]

ENTRYPOINT ["tini", "--", "station"]
CMD ["server"]
