import { describe, expect, test } from "vitest";

import { isSteady } from "../src/live/steady";
import { batch, counts } from "./builders";

const LATE = "2026-09-21T12:05:00Z";

describe("a row that stays as it is", () => {
  test("is not drawn anew for a sample or a call", () => {
    const moved = batch({
      counts: counts({ generated: 3, failed: 1, tokens_in: 9 }),
      last_progress_at: LATE,
      errors: { timeout: 1 },
      version: 7,
      sequence: 9,
    });
    expect(isSteady(batch(), moved)).toBe(true);
  });

  test.each([
    { state: "stopping" as const },
    { target: 20 },
    { finished_at: LATE },
    { budgets_warned: ["cost"] },
    { last_error: { category: "timeout", message: "late", slot: 2 } },
    { held_up: { kind: "throttled" as const, model: "m", since: LATE, until: LATE, message: "" } },
  ])("is drawn anew for %o", (change) => {
    expect(isSteady(batch(), batch(change))).toBe(false);
    expect(isSteady(batch(change), structuredClone(batch(change)))).toBe(true);
  });
});
