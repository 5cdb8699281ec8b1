"""API bases and keys: what can't be called, or would put a secret into the log, is refused."""

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from millstream.bases import refusal, unreachable
from millstream.cli.app import app
from millstream.errors import SettingsError, UsageError
from millstream.keys import BrokenKeyError, key_of
from millstream.models import ModelBook
from millstream.runtime.settings import load_settings
from millstream_generator.completion import CallFailedError
from millstream_generator.policy import with_remedy
from millstream_generator.targets import Targets
from millstream_schemas.routes import ModelAlias, Route

SECRET = "hunter2"  # what no message may show


@pytest.mark.parametrize(
    "base",
    [
        "http://10.0.0.5:8000/v1",
        "https://api.cohere.ai/compatibility/v1",
        "http://[::1]:9/v1",
        "http://model_server:8000",
        "https://gateway.example./a@b/v1",
        "http://xn--exmple-cua.example/v1",
    ],
)
def test_a_base_that_can_be_called_is_taken(base: str) -> None:
    assert refusal("api_base", base) == ""


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("", "api_base='' names no address"),
        (" ", "names no address"),
        ("127.0.0.1:8000/v1", "='127.0.0.1:8000/v1' does not begin with http:// or https://"),
        ("model.example/v1", "does not begin with http:// or https://"),
        ("ftp://127.0.0.1/v1", "does not begin with http:// or https://"),
        ("http:///v1", "does not begin with"),
        ("http://my..host/v1", "has a host that can't be called"),
        (f"http://{'a' * 64}.example/v1", "has a host that can't be called"),
        (f"http://{'a.' * 130}example/v1", "has a host that can't be called"),
        ("http://a!b/v1", "has a host that can't be called"),
        ("http://127.0.0.1:99999/v1", "is no address (Port out of range 0-65535)"),
        ("http://127.0.0.1:x/v1", "is no address"),
        ("http://127.0.0.1:0/v1", "has a port that can't be called"),
        ("http://[::1/v1", "is no address"),
        ("http://127.0.0.1:8000/v1 ", "holds a space"),
        ("http://127.0.0.1:8000/v1\n", "holds a space, a line break"),
        ("http://exämple.example/v1", "xn--"),
    ],
)
def test_a_base_that_no_call_can_get_to_is_told_with_the_remedy(base: str, words: str) -> None:
    assert words in refusal("api_base", base)
    assert words in unreachable("api_base", base)


@pytest.mark.parametrize(
    "base",
    [
        f"http://user:{SECRET}@host/v1",
        f"http://{SECRET}@host/v1",
        f"user:{SECRET}@host/v1",
        f"http://host/v1?api_key={SECRET}",
        f"http://host/v1#{SECRET}",
        f"http://[host/v1?{SECRET}",
        f"http://user:{SECRET}@my..host/v1",
    ],
)
def test_a_base_that_may_hold_a_secret_is_refused_without_showing_it(base: str) -> None:
    told = refusal("api_base", base)
    assert "api_base (not shown) holds" in told
    assert "api_key_env" in told
    assert SECRET not in told + unreachable("api_base", base)


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ('api_base=""', "api_base='' names no address"),
        (f'api_base="http://user:{SECRET}@host/v1"', r"api_base \(not shown\) holds a user"),
        ('api_base="127.0.0.1:8000/v1"', "does not begin with http"),
        ('parameters={api_base="http://a/v1"}', "parameters.api_base is an address"),
        (f'parameters={{api_key="{SECRET}"}}', r"parameters.api_key holds a secret"),
        (f'parameters={{aws_session_token="{SECRET}"}}', "aws_session_token holds a secret"),
    ],
)
def test_a_models_file_with_such_a_route_is_refused_by_file_model_and_field(
    tmp_path: Path, route: str, words: str
) -> None:
    file = tmp_path / "models.toml"
    text = '[[models]]\nid="house"\n[[models.routes]]\nlitellm_model="openai/house"\n'
    file.write_text(text + route)
    settings = load_settings(models_file=file)
    with pytest.raises(SettingsError, match=words) as caught:
        ModelBook.load(settings, {})
    told = str(caught.value)
    assert f"{file} (MILLSTREAM_MODELS_FILE) models[0] ('house').routes[0]." in told
    assert SECRET not in told


def models_with(tmp_path: Path, parameters: str) -> ModelBook:
    file = tmp_path / "models.toml"
    text = '[[models]]\nid="house"\n[[models.routes]]\nlitellm_model="openai/house"\n'
    file.write_text(f"{text}parameters={{{parameters}}}")
    return ModelBook.load(load_settings(models_file=file), {})


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        (f'extra_headers={{Authorization="{SECRET}"}}', "extra_headers.Authorization"),
        (f'extra_headers={{x-api-key="{SECRET}"}}', "extra_headers.x-api-key"),
        (f'extra_headers={{X-Custom="Bearer {SECRET}"}}', "extra_headers.X-Custom"),
        (f'extra_headers={{Cookie="{SECRET}"}}', "extra_headers.Cookie"),
        (f'extra_body={{api_key="{SECRET}"}}', "extra_body.api_key"),
        (f'fallbacks=[{{model="a", ApiKey="{SECRET}"}}]', "fallbacks[0].ApiKey"),
        (f'api-key="{SECRET}"', "api-key"),
        (f'azure_ad_token="{SECRET}"', "azure_ad_token"),
        (f'aws_secret_access_key="{SECRET}"', "aws_secret_access_key"),
        (f'vertex_credentials="{SECRET}"', "vertex_credentials"),
        (f'azure_endpoint="http://u:{SECRET}@h"', "azure_endpoint"),
        (f'azure_endpoint="http://h:99999/{SECRET}"', "azure_endpoint"),
        (f'webhook="https://h/v1?sig={SECRET}"', "webhook"),
        (f'store="redis://:{SECRET}@h/0"', "store"),
    ],
)
def test_a_secret_among_a_routes_parameters_is_refused_by_its_field(
    tmp_path: Path, parameters: str, field: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        models_with(tmp_path, parameters)
    assert f"models[0] ('house').routes[0].parameters.{field} " in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "parameters",
    [
        'prompt_cache_key="ds"',
        'pad_token="<pad>", eos_token="</s>", extra_body={forced_bos_token=5, stop_token="x"}',
        "max_completion_tokens=5, skip_special_tokens=true, return_token=true",
        'extra_headers={HTTP-Referer="https://millstream.test/v1", X-Title="a key: none"}',
        'system="https://a.test/?b says so", api_version="2024-10-21", bucket="s3://data/x"',
        'tools=[{function={parameters={properties={token={type="string"}}}}}]',
    ],
)
def test_parameters_that_only_sound_like_a_secret_are_taken(
    tmp_path: Path, parameters: str
) -> None:
    taken = models_with(tmp_path, parameters).find("house").routes[0].parameters
    assert taken == tomllib.loads(f"it={{{parameters}}}")["it"]


def test_the_doctor_tells_of_such_a_file_and_of_a_key_that_cannot_be_sent(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    text = '[[models]]\nid="house"\n[[models.routes]]\nlitellm_model="openai/house"\n'

    def models(route: str) -> dict[str, str]:
        file.write_text(text + route)
        environment = {"MILLSTREAM_MODELS_FILE": str(file), "HOUSE_KEY": f"{SECRET}\n{SECRET}"}
        words = ["doctor", "--json", "--data", str(tmp_path)]
        shown = CliRunner().invoke(app, words, env=environment).stdout
        assert SECRET not in shown
        checks = json.loads(shown)["checks"]
        found: dict[str, str] = next(one for one in checks if one["name"] == "models")
        return found

    refused = models('api_base=""')
    assert refused["mark"] == "failed"
    assert "models[0] ('house').routes[0].api_base='' names no address" in refused["words"]
    broken = models('api_key_env="HOUSE_KEY"')
    assert broken["mark"] == "warning"
    assert "HOUSE_KEY holds a line break" in broken["words"]


def test_the_address_of_an_own_server_is_looked_at_when_settings_are_read() -> None:
    for url in ("ftp://127.0.0.1", "http://127.0.0.1:99999"):
        with pytest.raises(SettingsError, match=f"^MILLSTREAM_LOCAL_URL='{url}'"):
            load_settings(local_url=url)
    with pytest.raises(SettingsError) as caught:
        load_settings(simulated_url=f"http://user:{SECRET}@127.0.0.1:8080")
    assert str(caught.value).startswith("MILLSTREAM_SIMULATED_URL (not shown) holds a user")
    assert SECRET not in f"{caught.value} {caught.value.__cause__}"
    assert load_settings(simulated_url="").simulated_url is None


def test_a_key_loses_the_line_break_of_its_file_and_is_refused_with_one_within() -> None:
    assert key_of({"KEY": f" {SECRET}\r\n"}, "KEY") == SECRET
    assert key_of({}, "KEY") == key_of({"KEY": " \n"}, "KEY") == ""
    for broken in (f"{SECRET}\nX-Other: 1", f"{SECRET}\0", f"{SECRET}é", f"{SECRET}\N{SNOWMAN}"):
        with pytest.raises(BrokenKeyError, match=r"^KEY holds a line break") as caught:
            key_of({"KEY": broken}, "KEY")
        assert SECRET not in str(caught.value)


def test_a_model_whose_key_cannot_be_sent_is_not_started_and_says_which_variable() -> None:
    route = Route(
        model="house", provider="openai", litellm_model="openai/house", api_key_env="HOUSE_KEY"
    )
    alias = ModelAlias(id="house", name="House", routes=(route,))
    book = ModelBook([alias], environment={"HOUSE_KEY": f"{SECRET}\n{SECRET}"})
    with pytest.raises(UsageError, match="HOUSE_KEY holds a line break") as caught:
        book.resolve("house", None)
    assert SECRET not in str(caught.value)
    assert ModelBook([alias], environment={"HOUSE_KEY": " \n"}).availability(alias).reason == (
        "set HOUSE_KEY in the environment"
    )


def test_a_batch_that_pinned_such_a_route_fails_at_its_first_call_and_calls_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its log is from before bases were looked at, or the key is another one on this node."""
    targets = Targets(load_settings())
    known = {"model": "house", "provider": "openai", "litellm_model": "openai/house"}
    for base in ("", "http://my..host/v1"):
        with pytest.raises(CallFailedError, match=r"^api_base=") as caught:
            targets.base(Route(**known, api_base=base))
        assert (caught.value.status_code, caught.value.is_unpaid) == (404, True)
    assert targets.base(Route(**known)) is None
    kept = Route(**known, api_base=f"http://user:{SECRET}@host/v1", api_key_env="HOUSE_KEY")
    assert SECRET not in with_remedy(CallFailedError("server", "no answer"), kept)
    monkeypatch.setenv("HOUSE_KEY", f"{SECRET}é")
    with pytest.raises(CallFailedError, match="can't be sent: HOUSE_KEY holds") as caught:
        targets.key(kept)
    assert (caught.value.category, SECRET in str(caught.value)) == ("auth", False)
