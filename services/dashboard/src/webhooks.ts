/** Webhooks as the server tells of them: the mirror of `schemas/millstream_schemas/webhooks.py`. */

import { request } from "./http";

export const WEBHOOK_EVENTS = [
  "batch.completed",
  "batch.stopped",
  "batch.failed",
  "batch.stuck",
  "batch.unstuck",
  "batch.budget_warned",
  "batch.budget_reached",
] as const;

export interface Delivery {
  id: string;
  sequence: number;
  type: string;
  batch_id: string | null;
  state: "delivered" | "retrying" | "given_up";
  attempts: number;
  first_at: string;
  last_at: string;
  next_at: string | null;
  status: number | null;
  error: string;
  latency_ms: number;
}

export interface Webhook {
  id: string;
  url: string;
  events: string[];
  description: string;
  is_active: boolean;
  created_at: string;
  created_by: string;
  sequence: number;
  last: Delivery | null;
}

const PATH = "/v1/webhooks";
const pathOf = (id: string): string => `${PATH}/${encodeURIComponent(id)}`;

export function listWebhooks(signal?: AbortSignal): Promise<{ webhooks: Webhook[] }> {
  return request(PATH, { signal });
}

/** Add a webhook; the answer alone has its secret, also that to a repeat with the same `key`. */
export function addWebhook(
  body: { url: string; events: readonly string[]; description: string },
  key: string,
): Promise<{ webhook: Webhook; secret: string }> {
  return request(PATH, { method: "POST", body, headers: { "Idempotency-Key": key } });
}

export function switchWebhook(id: string, is_active: boolean): Promise<{ webhook: Webhook }> {
  return request(pathOf(id), { method: "PATCH", body: { is_active } });
}

export function removeWebhook(id: string): Promise<{ webhook: Webhook }> {
  return request(pathOf(id), { method: "DELETE" });
}

/** Send a ping now; the answer is what became of it. */
export function testWebhook(id: string): Promise<Delivery> {
  return request(`${pathOf(id)}/test`, { method: "POST" });
}

export function listDeliveries(
  id: string,
  signal?: AbortSignal,
): Promise<{ deliveries: Delivery[] }> {
  return request(`${pathOf(id)}/deliveries`, { signal });
}
