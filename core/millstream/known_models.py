"""The models that Millstream knows by name, and which key each provider wants."""

from millstream.runtime.settings import Settings
from millstream_schemas.routes import ModelAlias, Price, Route

PROVIDER_KEYS: dict[str, str | None] = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "together_ai": "TOGETHERAI_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "fireworks_ai": "FIREWORKS_AI_API_KEY",
    "xai": "XAI_API_KEY",
    "perplexity": "PERPLEXITYAI_API_KEY",
    "cohere": "COHERE_API_KEY",
    "deepinfra": "DEEPINFRA_API_KEY",
    "nvidia_nim": "NVIDIA_NIM_API_KEY",
    "sambanova": "SAMBANOVA_API_KEY",
    "hyperbolic": "HYPERBOLIC_API_KEY",
    "nebius": "NEBIUS_API_KEY",
    "novita": "NOVITA_API_KEY",
    "moonshot": "MOONSHOT_API_KEY",
    "ai21": "AI21_API_KEY",
    "huggingface": "HF_TOKEN",
    "ollama": None,
}
"""Provider (litellm's name) -> the environment variable of its key; None: it takes no key."""

SIMULATED_PROFILES: dict[str, str] = {
    "fast": "50 ms, no failures",
    "slow": "2 s",
    "flaky": "8 % failures over the categories",
    "stall": "answers 10, then never",
    "instant": "0 ms",
}
FREE = Price(input_nano_usd_per_1k=0, output_nano_usd_per_1k=0)

LOCAL_MODEL = "local/smollm2-135m"
LOCAL_CONTEXT_TOKENS = 2048
LOCAL_CONCURRENCY = 4
LOCAL_STALL_S = 120.0
"""A busy machine may take a minute over four prompts at once; the server itself does not hang."""

_BUILT_IN: tuple[tuple[str, str, int, tuple[str, ...]], ...] = (
    (
        "gpt-oss-120b",
        "GPT-OSS 120B",
        131_072,
        ("groq/openai/gpt-oss-120b", "cerebras/gpt-oss-120b", "together_ai/openai/gpt-oss-120b"),
    ),
    (
        "gpt-oss-20b",
        "GPT-OSS 20B",
        131_072,
        ("groq/openai/gpt-oss-20b", "together_ai/openai/gpt-oss-20b"),
    ),
    (
        "qwen-3-235b-a22b-thinking-2507",
        "Qwen3 235B Thinking",
        131_072,
        (
            "cerebras/qwen-3-235b-a22b-thinking-2507",
            "together_ai/Qwen/Qwen3-235B-A22B-Thinking-2507",
            "openrouter/qwen/qwen3-235b-a22b-thinking-2507",
        ),
    ),
    (
        "llama-3.3-70b",
        "Llama 3.3 70B",
        128_000,
        (
            "groq/llama-3.3-70b-versatile",
            "cerebras/llama-3.3-70b",
            "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        ),
    ),
    (
        "llama-3.1-8b",
        "Llama 3.1 8B",
        128_000,
        ("groq/llama-3.1-8b-instant", "cerebras/llama3.1-8b"),
    ),
    ("gpt-5-mini", "GPT-5 mini", 272_000, ("openai/gpt-5-mini",)),
    ("gpt-4o-mini", "GPT-4o mini", 128_000, ("openai/gpt-4o-mini",)),
    ("claude-haiku-4-5", "Claude Haiku 4.5", 200_000, ("anthropic/claude-haiku-4-5",)),
    ("gemini-2.5-flash", "Gemini 2.5 Flash", 1_048_576, ("gemini/gemini-2.5-flash",)),
    ("mistral-small-latest", "Mistral Small", 262_144, ("mistral/mistral-small-latest",)),
    ("deepseek-chat", "DeepSeek Chat", 131_072, ("deepseek/deepseek-chat",)),
)


def route_to(litellm_model: str) -> Route:
    """Return the plain route to ``provider/model`` of a provider in ``PROVIDER_KEYS``."""
    provider = litellm_model.partition("/")[0]
    return Route(
        model=litellm_model,
        provider=provider,
        litellm_model=litellm_model,
        api_key_env=PROVIDER_KEYS[provider],
    )


def provider_aliases() -> list[ModelAlias]:
    """Return the built-in aliases of providers, each with its routes in failover order."""
    return [
        ModelAlias(
            id=alias,
            name=name,
            context_window=window,
            routes=tuple(route_to(model) for model in models),
        )
        for alias, name, window, models in _BUILT_IN
    ]


def own_aliases(settings: Settings) -> list[ModelAlias]:
    """Return the models that Millstream itself runs: local first, then simulated."""
    found: list[ModelAlias] = []
    if settings.local_url:
        route = Route(
            model=LOCAL_MODEL,
            provider="local",
            litellm_model="openai/smollm2-135m",
            api_base=_base(settings.local_url),
            price=FREE,
            max_concurrency=LOCAL_CONCURRENCY,
            timeout_s=300.0,
            stall_s=LOCAL_STALL_S,
            structured=True,
        )
        found.append(
            ModelAlias(
                id=LOCAL_MODEL,
                name="SmolLM2 135M (this machine)",
                kind="local",
                context_window=LOCAL_CONTEXT_TOKENS,
                routes=(route,),
            )
        )
    if settings.simulated_url:
        base = _base(settings.simulated_url)
        found.extend(_simulated(profile, base) for profile in SIMULATED_PROFILES)
    return found


def _simulated(profile: str, base: str) -> ModelAlias:
    model = f"simulated/{profile}"
    route = Route(
        model=model,
        provider="simulated",
        litellm_model=f"openai/{profile}",
        api_base=base,
        price=FREE,
    )
    return ModelAlias(
        id=model,
        name=f"Simulated: {profile} ({SIMULATED_PROFILES[profile]})",
        kind="simulated",
        routes=(route,),
    )


def _base(url: str) -> str:
    """Return the OpenAI base of a server: ``<url>/v1``, also when the setting has it already."""
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"
