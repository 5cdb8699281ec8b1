"""What `up` runs: the command, the environment and the readiness of each child."""

import os
from collections.abc import Mapping, Sequence

from millstream.cli import probes
from millstream.cli.child import ChildSpec
from millstream.cli.model_choice import ModelChoice
from millstream.cli.services import service_command
from millstream.eventlog.server import NatsServer, free_port
from millstream.runtime.clock import utc_now
from millstream.runtime.settings import Settings

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared, not bound


class Plan:
    """The children of one `up`; ports are chosen once, so that a restarted child keeps its own."""

    def __init__(self, settings: Settings, generators: int) -> None:
        self._settings = settings
        self._generators = generators
        self._nats = NatsServer(settings.data_dir / "nats")
        self._simulated_port = free_port()
        self._local_port = free_port()
        self._reach = WILDCARDS.get(settings.host, settings.host)
        self._is_tls = settings.tls_cert_file is not None
        self._api = probes.Api(self._reach, settings.port, settings.token_file, self._is_tls)
        self._live = probes.LiveNodes(self._api, utc_now())

    @property
    def url(self) -> str:
        """The address of the page and of the API."""
        host = f"[{self._reach}]" if ":" in self._reach else self._reach
        return f"{'https' if self._is_tls else 'http'}://{host}:{self._settings.port}"

    @property
    def nats_url(self) -> str:
        """Where NATS clients connect."""
        return self._nats.url

    def nats(self) -> ChildSpec:
        """Return the embedded nats-server; it keeps port and store over restarts."""
        return ChildSpec(
            name="nats-server",
            command=self._nats.command(),
            probe=self._nats.greets,
            url=self._nats.url,
            stop_bound_s=1.0,
        )

    def simulated(self) -> ChildSpec:
        """Return the simulated models' server."""
        return self._model_server("simulated", self._simulated_port, ())

    def local(self) -> ChildSpec:
        """Return the local model's server."""
        return self._model_server("local-model", self._local_port, ("serve",))

    def projector(self) -> ChildSpec:
        """Return the projector."""
        return self._service("projector", "projector", self._base_environment(), place=0)

    def generators(self, environment: Mapping[str, str]) -> list[ChildSpec]:
        """Return the generators, ``generator-1`` and on."""
        return [
            self._service("generator", f"generator-{number}", environment, place=number)
            for number in range(1, self._generators + 1)
        ]

    def api(self, environment: Mapping[str, str]) -> ChildSpec:
        """Return the API with the page."""
        return ChildSpec(
            name="api",
            command=service_command("api"),
            probe=self._api.is_ready,
            environment={**environment, "MILLSTREAM_NODE": "api"},
            url=self.url,
            stop_bound_s=1.5,
        )

    def environment(self, choice: ModelChoice) -> dict[str, str]:
        """Return what generators and API are told about the models."""
        environment = self._base_environment() | {
            "MILLSTREAM_SIMULATED_URL": f"http://127.0.0.1:{self._simulated_port}",
            "MILLSTREAM_DEFAULT_MODEL": choice.default_model,
        }
        if choice.serves_local:
            environment["MILLSTREAM_LOCAL_URL"] = f"http://127.0.0.1:{self._local_port}"
        return environment

    def _base_environment(self) -> dict[str, str]:
        environment = {
            "MILLSTREAM_NATS_URL": self._nats.url,
            "MILLSTREAM_DATA_DIR": str(self._settings.data_dir),
            "MILLSTREAM_HOST": self._settings.host,
            "MILLSTREAM_PORT": str(self._settings.port),
        }
        if "MILLSTREAM_LOG_LEVEL" not in os.environ:
            # Six processes that tell of each step would bury the one line that matters.
            environment["MILLSTREAM_LOG_LEVEL"] = "warning"
        return environment

    def _service(
        self, service: str, name: str, environment: Mapping[str, str], *, place: int
    ) -> ChildSpec:
        own = {"MILLSTREAM_NODE": name}
        if self._settings.metrics_port:  # one machine: each process has the next port
            own["MILLSTREAM_METRICS_PORT"] = str(self._settings.metrics_port + place)
        return ChildSpec(
            name=name,
            command=service_command(service),
            probe=self._live.has(name),
            environment={**environment, **own},
        )

    def _model_server(self, name: str, port: int, words: Sequence[str]) -> ChildSpec:
        ready = self._settings.data_dir / f"{name}.ready"
        ready.unlink(missing_ok=True)
        options = ("--host", "127.0.0.1", "--port", str(port), "--ready-file", str(ready))
        return ChildSpec(
            name=name,
            command=service_command(name, (*words, *options)),
            probe=probes.written(ready),
            environment={"OMP_WAIT_POLICY": "PASSIVE"},
            url=f"http://127.0.0.1:{port}",
            stop_bound_s=1.0,
        )
