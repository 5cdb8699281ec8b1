/** Errors in groups, and the story of any one slot. */

import { useQuery } from "@tanstack/react-query";
import { Fragment } from "react";

import type { AttemptView, ErrorGroup, Figures } from "../analysis";
import { getSlot } from "../calls";
import type { BatchView } from "../contract";
import { useAt, useParameter } from "../place";
import { duration, grouped, localTime, plural, spaced, UNKNOWN, wordsOf } from "../words";
import { Empty, Foreign, Trouble } from "./parts";

export function BatchErrors({ batch, figures }: { batch: BatchView; figures: Figures | undefined }) {
  const [text, setText] = useParameter("slot");
  const slot = /^\d{1,9}$/.test(text) ? Number(text) : null;
  const tell = (one: number): void => setText(String(one));
  if (!figures) return <Empty>Reading the errors…</Empty>;
  return (
    <>
      {figures.errors.length === 0 && <Empty>No call of this batch has failed.</Empty>}
      <ul className="events">
        {figures.errors.map((group) => (
          <Group key={group.fingerprint} group={group} tell={tell} />
        ))}
      </ul>
      {figures.error_groups > figures.errors.length && (
        <p className="muted">The largest {grouped(figures.errors.length)} groups are shown.</p>
      )}
      <label className="slot-choice">
        Tell the story of slot{" "}
        <input
          data-testid="slot"
          type="number"
          min={0}
          max={batch.target - 1}
          value={slot ?? ""}
          onChange={({ target }) => setText(target.value)}
        />
      </label>
      {slot !== null && <Story batch={batch} slot={slot} />}
    </>
  );
}

function Group({ group, tell }: { group: ErrorGroup; tell(slot: number): void }) {
  return (
    <li className="error-group" data-testid="error-group" data-fingerprint={group.fingerprint}>
      <p>
        <b>{grouped(group.count)} ×</b> <span className="tag">{spaced(group.category)}</span>{" "}
        <Foreign>{group.message}</Foreign>
      </p>
      <p className="muted">
        {localTime(group.first_seen)} to{" "}
        {localTime(group.last_seen)} · latest: <Foreign>{group.example}</Foreign>
      </p>
      <p>
        The latest: <SlotLink slot={group.example_at.slot} tell={tell} />
        {group.failed_slots > 0 && (
          <span data-testid="given-up">
            {" "}
            · {plural(group.failed_slots, "slot")} given up:
            {group.given_up.map((slot) => (
              <Fragment key={slot}>
                {" "}
                <SlotLink slot={slot} tell={tell} />
              </Fragment>
            ))}
            {group.failed_slots > group.given_up.length && " and more"}
          </span>
        )}
      </p>
    </li>
  );
}

function SlotLink({ slot, tell }: { slot: number; tell(slot: number): void }) {
  return (
    <button type="button" className="link" onClick={() => tell(slot)}>
      slot {slot}
    </button>
  );
}

function Story({ batch, slot }: { batch: BatchView; slot: number }) {
  const at = useAt();
  const answer = useQuery({
    queryKey: ["batch", batch.id, "slot", slot, batch.sequence, at],
    queryFn: ({ signal }) => getSlot(batch, slot, at, signal),
  });
  if (answer.error)
    return (
      <Trouble
        what="The story could not be read"
        words={wordsOf(answer.error)}
        retry={() => void answer.refetch()}
      />
    );
  if (!answer.data) return <Empty>Reading the story…</Empty>;
  return (
    <section data-testid="story">
      <h3>
        Slot {slot}: {answer.data.outcome}
      </h3>
      <ol className="events">
        {answer.data.attempts.map((attempt) => (
          <Attempt key={attempt.sequence} attempt={attempt} />
        ))}
      </ol>
    </section>
  );
}

function Attempt({ attempt }: { attempt: AttemptView }) {
  const { latency_ms } = attempt.usage;
  const { route } = attempt;
  return (
    <li className="error-group">
      <p>
        <b>{spaced(attempt.kind)}</b>, attempt {attempt.attempt}, {localTime(attempt.stored_at)}, by{" "}
        <Foreign>{attempt.model}</Foreign>
        {route !== null && (
          <span data-testid="attempt-route" title={route}>
            {" "}
            over <Foreign>{attempt.address ?? attempt.provider}</Foreign>
          </span>
        )}{" "}
        on <Foreign>{attempt.node ?? UNKNOWN}</Foreign>,{" "}
        {latency_ms === null ? UNKNOWN : `${Math.round(latency_ms)} ms`}
        {attempt.wait_s !== null && `, waited ${duration(attempt.wait_s * 1000)}`}
      </p>
      {attempt.message && <Foreign>{attempt.message}</Foreign>}
      {attempt.answer && (
        <pre className="long-text" tabIndex={0}>
          <Foreign>{attempt.answer}</Foreign>
        </pre>
      )}
    </li>
  );
}
