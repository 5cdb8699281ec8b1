/** What kinds of events a batch's log has, and how those of some types are found in it. */

import type { EventPage, EventView } from "./contract";

export const KINDS = {
  made: { title: "Made", types: ["sample.generated.v1"] },
  lost: {
    title: "Lost",
    types: [
      "sample.attempt_failed.v1",
      "sample.rejected.v1",
      "sample.failed.v1",
      "sample.abandoned.v1",
    ],
  },
  work: {
    title: "Slices",
    types: [
      "slice.claimed.v1",
      "slice.released.v1",
      "slice.slot_on_trial.v1",
      "slice.calls_announced.v1",
      "slice.closed.v1",
    ],
  },
  command: {
    title: "Commands and ends",
    types: [
      "batch.started.v1",
      "batch.paused.v1",
      "batch.resumed.v1",
      "batch.priority_changed.v1",
      "batch.stop_requested.v1",
      "batch.stopped.v1",
      "batch.completed.v1",
      "batch.failed.v1",
    ],
  },
  note: {
    title: "Notes",
    types: [
      "batch.stuck_detected.v1",
      "batch.stuck_cleared.v1",
      "batch.budget_warned.v1",
      "batch.child_started.v1",
      "route.throttled.v1",
      "route.blocked.v1",
      "route.recovered.v1",
      "route.not_direct.v1",
      "sample.redacted.v1",
    ],
  },
} as const satisfies Record<string, { title: string; types: readonly string[] }>;

export type Kind = keyof typeof KINDS;

export const KIND_NAMES = Object.keys(KINDS) as Kind[];
export const EVENT_TYPES: readonly string[] = KIND_NAMES.flatMap((kind) => KINDS[kind].types);

/** The types that an address names, in the order of the choice; what is no type is passed over. */
export function typesIn(text: string): readonly string[] {
  const named = new Set(text.split(","));
  return EVENT_TYPES.filter((type) => named.has(type));
}

export const PAGE = 100;
/** So often at most the log is looked at for one page: each time takes the server up to 250 ms. */
export const STEPS_MOST = 8;

export interface FoundEvents {
  events: readonly EventView[];
  /** The sequence after which there may be more; null at the end. */
  next: number | null;
  /** How often the server was asked: how dear it is to ask again. */
  steps: number;
}

/** Look through the log after a sequence until a page is full, the log ends or patience does. */
export async function findEvents(
  ask: (after: number, limit: number) => Promise<EventPage>,
  after: number,
): Promise<FoundEvents> {
  const events: EventView[] = [];
  let next: number | null = after;
  let steps = 0;
  while (next !== null && events.length < PAGE && steps < STEPS_MOST) {
    const page: EventPage = await ask(next, PAGE - events.length);
    events.push(...page.events);
    next = page.next_cursor === null ? null : Number(page.next_cursor);
    steps += 1;
  }
  return { events, next, steps };
}

/** Who did it: a person, or a node. */
export function whoOf(event: Record<string, unknown>): string | null {
  const { kind, id } = (event["actor"] ?? {}) as { kind?: unknown; id?: unknown };
  return typeof id === "string" ? `${String(kind)} ${id}` : null;
}
