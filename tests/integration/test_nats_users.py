"""The servers and users of compose.yaml: each user does its work and may do nothing else."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import nats
import pytest
import yaml

from millstream.errors import LogError, LogRefusedError
from millstream.eventlog.answers import Answers
from millstream.eventlog.connection import connected
from millstream.eventlog.server import NatsServer, find_binary, free_port
from millstream.eventlog.topology import ensure_topology
from millstream.runtime.settings import Settings
from millstream.testing.batches import Batches
from millstream.testing.service_process import ApiProcess, ServiceProcess
from millstream.testing.stack import wait_until
from millstream.testing.waiting import BOUND_S, until

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVERS = ("nats-1", "nats-2", "nats-3")
START_S = 60.0

NOBODY_BUT_ADMIN = (
    "$JS.API.STREAM.CREATE.OTHER",
    "$JS.API.STREAM.UPDATE.MILLSTREAM_EVENTS",
    "$JS.API.STREAM.DELETE.MILLSTREAM_EVENTS",
    "$JS.API.STREAM.PURGE.MILLSTREAM_AUDIT",
    "$JS.API.STREAM.MSG.DELETE.MILLSTREAM_EVENTS",
    "$JS.API.CONSUMER.CREATE.MILLSTREAM_EVENTS",
    "$JS.API.CONSUMER.CREATE.MILLSTREAM_WORK.mine.mill.work.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.MILLSTREAM_EVENTS.mine",
    "$JS.API.CONSUMER.DELETE.MILLSTREAM_WORK.work-default-normal",
    "mill.events.system.redaction",
    "mill.events.batch_1_00000000.redaction",
    "mill.live.events.batch_1_00000000.control",
)
REFUSED = {
    "api": (
        "mill.work.default.normal.batch_1_00000000.0",
        "mill.audit.checkpoint",
        "mill.live.limited.x",
        "$KV.millstream_limits.route.x",
        "$KV.millstream_nodes.dispatcher",
        "$JS.API.CONSUMER.MSG.NEXT.MILLSTREAM_WORK.work-default-normal",
        "$JS.ACK.MILLSTREAM_WORK.work-default-normal.1.1.1.1.0",
        "_INBOX_generator.x",
    ),
    "generator": (
        "mill.events.system.commands",
        "mill.audit.checkpoint",
        "mill.query.batches",
        *(f"$KV.millstream_{name}.x" for name in ("idempotency", "webhooks")),
        "$KV.millstream_nodes.api.x",
        *(f"$JS.API.STREAM.MSG.GET.KV_millstream_{name}" for name in ("idempotency", "webhooks")),
        "_INBOX_api.x",
    ),
    "projector": (
        "mill.events.system.commands",
        "mill.events.batch_1_00000000.control",
        "mill.events.batch_1_00000000.slice.0",
        "mill.work.default.normal.batch_1_00000000.0",
        *(f"mill.live.{name}" for name in ("stop.batch_1_00000000", "limited.x")),
        "$KV.millstream_limits.route.x",
        "$KV.millstream_nodes.generator.x",
        "$JS.API.STREAM.PURGE.MILLSTREAM_WORK",
        "$JS.API.CONSUMER.MSG.NEXT.MILLSTREAM_WORK.work-default-normal",
        "_INBOX_api.x",
    ),
}
UNHEARD = {
    "api": (">", "mill.query.*", "_INBOX_generator.>", "mill.work.>"),
    "generator": (">", "mill.query.*", "_INBOX_api.>", "$KV.millstream_webhooks.>"),
    "projector": (">", "mill.query.*", "_INBOX_api.>", "mill.live.stop.*"),
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """The running servers, and where each user's password stands."""

    url: str
    route_port: int
    passwords: dict[str, Path]
    logs: tuple[Path, ...]

    def login(self, user: str) -> dict[str, str]:
        """Return the settings with which a service logs in."""
        return {
            "nats_url": self.url,
            "nats_user": user,
            "nats_password_file": str(self.passwords[user]),
        }

    def settings(self, user: str) -> Settings:
        return Settings(**self.login(user), node="test")  # type: ignore[arg-type]


def server_config(path: Path, name: str, ports: dict[str, int], secrets: dict[str, str]) -> str:
    """Return the servers' configuration as compose.yaml gives it, with addresses of this test."""
    text: str = COMPOSE["configs"]["nats"]["content"]
    text = re.sub(r"\$\{(\w+)[^}]*\}", lambda found: secrets[found[1]], text).replace("$$", "$")
    replaced = {
        "listen: 0.0.0.0:4222": f"listen: 127.0.0.1:{ports[name]}",
        "http: 127.0.0.1:8222": f'log_file: "{path / name}.log"',
        "store_dir: /data": f'store_dir: "{path / name}"',
        "listen: 0.0.0.0:6222": f"listen: 127.0.0.1:{ports[name + '-route']}",
        **{f"@{other}:6222": f"@127.0.0.1:{ports[other + '-route']}" for other in SERVERS},
    }
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return text


def millstream(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {f"MILLSTREAM_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-P", "-m", "millstream.cli", *arguments]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=START_S + 30,
        check=False,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three servers on the configuration of compose.yaml, with the streams made by the admin."""
    path = tmp_path_factory.mktemp("cluster")
    ports = {f"{name}{kind}": free_port() for name in SERVERS for kind in ("", "-route")}
    users = ("admin", "api", "generator", "projector")
    secrets = {
        f"MILLSTREAM_NATS_{name.upper()}": f"{number:048x}"
        for number, name in enumerate((*users, "routes"), start=1)
    }
    passwords = {user: path / f"{user}.password" for user in users}
    for user, file in passwords.items():
        file.write_text(secrets[f"MILLSTREAM_NATS_{user.upper()}"] + "\n", encoding="utf-8")
    with ExitStack() as servers:
        for name in SERVERS:
            config = path / f"{name}.conf"
            config.write_text(server_config(path, name, ports, secrets), encoding="utf-8")
            process = subprocess.Popen(
                [find_binary(), "-c", config], env={**os.environ, "NATS_NAME": name}
            )
            servers.callback(process.wait)
            servers.callback(process.kill)
        logs = tuple(path / f"{name}.log" for name in SERVERS)
        url = ",".join(f"nats://127.0.0.1:{ports[name]}" for name in SERVERS)
        running = Cluster(url, ports["nats-1-route"], passwords, logs)
        made = millstream(
            "admin", "init", replicas="3", max_bytes=str(2**28), **running.login("admin")
        )
        assert made.returncode == 0, made.stderr
        yield running


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of simulated models."""
    ready = tmp_path_factory.mktemp("simulated") / "ready.json"
    command = [sys.executable, "-P", "-m", "millstream_generator.simulated", "--ready-file", ready]
    with subprocess.Popen(command) as process:
        try:
            wait_until(ready.exists, START_S, "the simulated models")
            yield json.loads(ready.read_text(encoding="utf-8"))["url"]
        finally:
            process.terminate()


def test_each_user_does_its_work(cluster: Cluster, simulated: str, tmp_path: Path) -> None:
    def service(role: str, **settings: str) -> ServiceProcess:
        own = {**cluster.login(role), "node": role, "data_dir": str(tmp_path / role), **settings}
        module = f"millstream_{role}"
        return ServiceProcess(module, tmp_path / f"{role}.log", replicas="3", **own)

    generator = service("generator", simulated_url=simulated)
    projector = service("projector", stuck_after_s="1")
    login = cluster.login("api")
    api = ApiProcess(
        tmp_path / "api.log", login.pop("nats_url"), simulated_url=simulated, replicas="3", **login
    )
    with generator, projector, api:
        batches = Batches(api.url)
        made = batches.start(40)
        assert batches.wait(made)["counts"]["generated"] == 40
        wait_until(lambda: is_read(api.url, made, 40), START_S, "the samples in the read model")
        refused = httpx.post(f"{api.url}/v1/batches", json={"target": 1, "pool": "no"}, timeout=15)
        assert "'no' does not exist" in refused.json()["detail"]
        running = batches.start(100_000)
        batches.wait_samples(running, 5)
        batches.stop(running)
        assert batches.wait(running)["state"] == "stopped"
        orphan = batches.start(100_000)
        batches.wait_samples(orphan, 5)
        generator.kill()
        wait_until(lambda: batches.view(orphan)["stuck"], START_S, "a stuck batch")
        batches.stop(orphan)
        assert batches.wait(orphan)["state"] == "stopped"
    erase = ("audit", "redact", made, "0", "--reason", "asked for")
    done = millstream(*erase, **cluster.login("admin"))
    assert "content erased by redaction" in done.stdout, done.stderr
    for log in (generator.log(), projector.log(), api.log(), *map(Path.read_text, cluster.logs)):
        assert "iolation" not in log
        assert "stream.differs" not in log


def test_the_admin_may_make_it_again_and_name_more_pools(cluster: Cluster) -> None:
    login = {**cluster.login("admin"), "replicas": "3", "max_bytes": str(2**28)}
    made = millstream("admin", "init", "--pool", "default", "--pool", "gpu", **login)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.endswith("the consumers of default, gpu.\n")
    wrong = millstream("admin", "init", "--pool", "GPU.1", **login)
    assert wrong.returncode == 2
    assert "--pool 'GPU.1' is no name of a pool; take 1 to 32" in wrong.stderr
    refused = millstream("admin", "init", **cluster.login("generator"))
    assert refused.returncode == 1
    assert "user generator may not subscribe to _INBOX_admin." in refused.stderr


def is_read(url: str, batch_id: str, count: int) -> bool:
    answer = httpx.get(f"{url}/v1/batches/{batch_id}/samples", params={"limit": 100}, timeout=15)
    return answer.status_code == 200 and len(answer.json()["samples"]) == count


@pytest.mark.anyio
@pytest.mark.parametrize("user", REFUSED)
async def test_a_user_may_do_nothing_else(cluster: Cluster, user: str) -> None:
    async with connected(cluster.settings(user), user) as connection:
        answers = Answers(connection)
        for subject in (*NOBODY_BUT_ADMIN, *REFUSED[user]):
            with pytest.raises(LogRefusedError, match=re.escape(f"user {user} may not")) as refusal:
                await answers.ask(subject, b"{}", timeout_s=10)
            assert subject in str(refusal.value)
    async with connected(cluster.settings(user), "audit") as connection:  # another one's inbox
        answers = Answers(connection)
        for _ in range(2):
            with pytest.raises(LogRefusedError, match=f"user {user} may not subscribe to _INBOX_a"):
                await answers.ask("$JS.API.STREAM.INFO.MILLSTREAM_EVENTS", b"", timeout_s=10)


@pytest.mark.anyio
@pytest.mark.parametrize("user", UNHEARD)
async def test_a_user_hears_nothing_else(cluster: Cluster, user: str) -> None:
    said: list[str] = []

    async def note(error: Exception) -> None:
        said.append(str(error))

    client = await nats.connect(
        cluster.url.split(","),
        user=user,
        password=cluster.passwords[user].read_text(encoding="utf-8").strip(),
        error_cb=note,
    )
    for subject in UNHEARD[user]:
        await client.subscribe(subject)
        refusal = f'permissions violation for subscription to "{subject.lower()}"'
        await until(lambda words=refusal: any(words in line for line in said), what=refusal)  # type: ignore[misc]
    await client.close()


@pytest.mark.anyio
async def test_who_has_no_password_is_let_in_nowhere(cluster: Cluster, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("guessed", encoding="utf-8")
    for login in ({}, {"nats_user": "api", "nats_password_file": wrong}):
        settings = Settings(nats_url=cluster.url, **login)  # type: ignore[arg-type]
        with pytest.raises(LogRefusedError, match="correct MILLSTREAM_NATS_USER"):
            async with connected(settings, "api", bound_s=2):
                pass
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.route_port)
    hello = {"user": "routes", "pass": "guessed", "name": "X", "cluster": "millstream"}
    writer.write(f"CONNECT {json.dumps(hello)}\r\nPING\r\n".encode())
    async with asyncio.timeout(BOUND_S):
        said = await reader.read()
    writer.close()
    assert b"Authorization Violation" in said


@pytest.mark.anyio
async def test_a_service_with_a_user_says_who_makes_the_streams(nats_server: NatsServer) -> None:
    settings = Settings(nats_url=nats_server.url, nats_user="api")
    async with connected(settings, "api") as connection:
        with pytest.raises(LogError, match="MILLSTREAM_EVENTS; run `millstream admin init`"):
            await ensure_topology(connection, settings)
