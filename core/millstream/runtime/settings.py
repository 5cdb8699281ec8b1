"""Settings from the environment: ``MILLSTREAM_<NAME>``; each one stands in docs/operations.md."""

import socket
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from millstream.bases import refusal
from millstream.errors import SettingsError

_BAD_ADDRESS = "bad_address"


def _default_node() -> str:
    return socket.gethostname().split(".")[0] or "node"


class Settings(BaseSettings):
    """All settings of all processes; the defaults run on one machine."""

    model_config = SettingsConfigDict(env_prefix="MILLSTREAM_", frozen=True, extra="ignore")

    nats_url: Annotated[str, Field(min_length=1)] = Field(
        "nats://127.0.0.1:4222", description="NATS server(s), comma-separated."
    )
    nats_user: str | None = Field(
        None,
        description="User that logs in at NATS; a process that has one makes no streams.",
    )
    nats_password_file: Path | None = Field(None, description="File with that user's password.")
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("millstream"),
        description="Where the embedded store and the read model live.",
    )
    host: str = Field("127.0.0.1", description="Address the API binds.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(5001, description="Port the API binds.")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None,
        description="Port for `/metrics`, `/healthz` and `/readyz` of a generator or projector.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address that this port is bound on.")
    token_file: Path | None = Field(
        None,
        description="File with the token that guards the API; needed to bind beyond loopback.",
    )
    tokens_file: Path | None = Field(
        None,
        description="File with tokens and their roles, made by `millstream admin token`.",
    )
    tls_cert_file: Path | None = Field(
        None, description="Certificate chain (PEM); with it the API speaks HTTPS."
    )
    tls_key_file: Path | None = Field(None, description="Its private key (PEM).")
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks of proxies, comma-separated, whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed.",
    )
    webhook_private: bool = Field(
        False, description="Whether webhooks may lead to addresses of a private network."
    )
    models_file: Path | None = Field(None, description="TOML file with model aliases and routes.")
    recipes_dir: Path | None = Field(None, description="Recipe files beside the built-in ones.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`auto`: text on a terminal, else JSON."
    )
    node: str = Field(
        default_factory=_default_node,
        description="Name of this node; one living generator to a name.",
    )
    replicas: Annotated[int, Field(ge=1, le=5)] = Field(
        1, description="Copies of each stream (1 or 3)."
    )
    max_bytes: Annotated[int, Field(ge=2**20)] = Field(
        2**40, description="Largest size of the event store; at most 80 % of the free disk."
    )
    node_concurrency: Annotated[int, Field(ge=1, le=4096)] = Field(
        256, description="LLM calls in flight per generator."
    )
    batch_concurrency: Annotated[int, Field(ge=1, le=4096)] = Field(
        32, description="LLM calls in flight per batch when the start names none."
    )
    lease_s: Annotated[float, Field(ge=1, le=600)] = Field(
        10.0, description="A slice's lease; kept by three beats per lease."
    )
    pool: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")] = Field(
        "default", description="Which pool's work a generator takes."
    )
    default_model: str = Field("auto", description="Model of a batch that names none.")
    default_recipe: str = Field("legal-qa", description="Recipe of a batch that names none.")
    lane: Literal["auto", "litellm"] = Field(
        "auto",
        description="`auto`: OpenAI-compatible endpoints are called directly, others by litellm.",
    )
    simulated_url: str | None = Field(None, description="Base URL of the simulated models.")
    local_url: str | None = Field(None, description="Base URL of the local model.")
    probe_after_s: Annotated[float, Field(ge=0.05, le=60)] = Field(
        1.5, description="Pause before the first probe of a route that fails; doubles up to 5 min."
    )
    unanswered_s: Annotated[float, Field(ge=0.1, le=3600)] = Field(
        30.0, description="How long no call of a batch may be answered at all before it fails."
    )
    stuck_after_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        30.0, description="Least time without progress before a batch counts as stuck."
    )
    fault_point: str = Field(
        "", description="Where a process kills or freezes itself (tests only)."
    )

    @field_validator("simulated_url", "local_url")
    @classmethod
    def _can_be_called(cls, url: str | None, field: ValidationInfo) -> str | None:
        name = f"MILLSTREAM_{field.field_name}".upper()
        reason = refusal(name, url, "leave these out") if url else ""
        if reason:
            raise PydanticCustomError(_BAD_ADDRESS, "{reason}", {"reason": reason})
        return url or None  # an empty variable is one that is not set


def load_settings(**overrides: object) -> Settings:
    """Return the settings of this process; ``overrides`` come from the command line.

    Raises:
        SettingsError: a value is wrong; the message names the variable and what it takes.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # values come as text and are validated
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == _BAD_ADDRESS:  # names all that may be told: the value may hold a secret
            raise SettingsError(first["msg"]) from None
        name = "MILLSTREAM_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(
            f"{name}={first.get('input')!r} is not valid: {first['msg']}; correct or unset it"
        ) from error
