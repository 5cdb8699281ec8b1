/** Every request of the page, one function each. All throw `Problem`. */

import type { ModelList, RecipeList, StartBody } from "./choices";
import {
  isLive,
  type BatchAnswer,
  type BatchPage,
  type BatchView,
  type BulkAnswer,
  type CommandAnswer,
  type EventPage,
  type Quality,
  type SamplePage,
  type State,
  type Statistics,
} from "./contract";
import { request, withQuery } from "./http";

/** The longest text that the server searches for, in characters. */
export const SEARCH_MOST = 200;

export interface HistoryQuestion {
  states?: readonly State[];
  text?: string;
  cursor?: string | null;
  limit?: number;
  /** Answer only once everything up to this sequence is folded. */
  minSequence?: number;
}

export function listBatches(
  question: HistoryQuestion,
  signal?: AbortSignal,
): Promise<BatchPage> {
  const path = withQuery("/v1/batches", {
    state: question.states,
    text: question.text,
    cursor: question.cursor,
    limit: question.limit,
    min_sequence: question.minSequence || null,
  });
  return request(path, { signal });
}

const batchPath = (id: string): string => `/v1/batches/${encodeURIComponent(id)}`;

export function getBatch(
  id: string,
  minSequence?: number,
  signal?: AbortSignal,
): Promise<BatchAnswer> {
  return request(withQuery(batchPath(id), { min_sequence: minSequence || null }), { signal });
}

/** The sequence that an answer about `batch` must have folded: all of it, once it has ended. */
function completeFor(batch: BatchView): number | null {
  return isLive(batch.state) ? null : batch.sequence;
}

export function getSamples(
  batch: BatchView,
  page: { cursor: string | null; limit: number; text: string },
  signal?: AbortSignal,
): Promise<SamplePage> {
  const parameters = { ...page, min_sequence: completeFor(batch) };
  return request(withQuery(`${batchPath(batch.id)}/samples`, parameters), { signal });
}

export function getEvents(
  batch: BatchView,
  page: { after: number; limit: number },
  signal?: AbortSignal,
): Promise<EventPage> {
  const parameters = { ...page, min_sequence: completeFor(batch) };
  return request(withQuery(`${batchPath(batch.id)}/events`, parameters), { signal });
}

export function getQuality(batch: BatchView, signal?: AbortSignal): Promise<Quality> {
  const parameters = { min_sequence: completeFor(batch) };
  return request(withQuery(`${batchPath(batch.id)}/quality`, parameters), { signal });
}

export function getStatistics(minSequence: number, signal?: AbortSignal): Promise<Statistics> {
  return request(withQuery("/v1/statistics", { min_sequence: minSequence || null }), { signal });
}

export function getRecipes(signal?: AbortSignal): Promise<RecipeList> {
  return request("/v1/recipes", { signal });
}

export function getModels(signal?: AbortSignal): Promise<ModelList> {
  return request("/v1/models", { signal });
}

/** Start a batch; the same `key` again gives the same batch, so a repeat is safe. */
export function startBatch(body: StartBody, key: string): Promise<CommandAnswer> {
  return request("/v1/batches", { method: "POST", body, headers: { "Idempotency-Key": key } });
}

export function stopBatch(id: string): Promise<CommandAnswer> {
  const body = { mode: "cancel", reason: "stopped on the page" };
  return request(`${batchPath(id)}/stop`, { method: "POST", body });
}

/** Stop exactly these batches; the answer tells each one's outcome. */
export function stopBatches(ids: readonly string[]): Promise<BulkAnswer> {
  const body = { action: "stop", ids, mode: "cancel", reason: "stopped on the page" };
  return request("/v1/batches:bulk", { method: "POST", body });
}
