import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { atOnce, inTurn } from "../src/live/schedule";
import { BatchStore } from "../src/live/store";
import { batch, counts } from "./builders";

const A = "batch_1790000000_0000000a";
const B = "batch_1790000000_0000000b";

let frames: (() => void)[];
let store: BatchStore;

function drawFrame(): void {
  for (const flush of frames.splice(0)) flush();
}

beforeEach(() => {
  frames = [];
  store = new BatchStore((flush) => frames.push(flush));
});

describe("the store", () => {
  test("shows many changes of one frame once, as the newest", () => {
    const seen: number[] = [];
    store.onRow(A, () => seen.push(store.get(A)?.sequence ?? 0));
    for (const sequence of [1, 2, 3]) store.push(batch({ id: A, sequence }));
    expect(frames).toHaveLength(1);
    drawFrame();
    expect(seen).toEqual([3]);
  });

  test("drops what is not newer, before and after the frame", () => {
    store.push(batch({ id: A, sequence: 5, target: 50 }));
    store.push(batch({ id: A, sequence: 4, target: 40 }));
    drawFrame();
    store.push(batch({ id: A, sequence: 5, target: 99 }));
    drawFrame();
    expect(store.get(A)?.target).toBe(50);
  });

  test("tells what nobody sees of progress once a second, of another state at once", () => {
    vi.useFakeTimers();
    const seen: number[] = [];
    store.push(batch({ id: A, sequence: 1 }));
    drawFrame();
    const stop = store.onRowAtEase(A, () => seen.push(store.get(A)?.sequence ?? 0));
    const advance = (sequence: number, state: "running" | "stopping" = "running"): void => {
      store.push(batch({ id: A, sequence, state }));
      drawFrame();
    };
    for (const sequence of [2, 3, 4]) advance(sequence);
    expect(seen).toEqual([]);
    vi.advanceTimersByTime(1_000);
    expect(seen).toEqual([4]);
    advance(5);
    advance(6, "stopping");
    expect(seen).toEqual([4, 6]);
    advance(7, "stopping");
    stop();
    vi.advanceTimersByTime(1_000);
    expect(seen).toEqual([4, 6]);
    vi.useRealTimers();
  });

  test("wakes a row for its own changes only", () => {
    let calls = 0;
    store.onRow(A, () => (calls += 1));
    store.push(batch({ id: B }));
    drawFrame();
    expect(calls).toBe(0);
  });

  test("keeps the same list while only counts move", () => {
    store.push(batch({ id: A, sequence: 1 }));
    drawFrame();
    const before = store.live();
    store.push(batch({ id: A, sequence: 2, counts: counts({ generated: 1 }) }));
    drawFrame();
    expect(store.live()).toBe(before);
  });

  test("lists live batches newest first, and stuck ones longest first", () => {
    const stuck = (since: string) => ({
      rule: "no_progress",
      since,
      idle_s: 1,
      threshold_s: 1,
      cause: "",
      suggestion: "",
    });
    store.push(batch({ id: A, stuck: stuck("2026-09-21T12:05:00Z") }));
    store.push(
      batch({
        id: B,
        started_at: "2026-09-21T12:01:00Z",
        stuck: stuck("2026-09-21T12:04:00Z"),
      }),
    );
    drawFrame();
    expect(store.live()).toEqual([B, A]);
    expect(store.stuck()).toEqual([B, A]);
    store.push(batch({ id: B, sequence: 2, state: "stopped" }));
    drawFrame();
    expect(store.live()).toEqual([A]);
    expect(store.stuck()).toEqual([A]);
  });

  test("names the batches that a snapshot no longer lists, unless they are newer than it", () => {
    store.push(batch({ id: A, sequence: 5 }));
    store.push(batch({ id: B, sequence: 9 }));
    expect(store.snapshot([], 7).map(({ id }) => id)).toEqual([A]);
  });

  test("takes lower sequences of another log after forgetting those of the old one", () => {
    store.push(batch({ id: A, sequence: 500 }));
    drawFrame();
    store.forgetSequences();
    store.push(batch({ id: A, sequence: 3, state: "completed" }));
    drawFrame();
    expect(store.get(A)?.state).toBe("completed");
  });

  test("takes the time of a failed attempt for no sample's", () => {
    const at = (second: number) => `2026-09-21T12:00:0${second}Z`;
    const made = counts({ generated: 1 });
    const lost = counts({ generated: 1, attempts_failed: 1 });
    store.push(batch({ id: A, sequence: 1, counts: made, last_progress_at: at(1) }));
    drawFrame();
    store.push(batch({ id: A, sequence: 2, counts: lost, last_progress_at: at(2) }));
    drawFrame();
    expect(store.lastSampleAt(A)).toBe(at(1));
    expect(store.get(A)?.last_progress_at).toBe(at(2));
  });

  test("tells each change with what was before", () => {
    const told: (string | undefined)[][] = [];
    store.onChange((before, after) => told.push([before?.state, after.state]));
    store.push(batch({ id: A, sequence: 1, state: "queued" }));
    drawFrame();
    store.push(batch({ id: A, sequence: 2 }));
    drawFrame();
    expect(told).toEqual([
      [undefined, "queued"],
      ["queued", "running"],
    ]);
  });
});

describe("a change", () => {
  const listeners = new Set<() => void>();
  const look = (hidden: boolean): void => {
    vi.stubGlobal("document", {
      hidden,
      addEventListener: (_: string, listener: () => void) => listeners.add(listener),
      removeEventListener: (_: string, listener: () => void) => listeners.delete(listener),
    });
  };
  const seen = vi.fn();

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    seen.mockReset();
    listeners.clear();
    store = new BatchStore(atOnce);
    store.onRow(A, seen);
  });

  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  test("waits for what comes with it, but for no frame", async () => {
    look(false);
    store.push(batch({ id: A, sequence: 1 }));
    store.push(batch({ id: A, sequence: 2 }));
    expect(seen).not.toHaveBeenCalled();
    await Promise.resolve();
    expect(seen).toHaveBeenCalledOnce();
  });

  test("that moves the lists waits for what comes in the same piece, mere progress does not", async () => {
    look(false);
    store = new BatchStore(atOnce, inTurn);
    const ids = Array.from({ length: 100 }, (_, index) => `batch_1790000000_${index}`);
    for (const id of [A, ...ids]) store.push(batch({ id, sequence: 1 }));
    vi.runAllTimers();
    let moves = 0;
    store.onLists(() => (moves += 1));
    for (const [index, id] of ids.entries()) {
      store.push(batch({ id, sequence: 2, state: "stopped" }));
      store.push(batch({ id: A, sequence: 2 + index }));
      await Promise.resolve(); // Each message that comes ends by itself.
      expect(store.get(A)?.sequence).toBe(2 + index);
    }
    store.push(batch({ id: A, sequence: 200, state: "stopping" }));
    store.push(batch({ id: A, sequence: 201, state: "stopped" }));
    store.push(batch({ id: A, sequence: 199 }));
    await Promise.resolve();
    expect([moves, store.live().length]).toEqual([0, 101]);
    vi.runAllTimers();
    expect([moves, store.live().length]).toEqual([1, 0]);
    expect(store.get(A)).toMatchObject({ sequence: 201, state: "stopped" });
  });

  test("waits a while on a page that nobody sees, at most until it is seen", async () => {
    look(true);
    store.push(batch({ id: A, sequence: 1 }));
    await Promise.resolve();
    expect(seen).not.toHaveBeenCalled();
    vi.advanceTimersByTime(250);
    expect(seen).toHaveBeenCalledOnce();
    store.push(batch({ id: A, sequence: 2 }));
    for (const listener of listeners) listener();
    expect(seen).toHaveBeenCalledTimes(2);
    vi.advanceTimersByTime(250);
    expect(seen).toHaveBeenCalledTimes(2);
    expect(listeners.size).toBe(0);
  });
});
