"""Calls a route by its lane, and tells a batch once why that is litellm's."""

from millstream_generator.batch_notes import BatchNotes
from millstream_generator.completion import Completion, Progress, Prompt
from millstream_generator.gate import Gate
from millstream_generator.held import HeldBatch
from millstream_generator.node import Node
from millstream_schemas import subjects
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.notes import RouteNotDirect

MESSAGE_MOST = 500


async def complete(
    node: Node, batch: HeldBatch, gate: Gate, prompt: Prompt, progress: Progress
) -> Completion:
    """Return the whole answer of one streamed call; raises CallFailedError.

    The note stands in the log before the batch's first call of the route on this node.
    """
    route, key = gate.condition.route, gate.condition.key
    reason = await node.provider.detour(route)
    if reason and key not in batch.detours:
        batch.detours.add(key)
        await _tell(node, batch, gate, reason)
    return await node.provider.complete(route, prompt, progress)


async def _tell(node: Node, batch: HeldBatch, gate: Gate, reason: str) -> None:
    key = gate.condition.key

    def choose(notes: list[BatchEvent]) -> BatchEvent | None:
        if any(isinstance(note, RouteNotDirect) and note.route == key for note in notes):
            return None
        stamp = node.stamp(causation_id=batch.started_id)
        return RouteNotDirect(
            **stamp.envelope(batch.batch_id, subjects.note(batch.batch_id)),
            model=gate.condition.model,
            route=key,
            message=f"calls go through litellm: {reason}"[:MESSAGE_MOST],
        )

    await BatchNotes(node).write(batch, choose)
