import { readFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import type { EventPage, EventView } from "../src/contract";
import { EVENT_TYPES, findEvents, PAGE, STEPS_MOST, typesIn } from "../src/events";

const SCHEMA = join(import.meta.dirname, "../src/fold/schema.json");

function view(sequence: number): EventView {
  return { sequence, stored_at: "2026-01-01T00:00:00Z", subject: "", event: { type: "x" } };
}

/** A log with an event in each `every`th place, which a step looks `step` places through. */
function log(size: number, every: number, step: number) {
  const asked: number[] = [];
  const ask = (after: number, limit: number): Promise<EventPage> => {
    asked.push(after);
    const events: EventView[] = [];
    let place = after;
    while (place < size && place < after + step && events.length < limit) {
      place += 1;
      if (place % every === 0) events.push(view(place));
    }
    return Promise.resolve({ events, next_cursor: place < size ? String(place) : null, as_of: size });
  };
  return { ask, asked };
}

describe("events", () => {
  test("every type of the contract can be chosen, once", () => {
    const schema = JSON.parse(readFileSync(SCHEMA, "utf8")) as { events: Record<string, string> };
    expect([...EVENT_TYPES].sort()).toEqual(Object.keys(schema.events).sort());
  });

  test("an address names types, and what is none is passed over", () => {
    expect(typesIn("sample.failed.v1,walking,sample.generated.v1,")).toEqual([
      "sample.generated.v1",
      "sample.failed.v1",
    ]);
    expect(typesIn("")).toEqual([]);
  });

  test("a page is looked for step after step until it is full", async () => {
    const { ask, asked } = log(10_000, 10, 300);
    const found = await findEvents(ask, 0);
    expect(found.events.map((one) => one.sequence)).toEqual(
      Array.from({ length: PAGE }, (_, place) => (place + 1) * 10),
    );
    expect([found.next, asked]).toEqual([1_000, [0, 300, 600, 900]]);
    expect((await findEvents(ask, 1_000)).events[0]?.sequence).toBe(1_010);
  });

  test("a page ends with the log, or when it was looked for often enough", async () => {
    expect(await findEvents(log(50, 20, 300).ask, 0)).toEqual({
      events: [view(20), view(40)],
      next: null,
      steps: 1,
    });
    const rare = await findEvents(log(100_000, 90_000, 300).ask, 0);
    expect(rare).toEqual({ events: [], next: STEPS_MOST * 300, steps: STEPS_MOST });
  });
});
