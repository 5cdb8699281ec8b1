/** Who worked on a batch when: the lanes as the server counts them, and how they are drawn. */

import { grouped, plural } from "./words";

export type LanesBy = "node" | "model";

export type LaneKind =
  | "made"
  | "lost"
  | "failed"
  | "abandoned"
  | "late"
  | "claimed"
  | "rescued"
  | "released"
  | "trial"
  | "closed"
  | "stop"
  | "command"
  | "note";

/** Number of the bucket, how many events, the sequence of the first of them. */
export type Counted = readonly [bucket: number, events: number, sequence: number];

/** The mirror of `schemas/millstream_schemas/lanes.py`. */
export interface Lane {
  name: string | null;
  provider: string | null;
  first: string;
  last: string;
  marks: Partial<Record<LaneKind, readonly Counted[]>>;
}

export interface Lanes {
  batch_id: string;
  by: LanesBy;
  start: string;
  end: string;
  bucket_ms: number;
  lanes: Lane[];
  left_out: number;
  as_of: number;
}

/** What a kind is called, the gravest first: of several marks in one place it gives the shape. */
export const KIND_WORDS: Record<LaneKind, readonly [one: string, many: string]> = {
  failed: ["slot given up", "slots given up"],
  rescued: ["slice rescued", "slices rescued"],
  trial: ["slot on trial", "slots on trial"],
  stop: ["stop or end", "stops and ends"],
  abandoned: ["call cut off", "calls cut off"],
  lost: ["call lost", "calls lost"],
  late: ["late outcome", "late outcomes"],
  note: ["note", "notes"],
  command: ["command", "commands"],
  made: ["sample made", "samples made"],
  claimed: ["slice claimed", "slices claimed"],
  released: ["slice released", "slices released"],
  closed: ["slice closed", "slices closed"],
};

export const LANE_KINDS = Object.keys(KIND_WORDS) as LaneKind[];

/** The kinds that are drawn as marks; the rest is bars, ticks and the table. */
export const MARKED: readonly LaneKind[] = LANE_KINDS.slice(0, LANE_KINDS.indexOf("made"));

/** A mark needs so much room, in pixels: a finger must find it. */
export const MARK_PX = 24;

/** Marks that stand too close to be told apart, as one. */
export interface Mark {
  bucket: number;
  /** The gravest kind in it. */
  kind: LaneKind;
  events: number;
  /** The first event in it, which it leads to. */
  sequence: number;
  words: string;
}

/** How many buckets lie between the first event and the end. */
export function bucketsOf({ start, end, bucket_ms }: Lanes): number {
  return Math.floor((Date.parse(end) - Date.parse(start)) / bucket_ms) + 1;
}

export function countOf(lane: Lane, kind: LaneKind): number {
  return (lane.marks[kind] ?? []).reduce((sum, [, events]) => sum + events, 0);
}

/**
 * A newer answer, with the lanes of the one before that are still the same. A log only grows, so a lane
 * with as many events up to the same time is: to compare each mark takes longer than to draw them.
 */
export function sharing(before: Lanes | undefined, fresh: Lanes): Lanes {
  if (before?.bucket_ms !== fresh.bucket_ms) return fresh;
  const known = new Map(before.lanes.map((lane) => [laneKey(lane), lane]));
  const lanes = fresh.lanes.map((lane) => {
    const old = known.get(laneKey(lane));
    const isSame = old?.last === lane.last && LANE_KINDS.every((kind) => countOf(old, kind) === countOf(lane, kind));
    return isSame ? old : lane;
  });
  const isSame =
    before.as_of === fresh.as_of &&
    before.end === fresh.end &&
    before.by === fresh.by &&
    lanes.length === before.lanes.length &&
    lanes.every((lane, place) => lane === before.lanes[place]);
  // An answer that stands in for one to come is shared at each render: a new object would be without end.
  return isSame ? before : { ...fresh, lanes };
}

export const laneKey = ({ name, provider }: Lane): string => JSON.stringify([name, provider]);

/** The marks of a lane of `buckets` in so many pixels, each at its first event. */
export function marksOf(lane: Lane, buckets: number, width: number): Mark[] {
  const reach = width > 0 ? (MARK_PX * buckets) / width : Infinity;
  const all = MARKED.flatMap((kind) =>
    (lane.marks[kind] ?? []).map(([bucket, events, sequence]) => ({ kind, bucket, events, sequence })),
  ).sort((one, other) => one.bucket - other.bucket || one.sequence - other.sequence);
  const clusters: (typeof all)[] = [];
  for (const mark of all) {
    const cluster = clusters.at(-1);
    if (cluster && mark.bucket - cluster[0]!.bucket < reach) cluster.push(mark);
    else clusters.push([mark]);
  }
  return clusters.map((cluster) => {
    const counts = new Map<LaneKind, number>();
    for (const { kind, events } of cluster) counts.set(kind, (counts.get(kind) ?? 0) + events);
    return {
      bucket: cluster[0]!.bucket,
      kind: MARKED.find((kind) => counts.has(kind))!,
      events: cluster.reduce((sum, { events }) => sum + events, 0),
      sequence: Math.min(...cluster.map(({ sequence }) => sequence)),
      words: wordsOfCounts(counts),
    };
  });
}

/** "2 calls lost, 1 note", the gravest first. */
export function wordsOfCounts(counts: ReadonlyMap<LaneKind, number>): string {
  return LANE_KINDS.filter((kind) => counts.has(kind))
    .map((kind) => plural(counts.get(kind)!, ...KIND_WORDS[kind]))
    .join(", ");
}

/** All that a lane has, in words. */
export function laneWords(lane: Lane): string {
  const kinds = LANE_KINDS.filter((kind) => lane.marks[kind]);
  return wordsOfCounts(new Map(kinds.map((kind) => [kind, countOf(lane, kind)])));
}

/** The kinds of marks that these lanes have, with their counts, the gravest first. */
export function legendOf(lanes: readonly Lane[]): [LaneKind, string][] {
  return MARKED.flatMap((kind) => {
    const count = lanes.reduce((sum, lane) => sum + countOf(lane, kind), 0);
    return count > 0 ? [[kind, `${KIND_WORDS[kind][1]} (${grouped(count)})`]] : [];
  });
}

/** The calls that ended in each bucket: samples and lost ones. */
function callsOf(lane: Lane): Map<number, { made: number; lost: number }> {
  const found = new Map<number, { made: number; lost: number }>();
  for (const kind of ["made", "lost"] as const)
    for (const [bucket, events] of lane.marks[kind] ?? []) {
      const calls = found.get(bucket) ?? { made: 0, lost: 0 };
      calls[kind] = events;
      found.set(bucket, calls);
    }
  return found;
}

/** The most calls that ended in one bucket of one lane: what the highest bar stands for. */
export function mostOf(lanes: readonly Lane[]): number {
  return Math.max(0, ...lanes.flatMap((lane) => [...callsOf(lane).values()].map(sumOf)));
}

const sumOf = ({ made, lost }: { made: number; lost: number }): number => made + lost;

/** The heights of a lane's parts, in units of its drawing. */
export const BARS = 100;
export const TICKS = 16;
/** What there is, however little, is seen. */
const LEAST = 8;

export interface Drawing {
  made: string;
  /** On top of what was made. */
  lost: string;
  /** Claims of slices, beneath the line. */
  claimed: string;
  /** The first and the last bucket with anything in it. */
  span: readonly [number, number];
}

/** A lane as paths, one unit wide for each bucket; `most` calls are as high as a bar gets. */
export function drawingOf(lane: Lane, most: number): Drawing {
  let [made, lost, claimed] = ["", "", ""];
  for (const [bucket, calls] of callsOf(lane)) {
    const high = Math.max(LEAST, (BARS * sumOf(calls)) / most);
    const part = Math.round((high * calls.made) / sumOf(calls));
    if (part > 0) made += box(bucket, BARS - part, part);
    if (high > part) lost += box(bucket, BARS - Math.round(high), Math.round(high) - part);
  }
  for (const kind of ["claimed", "rescued"] as const)
    for (const [bucket] of lane.marks[kind] ?? []) claimed += box(bucket, BARS, TICKS);
  const buckets = Object.values(lane.marks).flatMap((marks) => marks.map(([bucket]) => bucket));
  return { made, lost, claimed, span: [Math.min(...buckets), Math.max(...buckets)] };
}

const box = (left: number, top: number, high: number): string => `M${left} ${top}h1v${high}h-1z`;

/** The first event that is nearest to a bucket, for a click between marks. */
export function nearest(lane: Lane, bucket: number): number {
  const all = Object.values(lane.marks).flat();
  const [best] = [...all].sort(
    (one, other) => Math.abs(one[0] - bucket) - Math.abs(other[0] - bucket) || one[2] - other[2],
  );
  return best![2];
}
