"""The async client. Generated from the routes by `just docs`: change those instead."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal

from millstream.client.async_requests import AsyncRequests
from millstream.client.requests import ApiRequest, segment
from millstream_schemas.analysis import Figures, SearchPage, SlotAttempts, Timeline
from millstream_schemas.answers import (
    About,
    BulkAnswer,
    CommandAnswer,
    LargestCall,
    ModelList,
    NodeList,
    RecipeList,
    RouteList,
)
from millstream_schemas.audit import CheckpointPage, Digests
from millstream_schemas.commands import (
    BulkCommand,
    CloneBatch,
    PauseBatch,
    RefillBatch,
    ResumeBatch,
    SetPriority,
    StartBatch,
    StopBatch,
)
from millstream_schemas.exports import DatasetCard
from millstream_schemas.lanes import Lanes
from millstream_schemas.refusals import RefusalPage
from millstream_schemas.views import (
    BatchAnswer,
    BatchPage,
    EventPage,
    Quality,
    SamplePage,
    Statistics,
    StuckAnswer,
)
from millstream_schemas.webhooks import (
    AddWebhook,
    ChangeWebhook,
    Delivery,
    DeliveryList,
    ReplayWebhook,
    WebhookAnswer,
    WebhookList,
    WebhookSecret,
)


class AsyncClient(AsyncRequests):
    """A method for each route of /v1; see `AsyncRequests` for how to make one.

    Every method raises ApiError when the server refuses and UnreachableError when it
    gives no answer.
    """

    async def start_batch(
        self, command: StartBatch, *, idempotency_key: str | None = None
    ) -> CommandAnswer:
        """Start a batch."""
        return await self._ask(
            CommandAnswer,
            ApiRequest(
                "POST", "/v1/batches", body=command, headers={"Idempotency-Key": idempotency_key}
            ),
        )

    async def list_batches(
        self,
        *,
        state: Sequence[
            Literal["queued", "running", "paused", "stopping", "stopped", "completed", "failed"]
        ] = (),
        model: str | None = None,
        recipe: str | None = None,
        topic: str | None = None,
        text: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        sort: Literal[
            "-started",
            "started",
            "-finished",
            "finished",
            "-progress",
            "progress",
            "-cost",
            "cost",
            "-samples",
            "samples",
        ] = "-started",
        cursor: str | None = None,
        limit: int = 50,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> BatchPage:
        """Return batches, newest first unless sorted otherwise, with counts per value of the filters.

        A cursor belongs to its sort; text is looked for in id, model, recipe and topic.
        """
        return await self._ask(
            BatchPage,
            ApiRequest(
                "GET",
                "/v1/batches",
                query={
                    "state": state,
                    "model": model,
                    "recipe": recipe,
                    "topic": topic,
                    "text": text,
                    "started_after": started_after,
                    "started_before": started_before,
                    "sort": sort,
                    "cursor": cursor,
                    "limit": limit,
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                },
            ),
        )

    async def command_batches(
        self, command: BulkCommand, *, idempotency_key: str | None = None
    ) -> BulkAnswer:
        """Do the same to many batches; the answer tells each one's outcome."""
        return await self._ask(
            BulkAnswer,
            ApiRequest(
                "POST",
                "/v1/batches:bulk",
                body=command,
                headers={"Idempotency-Key": idempotency_key},
            ),
        )

    async def stop_batch(
        self,
        batch_id: str,
        command: StopBatch | None = None,
        *,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> CommandAnswer:
        """Stop a batch: no call starts after this; its end follows within half a second.

        A draining stop lets calls in flight finish for `grace_s`; a cancelling one, which takes
        none, may follow it.
        """
        return await self._ask(
            CommandAnswer,
            ApiRequest(
                "POST",
                f"/v1/batches/{segment(batch_id)}/stop",
                body=command,
                headers={"Idempotency-Key": idempotency_key, "If-Match": if_match},
            ),
        )

    async def pause_batch(
        self,
        batch_id: str,
        command: PauseBatch | None = None,
        *,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> CommandAnswer:
        """Start no new call until the batch is resumed; calls in flight finish."""
        return await self._ask(
            CommandAnswer,
            ApiRequest(
                "POST",
                f"/v1/batches/{segment(batch_id)}/pause",
                body=command,
                headers={"Idempotency-Key": idempotency_key, "If-Match": if_match},
            ),
        )

    async def resume_batch(
        self,
        batch_id: str,
        command: ResumeBatch | None = None,
        *,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> CommandAnswer:
        """Let a paused batch go on."""
        return await self._ask(
            CommandAnswer,
            ApiRequest(
                "POST",
                f"/v1/batches/{segment(batch_id)}/resume",
                body=command,
                headers={"Idempotency-Key": idempotency_key, "If-Match": if_match},
            ),
        )

    async def change_batch(
        self,
        batch_id: str,
        command: SetPriority,
        *,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> CommandAnswer:
        """Let the slices that are queued from now on wait in another line."""
        return await self._ask(
            CommandAnswer,
            ApiRequest(
                "PATCH",
                f"/v1/batches/{segment(batch_id)}",
                body=command,
                headers={"Idempotency-Key": idempotency_key, "If-Match": if_match},
            ),
        )

    async def get_batch(
        self,
        batch_id: str,
        *,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> BatchAnswer:
        """Return one batch; its ETag is what If-Match takes."""
        return await self._ask(
            BatchAnswer,
            ApiRequest(
                "GET",
                f"/v1/batches/{segment(batch_id)}",
                query={"min_sequence": min_sequence, "at_seq": at_seq, "at_time": at_time},
            ),
        )

    async def retry_failed(
        self,
        batch_id: str,
        command: RefillBatch | None = None,
        *,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> CommandAnswer:
        """Start a child of the same dataset that makes exactly the samples that failed."""
        return await self._ask(
            CommandAnswer,
            ApiRequest(
                "POST",
                f"/v1/batches/{segment(batch_id)}/retry-failed",
                body=command,
                headers={"Idempotency-Key": idempotency_key, "If-Match": if_match},
            ),
        )

    async def continue_batch(
        self,
        batch_id: str,
        command: RefillBatch | None = None,
        *,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> CommandAnswer:
        """Start a child of the same dataset that makes every sample the batch did not."""
        return await self._ask(
            CommandAnswer,
            ApiRequest(
                "POST",
                f"/v1/batches/{segment(batch_id)}/continue",
                body=command,
                headers={"Idempotency-Key": idempotency_key, "If-Match": if_match},
            ),
        )

    async def clone_batch(
        self,
        batch_id: str,
        command: CloneBatch | None = None,
        *,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> CommandAnswer:
        """Start a batch like this one, as a dataset of its own."""
        return await self._ask(
            CommandAnswer,
            ApiRequest(
                "POST",
                f"/v1/batches/{segment(batch_id)}/clone",
                body=command,
                headers={"Idempotency-Key": idempotency_key, "If-Match": if_match},
            ),
        )

    async def get_figures(
        self,
        batch_id: str,
        *,
        errors: int = 20,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> Figures:
        """Return a batch's rates, time to its end, cost, latencies and errors in groups."""
        return await self._ask(
            Figures,
            ApiRequest(
                "GET",
                f"/v1/batches/{segment(batch_id)}/figures",
                query={
                    "errors": errors,
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                },
            ),
        )

    async def list_batch_samples(
        self,
        batch_id: str,
        *,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
        text: str | None = None,
        topic: str | None = None,
        difficulty: str | None = None,
        sample_type: str | None = None,
        model: str | None = None,
        sort: Literal["stored", "-stored"] = "stored",
        facets: bool = False,
        cursor: str | None = None,
        limit: int = 50,
    ) -> SamplePage:
        """Return a batch's accepted samples, in stream order unless sorted otherwise."""
        return await self._ask(
            SamplePage,
            ApiRequest(
                "GET",
                f"/v1/batches/{segment(batch_id)}/samples",
                query={
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                    "text": text,
                    "topic": topic,
                    "difficulty": difficulty,
                    "sample_type": sample_type,
                    "model": model,
                    "sort": sort,
                    "facets": facets,
                    "cursor": cursor,
                    "limit": limit,
                },
            ),
        )

    async def list_samples(
        self,
        *,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
        text: str | None = None,
        topic: str | None = None,
        difficulty: str | None = None,
        sample_type: str | None = None,
        model: str | None = None,
        sort: Literal["stored", "-stored"] = "stored",
        facets: bool = False,
        cursor: str | None = None,
        limit: int = 50,
    ) -> SamplePage:
        """Return the accepted samples of all batches, in stream order unless sorted otherwise."""
        return await self._ask(
            SamplePage,
            ApiRequest(
                "GET",
                "/v1/samples",
                query={
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                    "text": text,
                    "topic": topic,
                    "difficulty": difficulty,
                    "sample_type": sample_type,
                    "model": model,
                    "sort": sort,
                    "facets": facets,
                    "cursor": cursor,
                    "limit": limit,
                },
            ),
        )

    async def search_samples(
        self,
        *,
        text: str,
        topic: str | None = None,
        difficulty: str | None = None,
        sample_type: str | None = None,
        model: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> SearchPage:
        """Go one step on with a search in all samples, the latest first.

        A step takes a quarter of a second and tells how far the search is; ask with its
        `next_cursor` until that is null, or stop asking, which ends the search.
        """
        return await self._ask(
            SearchPage,
            ApiRequest(
                "GET",
                "/v1/samples/search",
                query={
                    "text": text,
                    "topic": topic,
                    "difficulty": difficulty,
                    "sample_type": sample_type,
                    "model": model,
                    "cursor": cursor,
                    "limit": limit,
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                },
            ),
        )

    async def get_slot(
        self,
        batch_id: str,
        slot: int,
        *,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> SlotAttempts:
        """Return every attempt of a slot in order, and why its sample exists or why it has none."""
        return await self._ask(
            SlotAttempts,
            ApiRequest(
                "GET",
                f"/v1/batches/{segment(batch_id)}/slots/{segment(slot)}",
                query={"min_sequence": min_sequence, "at_seq": at_seq, "at_time": at_time},
            ),
        )

    async def list_events(
        self,
        batch_id: str,
        *,
        after: int = 0,
        kind: Literal["control", "note"] | None = None,
        type: Sequence[
            Literal[
                "batch.started.v1",
                "batch.paused.v1",
                "batch.resumed.v1",
                "batch.priority_changed.v1",
                "batch.stop_requested.v1",
                "batch.stopped.v1",
                "batch.completed.v1",
                "batch.failed.v1",
                "slice.claimed.v1",
                "slice.released.v1",
                "slice.slot_on_trial.v1",
                "slice.calls_announced.v1",
                "sample.generated.v1",
                "sample.attempt_failed.v1",
                "sample.rejected.v1",
                "sample.failed.v1",
                "sample.abandoned.v1",
                "slice.closed.v1",
                "batch.stuck_detected.v1",
                "batch.stuck_cleared.v1",
                "batch.budget_warned.v1",
                "route.throttled.v1",
                "route.blocked.v1",
                "route.recovered.v1",
                "route.not_direct.v1",
                "batch.child_started.v1",
                "sample.redacted.v1",
            ]
        ] = (),
        limit: int = 100,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> EventPage:
        """Return a batch's events after a sequence, in stream order.

        A page of some types ends after a quarter of a second too, so one with few events or none need
        not be the last: ask with its `next_cursor` as `after` until that is null.
        """
        return await self._ask(
            EventPage,
            ApiRequest(
                "GET",
                f"/v1/batches/{segment(batch_id)}/events",
                query={
                    "after": after,
                    "kind": kind,
                    "type": type,
                    "limit": limit,
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                },
            ),
        )

    async def get_lanes(
        self,
        batch_id: str,
        *,
        by: Literal["node", "model"] = "node",
        limit: int = 40,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> Lanes:
        """Return who worked on a batch when: its events, counted by kind along time."""
        return await self._ask(
            Lanes,
            ApiRequest(
                "GET",
                f"/v1/batches/{segment(batch_id)}/lanes",
                query={
                    "by": by,
                    "limit": limit,
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                },
            ),
        )

    async def get_quality(
        self,
        batch_id: str,
        *,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> Quality:
        """Return how a batch's samples look."""
        return await self._ask(
            Quality,
            ApiRequest(
                "GET",
                f"/v1/batches/{segment(batch_id)}/quality",
                query={"min_sequence": min_sequence, "at_seq": at_seq, "at_time": at_time},
            ),
        )

    async def get_about(self) -> About:
        """Return which version answers, of which event stream, and how far it has read that."""
        return await self._ask(About, ApiRequest("GET", "/v1/about"))

    async def list_recipes(self) -> RecipeList:
        """Return the recipes with what can be chosen in each."""
        return await self._ask(RecipeList, ApiRequest("GET", "/v1/recipes"))

    async def get_largest_call(
        self,
        recipe: str,
        *,
        model: str | None = None,
        provider: str | None = None,
        topic: str | None = None,
        difficulty: str | None = None,
        sample_type: str | None = None,
        instruction: str | None = None,
    ) -> LargestCall:
        """Return the most that one call of a batch may use: a smaller budget of it is refused."""
        return await self._ask(
            LargestCall,
            ApiRequest(
                "GET",
                f"/v1/recipes/{segment(recipe)}/largest-call",
                query={
                    "model": model,
                    "provider": provider,
                    "topic": topic,
                    "difficulty": difficulty,
                    "sample_type": sample_type,
                    "instruction": instruction,
                },
            ),
        )

    async def list_models(self) -> ModelList:
        """Return the named models; any `provider/model` of a known provider can be started too."""
        return await self._ask(ModelList, ApiRequest("GET", "/v1/models"))

    async def list_nodes(self) -> NodeList:
        """Return the processes that live: their services, alarms, last beats and lags."""
        return await self._ask(NodeList, ApiRequest("GET", "/v1/nodes"))

    async def list_routes(self) -> RouteList:
        """Return how the routes to models do: limits, trouble, calls in flight and in line."""
        return await self._ask(RouteList, ApiRequest("GET", "/v1/routes"))

    async def get_statistics(
        self, *, min_sequence: int = 0, at_seq: int | None = None, at_time: str | None = None
    ) -> Statistics:
        """Return the whole dataset in numbers."""
        return await self._ask(
            Statistics,
            ApiRequest(
                "GET",
                "/v1/statistics",
                query={"min_sequence": min_sequence, "at_seq": at_seq, "at_time": at_time},
            ),
        )

    async def get_timeline(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        bucket: Literal["auto", "second", "minute", "hour", "day"] = "auto",
        by: Literal["model", "provider"] = "model",
        model: str | None = None,
        provider: str | None = None,
        batch_id: str | None = None,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> Timeline:
        """Return what each model of each provider, or each provider, did in each second to day."""
        return await self._ask(
            Timeline,
            ApiRequest(
                "GET",
                "/v1/statistics/timeline",
                query={
                    "start": start,
                    "end": end,
                    "bucket": bucket,
                    "by": by,
                    "model": model,
                    "provider": provider,
                    "batch_id": batch_id,
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                },
            ),
        )

    async def list_stuck(
        self, *, min_sequence: int = 0, at_seq: int | None = None, at_time: str | None = None
    ) -> StuckAnswer:
        """Return the batches that make no progress and why; reading it changes nothing."""
        return await self._ask(
            StuckAnswer,
            ApiRequest(
                "GET",
                "/v1/stuck",
                query={"min_sequence": min_sequence, "at_seq": at_seq, "at_time": at_time},
            ),
        )

    async def list_checkpoints(self, *, cursor: int = 0, limit: int = 100) -> CheckpointPage:
        """Return the sealed roots of the hash chain, oldest first, and a projector's alarm."""
        return await self._ask(
            CheckpointPage,
            ApiRequest("GET", "/v1/audit/checkpoints", query={"cursor": cursor, "limit": limit}),
        )

    async def get_digests(self, *, min_sequence: int = 0) -> Digests:
        """Return the chain's root and the digests of one projector's tables, as of one moment.

        It reads every row: seconds for a million samples. Two projectors at the same `as_of` agree.
        """
        return await self._ask(
            Digests, ApiRequest("GET", "/v1/audit/digests", query={"min_sequence": min_sequence})
        )

    async def list_refusals(
        self, *, cursor: int = 0, limit: int = 100, batch_id: str | None = None
    ) -> RefusalPage:
        """Return the commands that were refused, oldest first: who asked, from where, and why not.

        The same refusal of a client that repeats itself is told once in ten seconds, and counted.
        """
        return await self._ask(
            RefusalPage,
            ApiRequest(
                "GET",
                "/v1/audit/refusals",
                query={"cursor": cursor, "limit": limit, "batch_id": batch_id},
            ),
        )

    def export(
        self, *, batch_id: str | None = None, at_seq: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream the raw events as JSON lines; the last line is the manifest.

        An answer without a manifest was cut off. `millstream audit import` takes a whole one.
        """
        return self._pieces(
            ApiRequest("GET", "/v1/audit/export", query={"batch_id": batch_id, "at_seq": at_seq})
        )

    def export_batch(
        self,
        batch_id: str,
        *,
        format: Literal["parquet", "jsonl", "hf"] = "parquet",
        since: int = 0,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream the samples of one batch; an answer that ends early was cut off."""
        return self._pieces(
            ApiRequest(
                "GET",
                f"/v1/batches/{segment(batch_id)}/export",
                query={
                    "format": format,
                    "since": since,
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                },
            )
        )

    def export_dataset(
        self,
        dataset_id: str,
        *,
        format: Literal["parquet", "jsonl", "hf"] = "parquet",
        since: int = 0,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream the samples of a batch and its children; an answer that ends early was cut off."""
        return self._pieces(
            ApiRequest(
                "GET",
                f"/v1/datasets/{segment(dataset_id)}/export",
                query={
                    "format": format,
                    "since": since,
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                },
            )
        )

    async def get_batch_card(
        self,
        batch_id: str,
        *,
        since: int = 0,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> DatasetCard:
        """Return what an export of the batch holds; it takes as long as the export itself."""
        return await self._ask(
            DatasetCard,
            ApiRequest(
                "GET",
                f"/v1/batches/{segment(batch_id)}/card",
                query={
                    "since": since,
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                },
            ),
        )

    async def get_dataset_card(
        self,
        dataset_id: str,
        *,
        since: int = 0,
        min_sequence: int = 0,
        at_seq: int | None = None,
        at_time: str | None = None,
    ) -> DatasetCard:
        """Return what an export of the dataset holds; it takes as long as the export itself."""
        return await self._ask(
            DatasetCard,
            ApiRequest(
                "GET",
                f"/v1/datasets/{segment(dataset_id)}/card",
                query={
                    "since": since,
                    "min_sequence": min_sequence,
                    "at_seq": at_seq,
                    "at_time": at_time,
                },
            ),
        )

    async def add_webhook(
        self, command: AddWebhook, *, idempotency_key: str | None = None
    ) -> WebhookSecret:
        """Tell an address of batches' turns from now on; the secret is shown in this answer alone."""
        return await self._ask(
            WebhookSecret,
            ApiRequest(
                "POST", "/v1/webhooks", body=command, headers={"Idempotency-Key": idempotency_key}
            ),
        )

    async def list_webhooks(self) -> WebhookList:
        """Return all webhooks, oldest first."""
        return await self._ask(WebhookList, ApiRequest("GET", "/v1/webhooks"))

    async def get_webhook(self, webhook_id: str) -> WebhookAnswer:
        """Return a webhook and its last delivery."""
        return await self._ask(
            WebhookAnswer, ApiRequest("GET", f"/v1/webhooks/{segment(webhook_id)}")
        )

    async def change_webhook(self, webhook_id: str, command: ChangeWebhook) -> WebhookAnswer:
        """Change a webhook's address, events or words, or switch it off and on."""
        return await self._ask(
            WebhookAnswer, ApiRequest("PATCH", f"/v1/webhooks/{segment(webhook_id)}", body=command)
        )

    async def remove_webhook(self, webhook_id: str) -> WebhookAnswer:
        """Remove a webhook and its history; the answer is what it was."""
        return await self._ask(
            WebhookAnswer, ApiRequest("DELETE", f"/v1/webhooks/{segment(webhook_id)}")
        )

    async def list_deliveries(self, webhook_id: str) -> DeliveryList:
        """Return the latest 50 deliveries, newest first."""
        return await self._ask(
            DeliveryList, ApiRequest("GET", f"/v1/webhooks/{segment(webhook_id)}/deliveries")
        )

    async def replay_webhook(self, webhook_id: str, command: ReplayWebhook) -> WebhookAnswer:
        """Deliver once more what happened after a place in the log, under the same ids."""
        return await self._ask(
            WebhookAnswer,
            ApiRequest("POST", f"/v1/webhooks/{segment(webhook_id)}/replay", body=command),
        )

    async def rotate_webhook(
        self, webhook_id: str, *, idempotency_key: str | None = None
    ) -> WebhookSecret:
        """Give a webhook a new secret; for a day deliveries are signed with the former one too."""
        return await self._ask(
            WebhookSecret,
            ApiRequest(
                "POST",
                f"/v1/webhooks/{segment(webhook_id)}/rotate",
                headers={"Idempotency-Key": idempotency_key},
            ),
        )

    async def test_webhook(self, webhook_id: str) -> Delivery:
        """Send a message of type `ping` at once and return what became of it."""
        return await self._ask(
            Delivery, ApiRequest("POST", f"/v1/webhooks/{segment(webhook_id)}/test")
        )
