"""A web process whose surroundings fail it."""

import os
import signal
import ssl
import subprocess
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from station.embedded.ports import free_port
from station.embedded.postgres import Postgres
from tests.integration.web.serving import until, web

pytestmark = pytest.mark.django_db  # pytest-django makes only databases that tests name


def test_a_database_that_hangs_makes_it_not_ready_within_two_seconds(
    folder: Path, service_folder: Path
) -> None:
    postgres = Postgres(service_folder)
    postgres.start()
    try:
        with web(folder, STN_DATABASE_URL=postgres.url) as served:
            assert "no migration is applied" in served.client.get("/ready").text
            server = psutil.Process(postgres.pid)
            frozen = [server, *server.children(recursive=True)]
            for process in frozen:
                process.send_signal(signal.SIGSTOP)
            try:
                until(lambda: "database: " in served.client.get("/ready").text, seconds=10)
                slowest: list[float] = []

                def probe() -> None:
                    began = time.monotonic()
                    answer = served.client.get("/ready")
                    slowest.append(time.monotonic() - began)
                    assert answer.status_code == 503
                    assert "database: " in answer.text

                probes = [threading.Thread(target=probe) for _ in range(30)]
                for thread in probes:
                    thread.start()
                for thread in probes:
                    thread.join()
                assert len(slowest) == 30
                assert max(slowest) < 3
                assert served.client.get("/health").status_code == 200
            finally:
                for process in frozen:
                    process.send_signal(signal.SIGCONT)
            until(
                lambda: served.client.get("/ready").json()["checks"]["database"] == "ok",
                seconds=15,
            )
    finally:
        postgres.stop()


def test_redis_away_is_degraded_and_not_unready(folder: Path) -> None:
    with web(folder, STN_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0") as served:
        answer = served.client.get("/ready")
        assert answer.status_code == 200
        assert answer.json()["checks"]["redis"] == "Redis does not answer"


def test_no_answer_and_no_log_line_tells_a_password(folder: Path) -> None:
    url = f"postgres://canary:p4ssw0rd-canary@127.0.0.1:{free_port()}/none"
    with web(folder, STN_DATABASE_URL=url) as served:
        ready = served.client.get("/ready")
        key = "stn_abcdefghijkl_canarysecretcanary"
        asked = served.client.get("/api/v1/agents", headers={"Authorization": f"Bearer {key}"})
        assert ready.status_code == 503
        said = [ready.text, asked.text, *served.lines]
        assert not any("p4ssw0rd-canary" in line or "canarysecret" in line for line in said)


def test_a_database_that_is_away_is_a_503_to_try_again(folder: Path) -> None:
    config = {"database": {"connection_timeout": "500ms"}}
    url = f"postgres://nobody@127.0.0.1:{free_port()}/none"
    with web(folder, config, STN_DATABASE_URL=url) as served:
        cookie = {"Cookie": f"sessionid={'a' * 32}"}
        answer = served.client.get("/api/v1/agents", headers=cookie)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert served.client.get("/admin/", headers=cookie).status_code == 500
        assert served.client.get("/health").status_code == 200


def test_tls_is_served_and_nothing_older_than_1_2(folder: Path) -> None:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    options = {"STN_TLS_CERT_PATH": str(certificate), "STN_TLS_KEY_PATH": str(key)}
    with web(folder, None, scheme="https", **options) as served:
        assert served.client.get("/health").status_code == 200
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{served.url}/health", verify=old)


def test_numbers_of_a_process_that_ended_are_kept(folder: Path) -> None:
    def admin_requests(text: str) -> float:
        wanted = 'station_http_requests_total{code="200",method="GET",route="/admin/login/"} '
        return next(float(r[len(wanted) :]) for r in text.splitlines() if r.startswith(wanted))

    with web(folder) as served:
        for _ in range(3):
            served.client.get("/admin/login/")
        assert admin_requests(served.client.get("/metrics").text) == 3
    with web(folder) as served:
        served.client.get("/admin/login/")
        assert admin_requests(served.client.get("/metrics").text) == 4
        files = os.listdir(folder / "metrics")
        assert sum(name.startswith("counter_") for name in files) <= 3
