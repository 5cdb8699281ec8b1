/** Lanes as bars and marks. All marks together are one stop of the Tab key; arrows go among them. */

import {
  memo,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  type CSSProperties,
  type KeyboardEvent,
} from "react";

import {
  BARS,
  drawingOf,
  laneKey,
  laneWords,
  marksOf,
  nearest,
  TICKS,
  type Lane,
  type LaneKind,
  type Mark,
} from "../lanes";
import { short } from "../words";
import { Foreign } from "./parts";

/** A shape of its own for each kind: colour alone tells nothing. */
const SHAPES: Partial<Record<LaneKind, string>> = {
  failed: "M-5-3l2-2l3 3l3-3l2 2l-3 3l3 3l-2 2l-3-3l-3 3l-2-2l3-3z",
  rescued: "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  trial: "M0-6l6 11h-12z",
  stop: "M-5-5h10v10h-10z",
  abandoned: "M-6-2h12v4h-12z",
  lost: "M0 6l6-11h-12z",
  late: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0m2.5 0a2.5 2.5 0 1 1 5 0a2.5 2.5 0 1 1-5 0z",
  note: "M0-6l6 6l-6 6l-6-6z",
  command: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
};

export function Shape({ kind }: { kind: LaneKind }) {
  return (
    <svg className={`shape shape-${kind}`} viewBox="-7 -7 14 14" aria-hidden="true">
      <path d={SHAPES[kind]} fillRule="evenodd" />
    </svg>
  );
}

interface RowsProps {
  lanes: readonly Lane[];
  buckets: number;
  most: number;
  show(sequence: number): void;
}

export function LaneRows({ lanes, buckets, most, show }: RowsProps) {
  const rows = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [current, setCurrent] = useState<number | null>(null);
  useLayoutEffect(() => {
    const lane = rows.current?.querySelector(".lane");
    if (!lane) return undefined;
    setWidth(lane.clientWidth);
    const observer = new ResizeObserver(() => setWidth(lane.clientWidth));
    observer.observe(lane);
    return () => observer.disconnect();
  }, []);
  const marks = useMemo(
    () => lanes.map((lane) => marksOf(lane, buckets, width)),
    [lanes, buckets, width],
  );
  const all = marks.flat();
  const stop = all.find(({ sequence }) => sequence === current) ?? all[0];
  return (
    <div
      ref={rows}
      className="lane-rows"
      role="toolbar"
      aria-label="Marks along time"
      style={{ "--buckets": buckets } as CSSProperties}
      onKeyDown={move}
      onFocus={({ target }) => {
        const { sequence } = (target as HTMLElement).dataset;
        if (sequence) setCurrent(Number(sequence));
      }}
    >
      {lanes.map((lane, place) => (
        <LaneRow
          key={laneKey(lane)}
          lane={lane}
          marks={marks[place]!}
          buckets={buckets}
          most={most}
          stop={marks[place]!.includes(stop!) ? stop!.sequence : null}
          show={show}
        />
      ))}
    </div>
  );
}

/** Left and right along all marks, up and down to the nearest one of another lane. */
function move(event: KeyboardEvent<HTMLElement>): void {
  const marks = [...event.currentTarget.querySelectorAll<HTMLElement>("button[data-sequence]")];
  const here = marks.indexOf(event.target as HTMLElement);
  const next = here < 0 ? undefined : wanted(event.key, marks, here);
  if (!next) return;
  event.preventDefault();
  next.focus();
}

function wanted(key: string, marks: readonly HTMLElement[], here: number): HTMLElement | undefined {
  if (key === "ArrowLeft") return marks[here - 1];
  if (key === "ArrowRight") return marks[here + 1];
  if (key === "Home") return marks[0];
  if (key === "End") return marks.at(-1);
  if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
  const own = marks[here]!;
  const others =
    key === "ArrowUp" ? marks.slice(0, here).reverse() : marks.slice(here + 1);
  const first = others.find(({ parentElement }) => parentElement !== own.parentElement);
  const lane = others.filter(({ parentElement }) => parentElement === first?.parentElement);
  const distance = ({ offsetLeft }: HTMLElement): number => Math.abs(offsetLeft - own.offsetLeft);
  return lane.sort((one, other) => distance(one) - distance(other))[0];
}

const LaneRow = memo(function LaneRow(props: {
  lane: Lane;
  marks: readonly Mark[];
  buckets: number;
  most: number;
  /** The mark that the Tab key goes to, where it is in this lane. */
  stop: number | null;
  show(sequence: number): void;
}) {
  const { lane, marks, buckets, most, stop, show } = props;
  const { made, lost, claimed, span } = useMemo(() => drawingOf(lane, most), [lane, most]);
  const name = lane.name ?? "The batch";
  // A lane without a call needs no room for bars.
  const top = made || lost ? 0 : BARS - TICKS;
  return (
    <div className="lane-row" role="group" aria-label={name} data-testid="lane">
      <span className="lane-name">
        {lane.name === null ? name : <Foreign>{name}</Foreign>}
        {lane.provider !== null && <small className="muted">{lane.provider}</small>}
      </span>
      <span className="lane">
        <svg
          role="img"
          aria-label={laneWords(lane)}
          className={top > 0 ? "is-flat" : undefined}
          viewBox={`0 ${top} ${buckets} ${BARS + TICKS - top}`}
          preserveAspectRatio="none"
          onClick={({ currentTarget, clientX }) => {
            const { left, width } = currentTarget.getBoundingClientRect();
            show(nearest(lane, Math.floor(((clientX - left) / width) * buckets)));
          }}
        >
          <path className="lane-line" d={`M0 ${BARS}h${buckets}`} />
          <path className="lane-span" d={`M${span[0]} ${BARS}H${span[1] + 1}`} />
          <path className="bar-made" d={made} />
          <path className="bar-lost" d={lost} />
          <path className="bar-claimed" d={claimed} />
        </svg>
        {marks.length > 0 && (
          <span className="lane-marks">
            {marks.map((mark) => (
              <MarkButton
                key={mark.sequence}
                {...mark}
                isStop={mark.sequence === stop}
                show={show}
              />
            ))}
          </span>
        )}
      </span>
    </div>
  );
});

/** Where it stands depends on the row's `--buckets`, so one that stays is not drawn anew. */
const MarkButton = memo(function MarkButton(
  props: Mark & { isStop: boolean; show(sequence: number): void },
) {
  const { kind, bucket, events, sequence, words, isStop, show } = props;
  return (
    <button
      type="button"
      className="lane-mark"
      data-testid="lane-mark"
      data-kind={kind}
      data-sequence={sequence}
      style={{ "--bucket": bucket } as CSSProperties}
      tabIndex={isStop ? 0 : -1}
      aria-label={`${words}, from event ${sequence}`}
      title={words}
      onClick={() => show(sequence)}
    >
      <Shape kind={kind} />
      {events > 1 && <small>{short(events)}</small>}
    </button>
  );
});
