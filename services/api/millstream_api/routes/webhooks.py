"""/v1/webhooks: who is told of batches' turns; admins alone may ask."""

from fastapi import APIRouter
from starlette.responses import Response

from millstream_api.answers import model_answer
from millstream_api.context import Asker, Parts
from millstream_api.routes.asking import AskedNew
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

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


@router.post(
    "",
    status_code=201,
    response_model=WebhookSecret,
    responses={200: {"model": WebhookSecret, "description": "The key's webhook existed already."}},
)
async def add_webhook(command: AddWebhook, parts: Parts, asked: AskedNew) -> Response:
    """Tell an address of batches' turns from now on; the secret is shown in this answer alone."""
    view, secret, is_new = await parts.webhooks.add(command, asked)
    return model_answer(WebhookSecret(webhook=view, secret=secret), 201 if is_new else 200)


@router.get("", response_model=WebhookList)
async def list_webhooks(parts: Parts) -> Response:
    """Return all webhooks, oldest first."""
    return model_answer(WebhookList(webhooks=await parts.webhooks.all()))


@router.get("/{webhook_id}", response_model=WebhookAnswer)
async def get_webhook(webhook_id: str, parts: Parts) -> Response:
    """Return a webhook and its last delivery."""
    return model_answer(WebhookAnswer(webhook=await parts.webhooks.get(webhook_id)))


@router.patch("/{webhook_id}", response_model=WebhookAnswer)
async def change_webhook(
    webhook_id: str, command: ChangeWebhook, parts: Parts, actor: Asker
) -> Response:
    """Change a webhook's address, events or words, or switch it off and on."""
    view = await parts.webhooks.change(webhook_id, command, actor)
    return model_answer(WebhookAnswer(webhook=view))


@router.delete("/{webhook_id}", response_model=WebhookAnswer)
async def remove_webhook(webhook_id: str, parts: Parts, actor: Asker) -> Response:
    """Remove a webhook and its history; the answer is what it was."""
    view = await parts.webhooks.remove(webhook_id, actor)
    return model_answer(WebhookAnswer(webhook=view))


@router.get("/{webhook_id}/deliveries", response_model=DeliveryList)
async def list_deliveries(webhook_id: str, parts: Parts) -> Response:
    """Return the latest 50 deliveries, newest first."""
    return model_answer(DeliveryList(deliveries=await parts.webhooks.deliveries(webhook_id)))


@router.post("/{webhook_id}/replay", response_model=WebhookAnswer)
async def replay_webhook(
    webhook_id: str, command: ReplayWebhook, parts: Parts, actor: Asker
) -> Response:
    """Deliver once more what happened after a place in the log, under the same ids."""
    view = await parts.webhooks.replay(webhook_id, command, actor)
    return model_answer(WebhookAnswer(webhook=view))


@router.post("/{webhook_id}/rotate", response_model=WebhookSecret)
async def rotate_webhook(webhook_id: str, parts: Parts, asked: AskedNew) -> Response:
    """Give a webhook a new secret; for a day deliveries are signed with the former one too."""
    view, secret = await parts.webhooks.rotate(webhook_id, asked)
    return model_answer(WebhookSecret(webhook=view, secret=secret))


@router.post("/{webhook_id}/test", response_model=Delivery)
async def test_webhook(webhook_id: str, parts: Parts) -> Response:
    """Send a message of type `ping` at once and return what became of it."""
    return model_answer(await parts.webhooks.ping(webhook_id))
