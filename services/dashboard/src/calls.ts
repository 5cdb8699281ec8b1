/** Every request of the page, one function each. All throw `Problem`. */

import type {
  About,
  Figures,
  NodeList,
  Quality,
  RouteList,
  SearchPage,
  SlotAttempts,
  Timeline,
} from "./analysis";
import type { ModelList, RecipeList, StartBody } from "./choices";
import {
  isLive,
  type BatchAnswer,
  type BatchPage,
  type BatchView,
  type BulkAnswer,
  type CommandAnswer,
  type EventPage,
  type RefusalPage,
  type SamplePage,
  type SampleView,
  type State,
  type Statistics,
} from "./contract";
import { request, withQuery } from "./http";
import type { Lanes, LanesBy } from "./lanes";
import { clock } from "./live/clock";
import type { Split } from "./series";

/** The longest text that the server searches for, in characters. */
export const SEARCH_MOST = 200;

/** As of when an answer must be true: a sequence of the past, or null for the present. */
type At = number | null;

export interface HistoryFilter {
  states?: readonly State[];
  text?: string;
  model?: string;
  recipe?: string;
  topic?: string;
  sort?: string;
}

export interface HistoryQuestion extends HistoryFilter {
  cursor?: string | null;
  limit?: number;
  /** Answer only once everything up to this sequence is folded. */
  minSequence?: number;
  at?: At;
}

export function listBatches(
  question: HistoryQuestion,
  signal?: AbortSignal,
  limit?: number,
): Promise<BatchPage> {
  const { states, minSequence, at, ...others } = question;
  const path = withQuery("/v1/batches", {
    state: states,
    ...others,
    ...moment(minSequence || null, at ?? null),
  });
  return request(path, { signal, limit });
}

/** Whether the server lives; needs nothing behind it. */
export function getHealth(): Promise<{ page: string | null }> {
  return request("/healthz");
}

/** The past needs no waiting: what is to be read there was folded long ago. */
function moment(minSequence: number | null, at: At): Record<string, number | null> {
  return at === null ? { min_sequence: minSequence } : { at_seq: at };
}

const batchPath = (id: string): string => `/v1/batches/${encodeURIComponent(id)}`;

export function getBatch(
  id: string,
  minSequence?: number,
  signal?: AbortSignal,
  at: At = null,
): Promise<BatchAnswer> {
  return request(withQuery(batchPath(id), moment(minSequence || null, at)), { signal });
}

/**
 * The sequence that an answer about `batch` must have folded: all of it, once it has ended, and
 * until then its last command, for a read model may not have heard yet of a batch just started.
 */
function completeFor(
  batch: Pick<BatchView, "state" | "sequence" | "version">,
  at: At,
): Record<string, number | null> {
  return moment(isLive(batch.state) ? batch.version : batch.sequence, at);
}

export function getFigures(batch: BatchView, at: At, signal?: AbortSignal): Promise<Figures> {
  const parameters = { errors: 100, ...completeFor(batch, at) };
  return request(withQuery(`${batchPath(batch.id)}/figures`, parameters), { signal });
}

export interface SampleFilter {
  text: string;
  topic: string;
  difficulty: string;
  sample_type: string;
  model: string;
  sort: string;
}

/** Samples of a batch, or of all where it is null. */
export function getSamples(
  batch: BatchView | null,
  page: SampleFilter & { cursor: string | null; limit: number; facets: boolean },
  at: At,
  signal?: AbortSignal,
): Promise<SamplePage> {
  const path = batch ? `${batchPath(batch.id)}/samples` : "/v1/samples";
  const complete = batch ? completeFor(batch, at) : moment(null, at);
  return request(withQuery(path, { ...page, ...complete }), { signal });
}

/** Go one step on with a search through the samples of all batches, the latest first. */
export function searchSamples(
  step: Omit<SampleFilter, "sort"> & { cursor: string | null; limit: number },
  at: At,
  signal?: AbortSignal,
): Promise<SearchPage> {
  return request(withQuery("/v1/samples/search", { ...step, ...moment(null, at) }), { signal });
}

/** The sample with this id (`<batch>-<slot>`), or null where its slot has none. */
export async function getSample(
  id: string,
  at: At,
  signal?: AbortSignal,
): Promise<SampleView | null> {
  const [, batch, slot] = /^(.+)-(\d{1,10})$/.exec(id) ?? [];
  if (batch === undefined) return null;
  const path = withQuery(`${batchPath(batch)}/slots/${slot}`, moment(null, at));
  return (await request<SlotAttempts>(path, { signal })).sample;
}

export function getSlot(
  batch: BatchView,
  slot: number,
  at: At,
  signal?: AbortSignal,
): Promise<SlotAttempts> {
  const path = `${batchPath(batch.id)}/slots/${slot}`;
  return request(withQuery(path, completeFor(batch, at)), { signal });
}

export function getEvents(
  batch: Pick<BatchView, "id" | "state" | "sequence" | "version">,
  page: { after: number; limit: number; kind?: "control" | "note"; type?: readonly string[] },
  at: At,
  signal?: AbortSignal,
): Promise<EventPage> {
  const parameters = { ...page, ...completeFor(batch, at) };
  return request(withQuery(`${batchPath(batch.id)}/events`, parameters), { signal });
}

export function getLanes(
  batch: BatchView,
  question: { by: LanesBy; limit: number },
  at: At,
  signal?: AbortSignal,
): Promise<Lanes> {
  const parameters = { ...question, ...completeFor(batch, at) };
  return request(withQuery(`${batchPath(batch.id)}/lanes`, parameters), { signal });
}

export function getQuality(batch: BatchView, at: At, signal?: AbortSignal): Promise<Quality> {
  return request(withQuery(`${batchPath(batch.id)}/quality`, completeFor(batch, at)), { signal });
}

export const REFUSALS_MOST = 500;

/** Commands about a batch that were refused, oldest first. */
export function getRefusals(batchId: string, signal?: AbortSignal): Promise<RefusalPage> {
  return request(withQuery("/v1/audit/refusals", { batch_id: batchId, limit: REFUSALS_MOST }), { signal });
}

/** Where the samples of a batch, or of a dataset, can be had as one file. */
export function exportAddress(of: "batches" | "datasets", id: string, format: string): string {
  return withQuery(`/v1/${of}/${encodeURIComponent(id)}/export`, { format });
}

/** Where a batch's events up to a sequence can be had as one file; null: all of them. */
export function logAddress(id: string, at: At): string {
  return withQuery("/v1/audit/export", { batch_id: id, at_seq: at });
}

export function getStatistics(
  minSequence: number,
  at: At,
  signal?: AbortSignal,
): Promise<Statistics> {
  return request(withQuery("/v1/statistics", moment(minSequence || null, at)), { signal });
}

export function getTimeline(
  question: {
    start: string | null;
    end?: string;
    model: string;
    bucket: string;
    by?: Split;
    batch_id?: string;
  },
  signal?: AbortSignal,
  at: At = null,
): Promise<Timeline> {
  const parameters = { ...question, ...moment(null, at) };
  return request(withQuery("/v1/statistics/timeline", parameters), { signal });
}

export function getAbout(signal?: AbortSignal): Promise<About> {
  return request("/v1/about", { signal });
}

/** The server's time now, in milliseconds since 1970; asked for where nothing has told it yet. */
export async function serverNow(signal?: AbortSignal): Promise<number> {
  if (clock.told() === null) await getAbout(signal);
  return clock.now();
}

export function getNodes(signal?: AbortSignal): Promise<NodeList> {
  return request("/v1/nodes", { signal });
}

export function getRoutes(signal?: AbortSignal): Promise<RouteList> {
  return request("/v1/routes", { signal });
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

export type CommandName = "stop" | "pause" | "resume" | "retry-failed" | "continue" | "clone";

/** Ask something of one batch; the same `key` again does nothing more. */
export function commandBatch(
  id: string,
  command: CommandName,
  body: Record<string, unknown>,
  key: string,
): Promise<CommandAnswer> {
  const headers = { "Idempotency-Key": key };
  return request(`${batchPath(id)}/${command}`, { method: "POST", body, headers });
}

export function setPriority(id: string, priority: string): Promise<CommandAnswer> {
  return request(batchPath(id), { method: "PATCH", body: { priority } });
}

/** Which batches a command is for: exactly these, or all that a filter leaves. */
export type Those = { ids: readonly string[] } | { filter: HistoryFilter };

/** Do the same to many batches; the answer tells each one's outcome. */
export function commandBatches(
  action: string,
  those: Those,
  options: { priority?: string | undefined; isRehearsal?: boolean } = {},
): Promise<BulkAnswer> {
  const { priority, isRehearsal = false } = options;
  const body = {
    action,
    ...("ids" in those ? those : { filter: bulkFilter(those.filter) }),
    ...(action === "stop" ? { mode: "cancel" } : {}),
    ...(priority === undefined ? {} : { priority }),
    reason: reasonOf(action),
    dry_run: isRehearsal,
  };
  return request("/v1/batches:bulk", { method: "POST", body });
}

function bulkFilter({ states, text, model, recipe }: HistoryFilter): Record<string, unknown> {
  const given = { text, model, recipe };
  return { states, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value)) };
}

function reasonOf(action: string): string {
  return action === "stop" ? "stopped on the page" : `${action} on the page`;
}
