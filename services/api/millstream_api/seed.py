"""The seed's words: our views translated into the flat bodies under /api, pure functions.

Its page knows running, completed and stopped only: queued, paused and stopping show as running,
failed shows as stopped with its error listed.
"""

from datetime import datetime
from typing import Any

from millstream_schemas.views import FINAL_STATES, BatchView, Quality, SampleView, Statistics


def seed_status(view: BatchView) -> str:
    """Return running, completed or stopped."""
    if view.state not in FINAL_STATES:
        return "running"
    return "completed" if view.state == "completed" else "stopped"


def seed_errors(view: BatchView) -> list[dict[str, Any]]:
    """Return the batch's errors: why it failed, then the latest error of any attempt."""
    return [
        {"error": found.message, "category": found.category, "slot": found.slot}
        for found in dict.fromkeys(item for item in (view.error, view.last_error) if item)
    ]


def seed_time(time: datetime | None) -> str | None:
    """Return an ISO 8601 time with its offset, so that no browser takes it for local time."""
    return time.isoformat() if time else None


def seed_state(view: BatchView) -> dict[str, Any]:
    """Return what the SSE messages and /status say of one batch."""
    counts = view.counts
    return {
        "batch_id": view.id,
        "running": view.state not in FINAL_STATES,
        "status": seed_status(view),
        "progress": counts.generated,
        "total": view.target,
        "samples_generated": counts.generated,
        "samples_failed": counts.failed,
        "total_tokens": counts.tokens_in + counts.tokens_out,
        "current_sample": None,
        "current_provider": view.provider,
        "current_model": view.model,
        "started_at": seed_time(view.started_at),
        "completed_at": seed_time(view.finished_at),
        "errors": seed_errors(view),
        "topic_filter": view.topic,
        "difficulty_filter": view.difficulty,
        "sample_type": view.sample_type,
        "reasoning_instruction": view.instruction,
        "smart_mode": view.smart_mode,
        "model_switches": [],
        "provider_switches": [],
        "failed_models_by_provider": {},
        "tried_models_by_provider": {},
        "provider_failures": {},
        "available_providers": [view.provider],
        "consecutive_failures": 0,
        "skipped_topics": [],
        "circuit_breaker_summary": {},
        "stuck": view.stuck is not None,
    }


def seed_row(view: BatchView) -> dict[str, Any]:
    """Return one row of the history."""
    counts = view.counts
    row: dict[str, Any] = {
        "id": view.id,
        "started_at": seed_time(view.started_at),
        "completed_at": seed_time(view.finished_at),
        "model": view.model,
        "provider": view.provider,
        "topic_filter": view.topic,
        "difficulty_filter": view.difficulty,
        "reasoning_instruction": view.instruction,
        "target": view.target,
        "samples_generated": counts.generated,
        "tokens_used": counts.tokens_in + counts.tokens_out,
        "status": seed_status(view),
        "errors": seed_errors(view),
        "model_switches": [],
    }
    if view.state not in FINAL_STATES:
        row |= {"provider_switches": [], "progress": counts.generated, "current_sample": None}
    return row


def seed_stuck(view: BatchView, now: datetime) -> dict[str, Any]:
    """Return one stuck batch; ``elapsed_minutes`` counts from its start."""
    minutes = (now - view.started_at).total_seconds() / 60
    return {
        "batch_id": view.id,
        "model": view.model,
        "started_at": seed_time(view.started_at),
        "elapsed_minutes": round(max(0.0, minutes), 1),
        "samples_generated": view.counts.generated,
        "target": view.target,
        "reason": view.stuck.cause if view.stuck else None,
    }


def seed_sample(view: SampleView) -> dict[str, Any]:
    """Return one sample; the recipe's own fields stand beside the fixed ones."""
    content = view.content
    return {
        **content,
        "id": view.id,
        "question": content.get("question") or content.get("instruction") or "",
        "answer": content.get("answer") or content.get("response") or content.get("output") or "",
        "topic": f"{view.area} - {view.topic}",
        "difficulty": view.difficulty,
        "case_citation": content.get("case_citation") or "",
        "reasoning": content.get("reasoning") or "",
        "jurisdiction": content.get("jurisdiction") or "",
        "batch_id": view.batch_id,
        "sample_type": view.sample_type,
        "created_at": seed_time(view.created_at),
        "updated_at": seed_time(view.created_at),
    }


def seed_statistics(found: Statistics) -> dict[str, Any]:
    """Return the dataset in numbers; lengths are text with two decimals there."""
    return {
        "total": found.total,
        "difficulty_distribution": [
            {"difficulty": tally.name, "count": tally.count} for tally in found.difficulties
        ],
        "top_topics": [{"topic": tally.name, "count": tally.count} for tally in found.topics[:10]],
        "unique_topics": found.unique_topics,
        "avg_lengths": {name: f"{length:.2f}" for name, length in found.average_lengths.items()},
    }


def seed_quality(found: Quality) -> dict[str, Any]:
    """Return a batch's quality report; its rating comes from what validation refused."""
    lengths = found.average_lengths
    tried = found.total_samples + found.rejected + found.failed
    issues = []
    if not found.total_samples:
        issues.append("no sample was accepted")
    if found.rejected:
        issues.append(f"{found.rejected} of {tried} answers were refused by validation")
    if found.failed:
        issues.append(f"{found.failed} samples failed after all their attempts")
    lost = found.rejected + found.failed
    rating = "Good" if found.total_samples and lost <= tried * 0.1 else "Needs review"
    return {
        "success": True,
        "batch_id": found.batch_id,
        "metrics": {
            "total_samples": found.total_samples,
            "total_tokens": found.total_tokens,
            "avg_tokens_per_sample": round(found.average_tokens, 1),
            "avg_answer_length": round(lengths.get("answer", 0.0), 1),
            "avg_reasoning_length": round(lengths.get("reasoning", 0.0), 1),
            "avg_citation_length": round(lengths.get("case_citation", 0.0), 1),
        },
        "distributions": {
            "difficulty": found.difficulties,
            "topics": found.topics,
            "sample_types": found.sample_types,
            "jurisdictions": {},
        },
        "quality_score": {"rating": rating, "issues": issues},
    }
