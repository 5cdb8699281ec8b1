"""The model book: which models a batch may use, and the routes behind each name."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from millstream.errors import SettingsError, UsageError
from millstream.keys import BrokenKeyError, key_of
from millstream.known_models import (
    LOCAL_MODEL,
    PROVIDER_KEYS,
    own_aliases,
    provider_aliases,
    route_to,
)
from millstream.models_file import read_models
from millstream.prices import context_window_of, price_of
from millstream.runtime.settings import Settings
from millstream.wording import one_of, suggestion
from millstream_schemas.routes import ModelAlias, Price, Route

AUTO = "auto"
SIMULATED_DEFAULT = "simulated/fast"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model can be started now; ``reason`` tells what is missing."""

    available: bool
    reason: str | None = None


class ModelBook:
    """All model names there are: the file's, Millstream's own, and the built-in ones.

    Besides these, any ``provider/model`` of a known provider is accepted.
    """

    def __init__(
        self,
        aliases: Iterable[ModelAlias],
        *,
        default_model: str = AUTO,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._aliases: dict[str, ModelAlias] = {}
        for alias in aliases:
            self._aliases.setdefault(alias.id, alias)
        self._default_model = default_model
        self._environment = os.environ if environment is None else environment

    @classmethod
    def load(cls, settings: Settings, environment: Mapping[str, str] | None = None) -> Self:
        """Return the book of these settings; an alias of the file replaces a built-in one.

        Raises:
            SettingsError: the models file or the default model can't be used.
        """
        from_file = read_models(settings.models_file) if settings.models_file else []
        book = cls(
            [*from_file, *own_aliases(settings), *provider_aliases()],
            default_model=settings.default_model,
            environment=environment,
        )
        if settings.default_model != AUTO:
            try:
                book.find(settings.default_model)
            except UsageError as error:
                raise SettingsError(f"MILLSTREAM_DEFAULT_MODEL: {error}") from error
        return book

    def all(self) -> tuple[ModelAlias, ...]:
        """Return every named model: local, simulated and the file's first."""
        return tuple(self._aliases.values())

    def default(self) -> str | None:
        """Return the model of a batch that names none; None when there is none to offer.

        The set one, else the local model, else the simulated one, else the first with a key.
        """
        if self._default_model != AUTO:
            return self._default_model
        for name in (LOCAL_MODEL, SIMULATED_DEFAULT):
            if name in self._aliases:
                return name
        return next((item.id for item in self.all() if self.availability(item).available), None)

    def availability(self, alias: ModelAlias) -> Availability:
        """Tell whether any route of ``alias`` has what it needs in this environment."""
        missing = [route.api_key_env for route in alias.routes if not self._has_key(route)]
        if len(missing) < len(alias.routes):
            return Availability(available=True)
        names = dict.fromkeys(name for name in missing if name)
        reason = f"set {' or '.join(names)} in the environment"
        faults = [fault for fault in map(self.key_fault, names) if fault]
        return Availability(
            available=False, reason=f"{reason} ({'; '.join(faults)})" if faults else reason
        )

    def key_fault(self, variable: str) -> str:
        """Return why the key in ``variable`` can't be sent; empty when it can, or is not set."""
        try:
            key_of(self._environment, variable)
        except BrokenKeyError as error:
            return str(error)
        return ""

    def has_provider_key(self, alias: ModelAlias, provider: str) -> bool:
        """Tell whether ``alias`` can be reached through ``provider`` in this environment."""
        return any(route.provider == provider and self._has_key(route) for route in alias.routes)

    def price(self, alias: ModelAlias) -> Price | None:
        """Return what the first route of ``alias`` costs; None where nobody knows it."""
        return _priced(alias).routes[0].price

    def find(self, name: str) -> ModelAlias:
        """Return the alias called ``name``, or the one that ``provider/model`` stands for.

        Raises:
            UsageError: there is none; names the value and what is known.
        """
        alias = self._aliases.get(name)
        if alias is not None:
            return alias
        provider, slash, rest = name.partition("/")
        if slash and rest and provider in PROVIDER_KEYS:
            return _plain_alias(name)
        if slash and provider in {"simulated", "local"} and not self._has_provider(provider):
            raise UsageError(
                f"model {_short(name)} is not running here; `millstream up` runs it, or set "
                f"MILLSTREAM_{provider.upper()}_URL",
                field="model",
                value=name,
            )
        if slash and provider not in self.providers():
            raise UsageError(
                f"model {_short(name)} names the unknown provider {_short(provider)}; "
                f"{one_of(provider, self.providers())}, or add the model to "
                "MILLSTREAM_MODELS_FILE",
                field="model",
                value=name,
            )
        raise UsageError(
            f"model {_short(name)} is unknown; use one that /v1/models lists, or provider/model "
            f"(groq/openai/gpt-oss-120b){suggestion(name, self._aliases)}",
            field="model",
            value=name,
        )

    def resolve(self, model: str | None, provider: str | None) -> ModelAlias:
        """Return the model to start, with priced routes whose keys are set, in failover order.

        Null or ``auto`` is the default; a provider keeps its routes alone.

        Raises:
            UsageError: unknown model or provider, a model without such a route, or no key.
        """
        for field, name in (("model", model), ("provider", provider)):
            if name is not None and not name.strip():
                raise UsageError(
                    f"{field} {_short(name)} names nothing; leave it out, or say {AUTO!r}, for the "
                    f"default, or name a {field} that /v1/models lists",
                    field=field,
                    value=name,
                )
        wanted = None if model in {None, AUTO} else model
        chosen = None if provider in {None, AUTO} else provider
        if chosen is not None and chosen not in self.providers():
            raise UsageError(
                f"provider {_short(chosen)} is unknown; {one_of(chosen, self.providers())}",
                field="provider",
                value=chosen,
            )
        alias = self.find(wanted) if wanted else self._default_of(chosen)
        if chosen is not None:
            alias = _through(alias, chosen)
        return _priced(self._startable(alias))

    def providers(self) -> tuple[str, ...]:
        """Return the names of all providers, those of named models first."""
        named = (route.provider for alias in self.all() for route in alias.routes)
        return tuple(dict.fromkeys([*named, *PROVIDER_KEYS]))

    def _has_provider(self, provider: str) -> bool:
        return any(route.provider == provider for item in self.all() for route in item.routes)

    def _has_key(self, route: Route) -> bool:
        variable = route.api_key_env
        if variable is None:
            return True
        return not self.key_fault(variable) and bool(key_of(self._environment, variable))

    def _default_of(self, provider: str | None) -> ModelAlias:
        """Return the default model, or the first one that ``provider`` serves."""
        if provider is not None:
            default = self.default()
            ordered = ([self.find(default)] if default else []) + list(self.all())
            for alias in ordered:
                if any(route.provider == provider for route in alias.routes):
                    return alias
            raise UsageError(
                f"provider {_short(provider)} has no default model; name one as {provider}/<model>",
                field="model",
                value=None,
            )
        name = self.default()
        if name is None:
            raise UsageError(
                "model is missing and no model is ready; run `millstream up`, or set a provider's "
                "key (OPENAI_API_KEY, GROQ_API_KEY, ...) or MILLSTREAM_DEFAULT_MODEL",
                field="model",
                value=None,
            )
        return self.find(name)

    def _startable(self, alias: ModelAlias) -> ModelAlias:
        usable = tuple(route for route in alias.routes if self._has_key(route))
        if not usable:
            reason = self.availability(alias).reason
            raise UsageError(
                f"model {_short(alias.id)} has no API key: {reason} of the API and of every "
                "generator and start them again, or choose another model",
                field="model",
                value=alias.id,
            )
        return alias.model_copy(update={"routes": usable})


def _through(alias: ModelAlias, provider: str) -> ModelAlias:
    routes = tuple(route for route in alias.routes if route.provider == provider)
    if not routes:
        known = ", ".join(dict.fromkeys(route.provider for route in alias.routes))
        raise UsageError(
            f"provider {_short(provider)} does not serve model {_short(alias.id)}; use {known}, "
            "or leave provider out",
            field="provider",
            value=provider,
        )
    return alias.model_copy(update={"routes": routes})


def _plain_alias(name: str) -> ModelAlias:
    """Return the alias that an explicit ``provider/model`` is."""
    try:
        route = route_to(name)
        return ModelAlias(id=name, name=name, routes=(route,))
    except ValidationError as error:
        raise UsageError(
            f"model {_short(name)} is not a model name; use letters, digits and ._:/@- only, "
            "at most 200",
            field="model",
            value=name,
        ) from error


def _priced(alias: ModelAlias) -> ModelAlias:
    routes = tuple(
        route
        if route.price is not None
        else route.model_copy(update={"price": price_of(route.litellm_model, route.provider)})
        for route in alias.routes
    )
    first = routes[0]
    window = alias.context_window or context_window_of(first.litellm_model, first.provider)
    return alias.model_copy(update={"routes": routes, "context_window": window})


def _short(value: str) -> str:
    return ascii(value if len(value) <= 80 else f"{value[:77]}...")
