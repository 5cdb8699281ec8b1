/** Small parts that several places share: chips, bars, model names, text from models. */

import { memo, useLayoutEffect, useRef, type ReactNode } from "react";

import { isLive, type BatchView, type State } from "../contract";
import { grouped, modelNote, percent } from "../words";
import { Icon, type IconName } from "./Icon";
import type { Moment, Moves } from "./moving";

const CHIPS: Record<State, { icon: IconName | null; word: string }> = {
  queued: { icon: "clock", word: "Queued" },
  running: { icon: null, word: "Running" },
  paused: { icon: "pause", word: "Paused" },
  stopping: { icon: null, word: "Stopping…" },
  completed: { icon: "check", word: "Completed" },
  stopped: { icon: "stop", word: "Stopped" },
  failed: { icon: "cross", word: "Failed" },
};

export function StateChip({ state, count }: { state: State; count?: number | undefined }) {
  const { icon, word } = CHIPS[state];
  return (
    <span className={`chip chip-${state}`} data-testid="state" data-state={state}>
      {icon ? <Icon name={icon} /> : <span className="spinner" aria-hidden="true" />}
      {word}
      {count === undefined ? null : ` ${grouped(count)}`}
    </span>
  );
}

/** Words that a model or a user wrote: shown as they are, and kept from turning their surroundings. */
export function Foreign({ children }: { children: string }) {
  return <bdi className="foreign">{children}</bdi>;
}

type Modelled = Pick<BatchView, "model" | "provider">;

/** A batch's model, with a mark when its samples are no real ones. */
export const ModelName = memo(function ModelName({ batch }: { batch: Modelled }) {
  const note = modelNote(batch.model, batch.provider);
  return (
    <span className="model">
      <Foreign>{batch.model}</Foreign>
      {note && (
        <span className={`tag tag-${note === "simulated" ? "simulated" : "local"}`}>{note}</span>
      )}
    </span>
  );
}, isSameModel);

function isSameModel(a: { batch: Modelled }, b: { batch: Modelled }): boolean {
  return a.batch.model === b.batch.model && a.batch.provider === b.batch.provider;
}

/** Made, failed and open samples as one bar, which a row that `moves` keeps up to date. */
export function ProgressBar({ batch, moves }: { batch: BatchView; moves?: Moves }) {
  const own = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (own.current) writeBar(own.current, { batch, isReadable: true });
  });
  return (
    <div
      ref={moves?.(writeBar) ?? own}
      className={`bar bar-of-${isLive(batch.state) ? "live" : batch.state}`}
      data-testid="bar"
      role="progressbar"
      aria-label={`Progress of ${batch.id}`}
      aria-valuemin={0}
      aria-valuemax={batch.target}
    />
  );
}

/** What a bar was given last: reading it from the element costs more than writing it. */
const GIVEN = new WeakMap<HTMLElement, { done: number; sizes: string }>();
/** Of a batch that moves faster than one reads, the bar moves by so many percent, or each second. */
const STRIDE = 0.5;

// The parts are sizes of a background: an element of its own for each would be laid out.
function writeBar(bar: HTMLElement, moment: Pick<Moment, "batch" | "isReadable">): void {
  const { counts, target } = moment.batch;
  const { generated, failed } = counts;
  const done = percent(generated + failed, target);
  const given = GIVEN.get(bar);
  if (given && !moment.isReadable && Math.abs(done - given.done) < STRIDE) return;
  // Less than a tenth of a percent is no pixel.
  const sizes = `${percent(generated, target).toFixed(1)}% 100%, ${done.toFixed(1)}% 100%`;
  if (given?.sizes !== sizes) bar.style.backgroundSize = sizes;
  GIVEN.set(bar, { done, sizes });
  if (!moment.isReadable) return;
  const said = `${grouped(generated)} of ${grouped(target)} made, ${grouped(failed)} failed`;
  if (bar.ariaValueText === said) return;
  bar.ariaValueText = said;
  bar.ariaValueNow = String(Math.min(generated + failed, target));
}

/** What stands in place of content that is not there, and what to do about it. */
export function Empty({ children, testid }: { children: ReactNode; testid?: string }) {
  return (
    <p className="empty" data-testid={testid}>
      {children}
    </p>
  );
}

/** An answer that failed, in the server's words, with a way to ask again. */
export function Trouble(props: {
  what: string;
  words: string;
  retry(): void;
  /** Another way on. */
  children?: ReactNode;
}) {
  const { what, words, retry, children } = props;
  return (
    <div className="trouble" role="alert" data-testid="trouble">
      <Icon name="warning" />
      <span>
        {what}: <Foreign>{words}</Foreign>
      </span>
      <button type="button" onClick={retry}>
        Try again
      </button>
      {children}
    </div>
  );
}

/** Pages by cursor: forth only where the answer says that there is more. */
export function Pager(props: {
  page: number;
  label: string;
  hasNext: boolean;
  onPrevious(): void;
  onNext(): void;
}) {
  if (props.page === 0 && !props.hasNext) return null;
  return (
    <nav className="pager" aria-label={props.label}>
      <button type="button" disabled={props.page === 0} onClick={props.onPrevious}>
        Previous
      </button>
      <span>Page {props.page + 1}</span>
      <button type="button" data-testid="next-page" disabled={!props.hasNext} onClick={props.onNext}>
        Next
      </button>
    </nav>
  );
}
