/** A list of samples of any length: only the rows in sight are in the page. */

import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef, type KeyboardEvent } from "react";

import type { SampleView } from "../contract";
import { shortId, spaced } from "../words";
import { Foreign } from "./parts";

const ROW_PX = 62;
const SNIPPET = 200;
/** So many rows before the end the next page is fetched. */
const AHEAD = 30;
const A_PAGE = 8;

export function SampleList(props: {
  samples: readonly SampleView[];
  total: number;
  hasBatches: boolean;
  chosen: string;
  pinned: string;
  choose(id: string): void;
  /** Called after a sample was chosen by a press, not by a key: whoever goes through stays here. */
  onPress(): void;
  hasMore: boolean;
  more(): void;
}) {
  const { samples, chosen, hasMore, more } = props;
  const holder = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: samples.length,
    getScrollElement: () => holder.current,
    estimateSize: () => ROW_PX,
    overscan: 6,
    useFlushSync: false,
  });
  const shown = rows.getVirtualItems();
  const last = shown.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasMore && last >= samples.length - AHEAD) more();
  });
  const place = samples.findIndex(({ id }) => id === chosen);
  const moveTo = (wanted: number): void => {
    const next = Math.max(0, Math.min(samples.length - 1, wanted));
    const sample = samples[next];
    if (!sample) return;
    rows.scrollToIndex(next);
    props.choose(sample.id);
  };
  const onKey = (event: KeyboardEvent): void => {
    const steps: Record<string, number> = {
      ArrowDown: place + 1,
      ArrowUp: place - 1,
      PageDown: place + A_PAGE,
      PageUp: place - A_PAGE,
      Home: 0,
      End: samples.length - 1,
    };
    const next = steps[event.key];
    if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    moveTo(next);
  };
  const isActiveShown = shown.some(({ index }) => index === place);
  return (
    <div
      ref={holder}
      className="sample-list"
      role="listbox"
      tabIndex={0}
      aria-label="Samples"
      aria-activedescendant={isActiveShown ? optionId(chosen) : undefined}
      data-testid="sample-list"
      onKeyDown={onKey}
    >
      <div role="presentation" style={{ height: rows.getTotalSize() }}>
        {shown.map(({ index, start }) => {
          const sample = samples[index];
          if (!sample) return null;
          return (
            <div
              key={sample.id}
              id={optionId(sample.id)}
              role="option"
              className="sample-row"
              aria-selected={sample.id === chosen}
              aria-setsize={props.total}
              aria-posinset={index + 1}
              data-testid="sample"
              data-sample={sample.id}
              style={{ height: ROW_PX, transform: `translateY(${start}px)` }}
              onClick={() => {
                props.choose(sample.id);
                props.onPress();
              }}
            >
              <Row
                sample={sample}
                hasBatch={props.hasBatches}
                isPinned={sample.id === props.pinned}
              />
            </div>
          );
        })}
      </div>
    </div>
  );
}

const optionId = (id: string): string => `sample-${id}`;

function Row(props: { sample: SampleView; hasBatch: boolean; isPinned: boolean }) {
  const { sample } = props;
  return (
    <>
      <span className="sample-head">
        <span className="mono">
          {props.hasBatch && `${shortId(sample.batch_id)} `}#{sample.slot}
        </span>
        <Foreign>{sample.topic}</Foreign>
        <span className="muted">{spaced(sample.difficulty)}</span>
        {props.isPinned && <span className="tag">compared</span>}
      </span>
      <span className="sample-snippet muted">
        <Foreign>{snippet(sample)}</Foreign>
      </span>
    </>
  );
}

/** How the sample begins, on one line: its first field that does not only name its cell. */
function snippet({ content, topic, area }: SampleView): string {
  const texts = Object.values(content).filter((value) => typeof value === "string");
  const named = [topic, area, `${area} - ${topic}`];
  const first = texts.find((text) => text.includes(" ") && !named.includes(text)) ?? texts[0] ?? "";
  const start = first.slice(0, 2 * SNIPPET).replace(/\s+/g, " ");
  return [...start].slice(0, SNIPPET).join(""); // Between characters, never within one.
}
