"""HTTPS by certificate files, and who may say from where a request comes."""

import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from millstream.cli.probes import Api as ApiProbe
from millstream.client import Client
from millstream.errors import SettingsError, UsageError
from millstream.eventlog.server import free_port
from millstream.runtime.access import tls_files, trusted_proxies
from millstream.runtime.settings import Settings
from millstream.runtime.tokens import create_token
from millstream.testing.nats import running_log
from millstream.testing.service_process import ServiceProcess
from millstream.testing.waiting import until
from millstream_schemas.commands import StartBatch

pytestmark = pytest.mark.anyio

STRANGER = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def certificate(authority: trustme.CA, directory: Path) -> dict[str, str]:
    """Write certificate, key and authority; return the settings that name the former."""
    made = authority.issue_cert("127.0.0.1", "localhost")
    cert, key = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    authority.cert_pem.write_to_path(directory / "ca.pem")
    return {"tls_cert_file": str(cert), "tls_key_file": str(key)}


async def test_the_api_speaks_https_and_its_streams_and_clients_do(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = create_token(tmp_path / "tokens", "ada", "operator")
    settings = certificate(authority, tmp_path)
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    async with running_log(tmp_path) as log:
        settings |= {"nats_url": log.settings.nats_url, "port": str(port)}
        settings |= {"data_dir": str(tmp_path), "tokens_file": str(tmp_path / "tokens")}
        settings |= {"simulated_url": "http://127.0.0.1:9"}
        with ServiceProcess("millstream_api", tmp_path / "api.log", **settings) as process:
            probe = ApiProbe("127.0.0.1", port, None, True)
            await until(lambda: "api.listening" in process.log())
            assert url in process.log()
            while not await probe.is_ready():
                assert process.exit_code is None
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=url, verify=context) as client:
                opened = await client.get("/", params={"token": token})
                assert "; Secure" in opened.headers["set-cookie"]
                stream = client.stream("GET", "/v1/stream", headers=headers)
                async with stream as answer:
                    assert answer.status_code == 200
                    lines = answer.aiter_lines()
                    while not (await anext(lines)).startswith("event: "):
                        pass
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                httpx.get(f"{url}/healthz")
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            with Client(url, token) as own:
                started = own.start_batch(StartBatch(target=1, model="simulated/fast"))
            assert started.batch.target == 1
            plain = httpx.Client(base_url=url.replace("https", "http"))
            with plain, pytest.raises(httpx.TransportError):
                plain.get("/healthz")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(UsageError, match=r"SSL_CERT_FILE=.*none\.pem can't be used"):
        Client(url, token)


@pytest.mark.parametrize(
    ("trusted", "address"), [("127.0.0.0/8", "203.0.113.9"), ("", "127.0.0.1")]
)
async def test_forwarded_headers_are_believed_from_named_proxies_alone(
    tmp_path: Path, make_api: Any, trusted: str, address: str
) -> None:
    token = create_token(tmp_path / "tokens", "ada", "operator")
    shown = {"Authorization": f"Bearer {token}", **STRANGER}
    async with (
        running_log(tmp_path) as log,
        make_api(
            log, projector=False, trusted_proxies=trusted, tokens_file=tmp_path / "tokens"
        ) as api,
    ):
        body = {"target": 1, "model": "simulated/fast"}
        started = await api.client.post("/v1/batches", json=body, headers=shown)
        assert started.status_code == 201, started.text
        stored = await log.event_log.after("mill.events.*.control", 0)
        assert stored is not None
        assert json.loads(stored.payload)["actor"]["address"] == address
        opened = await api.client.get("/", params={"token": token}, headers=STRANGER)
        assert ("; Secure" in opened.headers["set-cookie"]) == bool(trusted)


def test_what_can_not_be_used_is_said_at_the_start(tmp_path: Path, authority: trustme.CA) -> None:
    made = {name: Path(path) for name, path in certificate(authority, tmp_path).items()}
    assert tls_files(Settings(**made)) == (made["tls_cert_file"], made["tls_key_file"])  # type: ignore[arg-type]  # two paths
    with pytest.raises(SettingsError, match="MILLSTREAM_TLS_KEY_FILE is not set"):
        tls_files(Settings(tls_cert_file=made["tls_cert_file"]))
    with pytest.raises(SettingsError, match="can't be used"):
        tls_files(Settings(tls_cert_file=made["tls_key_file"], tls_key_file=tmp_path / "none"))
    assert trusted_proxies(Settings(trusted_proxies=" 10.0.0.7, ::1/128 ,")) == (
        "10.0.0.7",
        "::1/128",
    )
    for wrong in ("*", "proxy.local", "10.0.0.7/24", "10.0.0"):
        with pytest.raises(SettingsError, match="MILLSTREAM_TRUSTED_PROXIES"):
            trusted_proxies(Settings(trusted_proxies=wrong))
