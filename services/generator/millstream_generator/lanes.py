"""Which lane a route takes: straight to its endpoint where that can be, else through litellm."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

import structlog

from millstream.runtime.settings import Settings
from millstream_generator import memory
from millstream_generator.completion import Completion, Progress, Prompt
from millstream_generator.direct_lane import DirectLane
from millstream_generator.endpoints import Endpoint, find_endpoint, is_plain
from millstream_generator.litellm_lane import LitellmLane
from millstream_generator.targets import Targets
from millstream_schemas.routes import Route

log = structlog.get_logger()

ASKED_AT_ONCE = 2
"""Questions to litellm at one time, each 160 MB in a process of its own while it lasts."""

_Known = tuple[str, str, str | None, str]
"""What an endpoint follows from: provider, litellm's model, base and key."""


class Lanes:
    """The provider of a generator; routes are resolved once and kept.

    ``settle`` is called after each load of modules.
    """

    def __init__(self, settings: Settings, settle: Callable[[], None] = memory.give_back) -> None:
        self._targets = Targets(settings)
        self._may_be_direct = settings.lane == "auto"
        self._litellm = LitellmLane(self._targets, settle)
        self._direct = DirectLane()
        self._endpoints: dict[_Known, Endpoint | str] = {}
        self._asking: defaultdict[_Known, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._questions = asyncio.Semaphore(ASKED_AT_ONCE)

    async def warm_up(self) -> None:
        """Load what every call will need, before the node takes work.

        litellm costs seconds and 160 MB: where it is one lane of two, its first call loads it.
        """
        if not self._may_be_direct:
            await self._litellm.warm_up()

    async def close(self) -> None:
        """Close all connections."""
        await self._direct.close()
        await self._litellm.close()

    async def complete(self, route: Route, prompt: Prompt, progress: Progress) -> Completion:
        """Return the whole answer of one streamed call; raises CallFailedError."""
        endpoint = await self._endpoint(route) if self._may_be_direct else ""
        if isinstance(endpoint, str):
            return await self._litellm.complete(route, prompt, progress)
        return await self._direct.complete(route, endpoint, prompt, progress)

    async def detour(self, route: Route) -> str:
        """Return why the route goes through litellm though it might be called directly."""
        endpoint = await self._endpoint(route) if self._may_be_direct else ""
        return endpoint if isinstance(endpoint, str) else ""

    async def _endpoint(self, route: Route) -> Endpoint | str:
        """Return the route's endpoint, or why it has none that can be called directly."""
        base, key = self._targets.base(route), self._targets.key(route)
        known = (route.provider, route.litellm_model, base, key)
        if known in self._endpoints:
            return self._endpoints[known]
        if is_plain(route, base):
            return await self._find(known, route)
        # Once per route: who waits finds the answer, or asks again when the asker was cancelled.
        async with self._asking[known]:
            if known not in self._endpoints:
                async with self._questions:
                    await self._find(known, route)
        return self._endpoints[known]

    async def _find(self, known: _Known, route: Route) -> Endpoint | str:
        _, _, base, key = known
        endpoint = await find_endpoint(route, base, key)
        lane = "litellm" if isinstance(endpoint, str) else "direct"
        log.info("route.resolved", model=route.model, lane=lane)
        self._endpoints[known] = endpoint
        return endpoint
