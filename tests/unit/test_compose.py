"""compose.yaml: who waits for whom, who is given which secret, and a valid configuration."""

import re
import subprocess
from pathlib import Path

import yaml

from millstream.eventlog.server import find_binary
from millstream.runtime.settings import Settings

COMPOSE = yaml.safe_load((Path(__file__).parents[2] / "compose.yaml").read_text(encoding="utf-8"))
ROLES = {
    "api": "api",
    "generator": "generator",
    "projector-1": "projector",
    "projector-2": "projector",
    "setup": "admin",
}


def environment(service: str) -> dict[str, str]:
    found: dict[str, str] = COMPOSE["services"][service]["environment"]
    return found


def test_every_service_logs_in_with_a_user_and_a_password_of_its_own() -> None:
    content = COMPOSE["configs"]["nats"]["content"]
    for service, user in ROLES.items():
        settings, secrets = environment(service), COMPOSE["services"][service]["secrets"]
        assert settings["MILLSTREAM_NATS_USER"] == user
        assert settings["MILLSTREAM_NATS_PASSWORD_FILE"] == f"/run/secrets/nats-{user}"
        assert [name for name in secrets if name.startswith("nats-")] == [f"nats-{user}"]
        variable = COMPOSE["secrets"][f"nats-{user}"]["environment"]
        assert f'user: {user}, password: "${{{variable}:?' in content


def test_the_services_wait_for_the_one_that_makes_the_streams() -> None:
    services = COMPOSE["services"]
    assert services["setup"]["command"] == ["admin", "init"]
    assert services["setup"]["restart"] == "no"
    for service in ("api", "generator", "projector-1", "projector-2"):
        depends = services[service]["depends_on"]
        assert depends == {"setup": {"condition": "service_completed_successfully"}}
        assert environment(service)["MILLSTREAM_REPLICAS"] == "3"


def test_one_service_builds_the_image_that_all_run_on() -> None:
    services = COMPOSE["services"]
    assert {service["image"] for service in services.values()} == {"millstream"}
    assert [name for name, service in services.items() if "build" in service] == ["setup"]
    asking = {name for name, service in services.items() if service.get("pull_policy") != "never"}
    assert asking == {"setup"}


def test_only_who_uses_keys_of_providers_is_given_them() -> None:
    having = {name for name, service in COMPOSE["services"].items() if "env_file" in service}
    assert having == {"api", "generator"}


def test_a_cluster_with_health_checks_and_known_settings() -> None:
    services = COMPOSE["services"]
    assert {"nats-1", "nats-2", "nats-3", "api", "projector-1", "projector-2"} <= services.keys()
    assert services["api"]["deploy"]["replicas"] == services["generator"]["deploy"]["replicas"] == 2
    lasting = services.keys() - {"setup"}
    assert [name for name in lasting if "healthcheck" not in services[name]] == []
    known = {f"MILLSTREAM_{name.upper()}" for name in Settings.model_fields} | {"NATS_NAME"}
    used = {name for service in services.values() for name in service.get("environment", {})}
    assert used <= known


def test_the_configuration_of_the_servers_is_valid(tmp_path: Path) -> None:
    content = COMPOSE["configs"]["nats"]["content"]
    assert "sync_interval: always" in content
    path = tmp_path / "nats.conf"
    filled = re.sub(r"\$\{(\w+)[^}]*\}", lambda found: f"secret-{found[1]}", content)
    path.write_text(filled.replace("$$", "$"), encoding="utf-8")
    done = subprocess.run(
        [find_binary(), "-t", "-c", str(path)],
        env={"NATS_NAME": "nats-1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
