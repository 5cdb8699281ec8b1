"""Model aliases and the routes behind them."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from millstream_schemas.envelope import Contract

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199}$")]


class Price(Contract):
    """Unit prices, pinned when a batch starts; integer so that sums are exact."""

    input_nano_usd_per_1k: Annotated[int, Field(ge=0)]
    output_nano_usd_per_1k: Annotated[int, Field(ge=0)]

    def cost_nano_usd(self, tokens_in: int, tokens_out: int) -> int:
        """Return the cost of one call, rounded up to a whole nano-dollar."""
        total = tokens_in * self.input_nano_usd_per_1k + tokens_out * self.output_nano_usd_per_1k
        return -(-total // 1000)


class Route(Contract):
    """One way to reach a model.

    ``model`` is what users see and samples record (``simulated/fast``); ``litellm_model`` is what
    litellm is asked for (``openai/fast``). ``api_key_env`` names an environment variable: keys
    themselves never enter an event. A route without ``api_base`` goes where litellm sends it.
    """

    model: ModelName
    provider: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
    litellm_model: ModelName
    api_base: str | None = None
    api_key_env: str | None = None
    price: Price | None = None
    rpm: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Requests per minute that all nodes together may send."
    )
    tpm: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        None, description="Tokens per minute, prompt and answer, over all nodes."
    )
    max_concurrency: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None, description="Calls in flight over all nodes."
    )
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    stall_s: Annotated[float, Field(gt=0, le=3600)] = 20.0
    structured: bool = Field(True, description="The endpoint can enforce a JSON schema.")
    parameters: dict[str, Any] = {}


class ModelAlias(Contract):
    """A name users choose, and the routes tried in order."""

    id: ModelName
    name: str
    kind: Literal["provider", "local", "simulated"] = "provider"
    context_window: int | None = None
    routes: Annotated[tuple[Route, ...], Field(min_length=1)]
