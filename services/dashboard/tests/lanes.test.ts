import { describe, expect, it } from "vitest";

import {
  bucketsOf,
  drawingOf,
  laneWords,
  legendOf,
  marksOf,
  mostOf,
  nearest,
  sharing,
  type Counted,
  type Lane,
  type Lanes,
} from "../src/lanes";

function lane(marks: Lane["marks"]): Lane {
  return { name: "one", provider: null, first: "", last: "", marks };
}

describe("the lanes of a batch", () => {
  it("have a bucket for each begun piece of time", () => {
    const start = "2026-09-21T12:00:00Z";
    const of = (end: string) =>
      bucketsOf({ batch_id: "", by: "node", start, end, bucket_ms: 500, lanes: [], left_out: 0, as_of: 1 });
    expect(of(start)).toBe(1);
    expect(of("2026-09-21T12:00:00.499Z")).toBe(1);
    expect(of("2026-09-21T12:00:01Z")).toBe(3);
  });

  it("draw marks as one that stand closer than a finger's width", () => {
    const one = lane({
      lost: [
        [0, 2, 5],
        [9, 1, 40],
      ],
      rescued: [[3, 1, 20]],
      made: [[1, 7, 10]],
    });
    // 100 buckets in 480 pixels: a mark needs five.
    const marks = marksOf(one, 100, 480);
    expect(marks.map(({ bucket, kind, events, sequence }) => [bucket, kind, events, sequence])).toEqual([
      [0, "rescued", 3, 5],
      [9, "lost", 1, 40],
    ]);
    expect(marks[0]!.words).toBe("1 slice rescued, 2 calls lost");
    expect(marksOf(one, 100, 100_000)).toHaveLength(3);
    expect(marksOf(one, 100, 0)).toHaveLength(1);
  });

  it("keep a mark where its first event is while the time grows", () => {
    const one = lane({ stop: [[50, 1, 70]] });
    expect(marksOf(one, 60, 600)[0]!.bucket).toBe(50);
    expect(marksOf(one, 190, 600)[0]!.bucket).toBe(50);
  });

  it("stack lost calls on made ones, the highest bar over all lanes at full height", () => {
    const [busy, calm] = [
      lane({ made: [[0, 30, 1]], lost: [[0, 10, 2]] }),
      lane({ made: [[2, 1, 3]], claimed: [[1, 1, 2]] }),
    ];
    expect(mostOf([busy, calm])).toBe(40);
    expect(drawingOf(busy, 40)).toEqual({
      made: "M0 25h1v75h-1z",
      lost: "M0 0h1v25h-1z",
      claimed: "",
      span: [0, 0],
    });
    // One of forty is still seen.
    expect(drawingOf(calm, 40)).toMatchObject({
      made: "M2 92h1v8h-1z",
      claimed: "M1 100h1v16h-1z",
      span: [1, 2],
    });
  });

  it("tell everything in words, the gravest first", () => {
    const one = lane({ made: [[0, 1200, 1]], failed: [[3, 1, 9]], claimed: [[0, 2, 1]] });
    expect(laneWords(one)).toBe("1 slot given up, 1,200 samples made, 2 slices claimed");
    expect(legendOf([one, lane({ failed: [[1, 4, 8]] })])).toEqual([["failed", "slots given up (5)"]]);
  });

  it("stay the same objects while nothing comes to them", () => {
    const answer = (as_of: number, made: number, bucket_ms = 10): Lanes => ({
      ...{ batch_id: "", by: "node", start: "", end: "", bucket_ms, left_out: 0, as_of },
      lanes: [lane({ note: [[0, 1, 1]] }), { ...lane({ made: [[1, made, 2]] }), name: "two" }],
    });
    const first = answer(1, 3);
    const next = sharing(first, answer(2, 4));
    expect([next.as_of, next.lanes[0] === first.lanes[0]]).toEqual([2, true]);
    expect(next.lanes[1]!.marks.made).toEqual([[1, 4, 2]]);
    expect(sharing(first, answer(2, 3, 20)).lanes[0]).not.toBe(first.lanes[0]);
    expect(sharing(undefined, first)).toBe(first);
    expect(sharing(first, first)).toBe(first);
    expect(sharing(next, answer(2, 4))).toBe(next);
  });

  it("lead from anywhere to the nearest event", () => {
    const one = lane({ made: [[2, 5, 10]], note: [[8, 1, 30]] });
    expect(nearest(one, 0)).toBe(10);
    expect(nearest(one, 7)).toBe(30);
    expect(nearest(one, 5)).toBe(10);
  });

  it("stay few of the longest answer", () => {
    const counted = (from: number): Counted[] =>
      Array.from({ length: 200 }, (_, bucket) => [bucket, 1 + (bucket % 7), from + bucket]);
    const lanes = Array.from({ length: 40 }, (_, place) =>
      lane({ made: counted(place), lost: counted(place), claimed: counted(place) }),
    );
    const most = mostOf(lanes);
    for (const one of lanes) {
      expect(drawingOf(one, most).made.length).toBeLessThan(200 * 24);
      expect(marksOf(one, 200, 900).length).toBeLessThanOrEqual(34);
    }
  });
});
