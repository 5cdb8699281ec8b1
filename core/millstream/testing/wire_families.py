"""The provider families that the contract tests call, one row each.

A row says how a user names the model, and what its provider must then be sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from millstream.testing.wire_forms import (
    AzureWire,
    OllamaWire,
    OpenAIWire,
    WholeWire,
    Wire,
)
from millstream.testing.wire_own_forms import AnthropicWire, BedrockWire, CohereWire, GeminiWire

PLAIN: dict[str, str] = {
    "model": "model",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "schema": "response_format.json_schema.schema",
    "system": "messages.0.content",
    "user": "messages.1.content",
}
"""Where the OpenAI form has what a prompt asks for: dotted places in the body."""


def _without(*names: str, **renamed: str) -> dict[str, str]:
    return {name: place for name, place in {**PLAIN, **renamed}.items() if name not in names}


@dataclass(frozen=True, slots=True)
class Family:
    """One way to reach a provider.

    ``base`` follows the server's address in api_base. ``places`` gives where in the body each
    thing stands; what is not in it is not sent. ``is_live`` is false where nothing is streamed.
    """

    name: str
    model: str
    host: str | None = None
    key_env: str | None = None
    lane: Literal["direct", "litellm"] = "direct"
    wire: Wire = field(default_factory=OpenAIWire)
    base: str = "/v1"
    path: str = "/v1/chat/completions"
    key_header: str = "authorization"
    key_form: str = "Bearer {}"
    places: Mapping[str, str] = field(default_factory=lambda: PLAIN)
    sent_model: str = ""
    route: Mapping[str, Any] = field(default_factory=dict)
    is_live: bool = True
    tells_id: bool = True
    tells_length: bool = True

    @property
    def model_there(self) -> str:
        """The model's name as the provider is asked for it."""
        return self.sent_model or self.model.partition("/")[2]


_GEMINI = {
    "max_tokens": "generationConfig.max_output_tokens",
    "temperature": "generationConfig.temperature",
    "top_p": "generationConfig.top_p",
    "seed": "generationConfig.seed",
    "schema": "generationConfig.response_json_schema",
    "system": "system_instruction.parts.0.text",
    "user": "contents.0.parts.0.text",
}
_BEDROCK = {
    "max_tokens": "inferenceConfig.maxTokens",
    "temperature": "inferenceConfig.temperature",
    "top_p": "inferenceConfig.topP",
    "system": "system.0.text",
    "user": "messages.0.content.0.text",
}
_OLLAMA = {
    "model": "model",
    "max_tokens": "options.num_predict",
    "temperature": "options.temperature",
    "top_p": "options.top_p",
    "seed": "options.seed",
    "schema": "format",
}

MAIN_FAMILIES: tuple[Family, ...] = (
    Family("OpenAI", "openai/gpt-4o-mini", "api.openai.com", "OPENAI_API_KEY"),
    Family(
        "OpenAI, reasoning",
        "openai/gpt-5-mini",
        "api.openai.com",
        "OPENAI_API_KEY",
        places=_without("temperature", "top_p", max_tokens="max_completion_tokens"),
    ),
    Family("any OpenAI-compatible server", "openai/my-model", key_env="MY_KEY"),
    Family("vLLM", "hosted_vllm/my-model", key_env="MY_KEY"),
    Family(
        "Groq",
        "groq/openai/gpt-oss-120b",
        "api.groq.com",
        "GROQ_API_KEY",
        lane="litellm",
        wire=WholeWire(),
        base="/openai/v1",
        path="/openai/v1/chat/completions",
        is_live=False,
    ),
    Family(
        "Groq, no schema",
        "groq/llama-3.3-70b-versatile",
        "api.groq.com",
        "GROQ_API_KEY",
        lane="litellm",
        base="/openai/v1",
        path="/openai/v1/chat/completions",
        places=_without("schema"),
        route={"structured": False},
    ),
    Family("Cerebras", "cerebras/gpt-oss-120b", "api.cerebras.ai", "CEREBRAS_API_KEY"),
    Family("Together", "together_ai/openai/gpt-oss-20b", "api.together.ai", "TOGETHERAI_API_KEY"),
    Family(
        "OpenRouter",
        "openrouter/qwen/qwen3-235b-a22b-thinking-2507",
        "openrouter.ai",
        "OPENROUTER_API_KEY",
        lane="litellm",
        base="/api/v1",
        path="/api/v1/chat/completions",
    ),
    Family("DeepSeek", "deepseek/deepseek-chat", "api.deepseek.com", "DEEPSEEK_API_KEY"),
    Family("xAI", "xai/grok-3", "api.x.ai", "XAI_API_KEY"),
    Family(
        "Mistral",
        "mistral/mistral-small-latest",
        "api.mistral.ai",
        "MISTRAL_API_KEY",
        lane="litellm",
        places=_without(seed="random_seed"),
    ),
    Family(
        "Fireworks",
        "fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct",
        "api.fireworks.ai",
        "FIREWORKS_AI_API_KEY",
        base="/inference/v1",
        path="/inference/v1/chat/completions",
    ),
    Family(
        "Cohere, compatible",
        "openai/command-r-08-2024",
        key_env="COHERE_API_KEY",
        base="/compatibility/v1",
        path="/compatibility/v1/chat/completions",
    ),
    Family(
        "Azure OpenAI",
        "azure/my-deployment",
        key_env="AZURE_API_KEY",
        lane="litellm",
        wire=AzureWire(),
        base="",
        path="/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21",
        key_header="api-key",
        key_form="{}",
        route={"parameters": {"api_version": "2024-10-21"}},
    ),
    Family(
        "Anthropic",
        "anthropic/claude-haiku-4-5",
        "api.anthropic.com",
        "ANTHROPIC_API_KEY",
        lane="litellm",
        wire=AnthropicWire(),
        base="",
        path="/v1/messages",
        key_header="x-api-key",
        key_form="{}",
        places=_without(
            "seed",
            schema="output_format.schema",
            system="system.0.text",
            user="messages.0.content.0.text",
        ),
        tells_id=False,
    ),
    Family(
        "Gemini",
        "gemini/gemini-2.5-flash",
        "generativelanguage.googleapis.com",
        "GEMINI_API_KEY",
        lane="litellm",
        wire=GeminiWire(),
        base="/v1beta",
        path="/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        key_header="x-goog-api-key",
        key_form="{}",
        places=_GEMINI,
    ),
    Family(
        "Bedrock, no schema",
        "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
        key_env="AWS_BEARER_TOKEN_BEDROCK",
        lane="litellm",
        wire=BedrockWire(),
        base="",
        path="/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream",
        places=_BEDROCK,
        route={"structured": False},
        tells_id=False,
    ),
    Family(
        "Ollama",
        "ollama/llama3",
        "localhost",
        None,
        lane="litellm",
        wire=OllamaWire(),
        base="",
        path="/api/generate",
        places=_OLLAMA,
        tells_id=False,
        tells_length=False,
    ),
)

COMPATIBLE_FAMILIES: tuple[Family, ...] = (
    *(
        Family(name, f"{provider}/my-model", host, key_env, places=places)
        for name, provider, host, key_env, places in (
            ("DeepInfra", "deepinfra", "api.deepinfra.com", "DEEPINFRA_API_KEY", _without("seed")),
            ("NVIDIA NIM", "nvidia_nim", "integrate.api.nvidia.com", "NVIDIA_NIM_API_KEY", PLAIN),
            ("SambaNova", "sambanova", "api.sambanova.ai", "SAMBANOVA_API_KEY", _without("seed")),
            ("Hyperbolic", "hyperbolic", "api.hyperbolic.xyz", "HYPERBOLIC_API_KEY", PLAIN),
            ("Nebius", "nebius", "api.studio.nebius.ai", "NEBIUS_API_KEY", PLAIN),
            ("Novita", "novita", "api.novita.ai", "NOVITA_API_KEY", PLAIN),
            ("Moonshot", "moonshot", "api.moonshot.ai", "MOONSHOT_API_KEY", PLAIN),
            ("AI21", "ai21", "api.ai21.com", "AI21_API_KEY", _without("top_p")),
        )
    ),
    Family(
        "Perplexity",
        "perplexity/sonar",
        "api.perplexity.ai",
        "PERPLEXITYAI_API_KEY",
        base="",
        path="/chat/completions",
        places=_without("seed"),
    ),
)

FAMILIES: tuple[Family, ...] = MAIN_FAMILIES + COMPATIBLE_FAMILIES
HUGGING_FACE = Family("Hugging Face", "huggingface/org/my-model", key_env="HF_TOKEN")
COHERE_OWN = Family(
    "Cohere",
    "cohere/command-r-08-2024",
    "api.cohere.com",
    "COHERE_API_KEY",
    lane="litellm",
    wire=CohereWire(),
    base="/v2/chat",
    path="/v2/chat",
)
