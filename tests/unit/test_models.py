from pathlib import Path

import pytest

from millstream.errors import SettingsError, UsageError
from millstream.models import ModelBook
from millstream.prices import price_of
from millstream.runtime.settings import Settings

GROQ = {"GROQ_API_KEY": "k"}


def book(environment: dict[str, str] | None = None, **settings: object) -> ModelBook:
    chosen = {"simulated_url": "http://127.0.0.1:9", **settings}
    return ModelBook.load(Settings(**chosen), environment or {})  # type: ignore[arg-type]


def test_auto_is_the_local_model_when_there_is_one_else_the_simulated_one() -> None:
    assert book(local_url="http://127.0.0.1:8").resolve("auto", "auto").id == "local/smollm2-135m"
    assert book().resolve(None, None).id == "simulated/fast"
    assert book(default_model="simulated/slow").resolve("auto", None).id == "simulated/slow"


def test_auto_is_the_first_model_with_a_key_when_millstream_runs_none() -> None:
    assert book(GROQ, simulated_url=None).resolve(None, None).id == "gpt-oss-120b"
    with pytest.raises(UsageError, match="no model is ready; run `millstream up`"):
        book(simulated_url=None).resolve(None, None)


def test_a_simulated_model_goes_to_its_server_and_costs_nothing() -> None:
    route = book().resolve("simulated/flaky", None).routes[0]
    assert (route.litellm_model, route.api_base) == ("openai/flaky", "http://127.0.0.1:9/v1")
    assert route.price is not None
    assert route.price.cost_nano_usd(1000, 1000) == 0
    assert route.api_key_env is None


def test_the_local_model_takes_four_calls_at_a_time_and_enforces_schemas() -> None:
    route = book(local_url="http://127.0.0.1:8/v1/").resolve("local/smollm2-135m", None).routes[0]
    assert (route.litellm_model, route.api_base) == (
        "openai/smollm2-135m",
        "http://127.0.0.1:8/v1",
    )
    assert (route.max_concurrency, route.structured) == (4, True)


def test_an_alias_keeps_the_routes_whose_key_is_set_in_order() -> None:
    alias = book({"TOGETHERAI_API_KEY": "t", **GROQ}).resolve("gpt-oss-120b", None)
    assert [route.model for route in alias.routes] == [
        "groq/openai/gpt-oss-120b",
        "together_ai/openai/gpt-oss-120b",
    ]
    assert alias.routes[0].price == price_of("groq/openai/gpt-oss-120b", "groq")


def test_a_provider_keeps_its_own_route() -> None:
    environment = {"CEREBRAS_API_KEY": "c", **GROQ}
    alias = book(environment).resolve("gpt-oss-120b", "cerebras")
    assert [route.provider for route in alias.routes] == ["cerebras"]
    assert book(environment).resolve(None, "groq").routes[0].provider == "groq"


def test_any_model_of_a_known_provider_is_accepted_and_its_price_may_be_unknown() -> None:
    alias = book(GROQ).resolve("groq/some-new-model", None)
    assert (alias.id, alias.routes[0].provider) == ("groq/some-new-model", "groq")
    assert alias.routes[0].price is None


def test_a_model_without_its_key_is_listed_with_the_reason_and_refused() -> None:
    models = book()
    alias = models.find("gpt-4o-mini")
    assert models.availability(alias).reason == "set OPENAI_API_KEY in the environment"
    with pytest.raises(UsageError, match="set OPENAI_API_KEY in the environment") as caught:
        models.resolve("gpt-4o-mini", None)
    assert caught.value.field == "model"


@pytest.mark.parametrize(
    ("model", "provider", "field", "words"),
    [
        ("simulated/fsat", None, "model", "did you mean 'simulated/fast'"),
        ("nonsense", None, "model", "use one that /v1/models lists"),
        ("nobody/model", None, "model", "names the unknown provider 'nobody'"),
        ("local/smollm2-135m", None, "model", "is not running here"),
        ("groq/", None, "model", "is unknown"),
        ("groq/bad name", None, "model", "is not a model name"),
        ("gpt-oss-120b", "openai", "provider", "does not serve model"),
        ("gpt-oss-120b", "groqq", "provider", "did you mean 'groq'"),
        (None, "ollama", "model", "has no default model"),
        ("x" * 5000, None, "model", "..."),
    ],
)
def test_an_unknown_name_is_refused_with_field_and_remedy(
    model: str | None, provider: str | None, field: str, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        book().resolve(model, provider)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_models_file_adds_models_and_replaces_built_in_ones(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        """
        [[models]]
        id = "house"
        context_window = 4096
        [[models.routes]]
        litellm_model = "openai/house"
        api_base = "http://10.0.0.5:8000/v1"
        rpm = 600
        tpm = 200_000
        max_concurrency = 32
        input_usd_per_million = 0.15
        output_usd_per_million = 0.6

        [[models]]
        id = "gpt-oss-120b"
        [[models.routes]]
        litellm_model = "groq/openai/gpt-oss-120b"
        """
    )
    models = book(GROQ, models_file=file)
    house = models.resolve("house", None)
    assert (house.name, house.context_window) == ("house", 4096)
    assert house.routes[0].price is not None
    assert house.routes[0].price.cost_nano_usd(1_000_000, 1_000_000) == 750_000_000
    assert house.routes[0].api_key_env is None
    limits = (house.routes[0].rpm, house.routes[0].tpm, house.routes[0].max_concurrency)
    assert limits == (600, 200_000, 32)
    assert len(models.find("gpt-oss-120b").routes) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[models", "is not valid TOML"),
        ("x = 1", r"must hold \[\[models\]\]"),
        ('[[models]]\nid = "a"', r"models\[0\].routes is missing"),
        ("[[models]]\n[[models.routes]]\nlitellm_model='groq/x'", r"models\[0\].id is missing"),
        (
            '[[models]]\nid="a"\n[[models.routes]]\nlitellm_model="groq/x"\napi_key="s"',
            "name that one with api_key_env",
        ),
        ('[[models]]\nid="a"\n[[models.routes]]\nmodell="groq/x"', "modell is unknown"),
        ('[[models]]\nid="a b"\n[[models.routes]]\nlitellm_model="groq/x"', "id='a b'"),
        (
            '[[models]]\nid="a"\n[[models.routes]]\nlitellm_model="groq/x"\ninput_usd_per_million=1',
            "give both",
        ),
        (
            '[[models]]\nid="a"\n[[models.routes]]\ninput_usd_per_million=inf\noutput_usd_per_million=1',
            "numbers from 0 to 1,000,000",
        ),
        ("models = [1]", "is not a table"),
    ],
)
def test_a_broken_models_file_is_named_with_the_field(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "models.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words) as caught:
        book(models_file=file)
    assert str(file) in str(caught.value)


def test_a_missing_models_file_and_an_unknown_default_are_settings_errors(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        book(models_file=tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="MILLSTREAM_DEFAULT_MODEL: model 'x'"):
        book(default_model="x")


def test_prices_are_whole_nano_dollars_and_unknown_is_not_zero() -> None:
    price = price_of("openai/gpt-4o-mini", "openai")  # stands in the map without its prefix
    assert price is not None
    assert price.input_nano_usd_per_1k > 0
    assert price_of("openai/no-such-model", "openai") is None
    assert price_of("groq/gpt-4o-mini", "groq") is None  # another provider's price is not its own
