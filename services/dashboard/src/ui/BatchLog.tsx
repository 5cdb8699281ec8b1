/** The batch's own log: proven against the read model's answer, downloaded, replayed. */

import { useEffect } from "react";

import "../styles/replay.css";
import { logAddress } from "../calls";
import { isLive, type BatchView } from "../contract";
import { useAt } from "../place";
import type { Difference } from "../replay/prove";
import { useProof, type ProofState } from "../replay/useProof";
import { grouped, plural, spaced } from "../words";
import { Icon } from "./Icon";
import { Link } from "./Link";
import { Foreign } from "./parts";

/** An ended batch of so many slots at most is proven without being asked. */
const CHEAP_SLOTS = 500;

export function BatchLog({ batch }: { batch: BatchView }) {
  const at = useAt();
  const { state, start, cancel } = useProof(batch.id, at);
  const isCheap = at === null && !isLive(batch.state) && batch.target <= CHEAP_SLOTS;
  useEffect(() => {
    if (isCheap) start();
  }, [isCheap, start]);
  const isRunning = state.kind === "running";
  return (
    <section className="batch-log">
      <h3>The log behind these numbers</h3>
      <div className="commands">
        <button type="button" data-testid="prove" disabled={isRunning} onClick={start}>
          {state.kind === "none" ? "Prove these numbers" : "Prove again"}
        </button>
        {isRunning && (
          <button type="button" data-testid="prove-cancel" onClick={cancel}>
            Cancel
          </button>
        )}
        <a
          className="button"
          data-testid="download-log"
          href={logAddress(batch.id, at ?? batch.sequence)}
          download
        >
          Download log
        </a>
        <Link to="/replay">Replay a file</Link>
      </div>
      <Outcome state={state} />
    </section>
  );
}

function Outcome({ state }: { state: ProofState }) {
  return (
    <div role="status" data-testid="proof" data-kind={state.kind}>
      <OutcomeWords state={state} />
    </div>
  );
}

function OutcomeWords({ state }: { state: ProofState }) {
  switch (state.kind) {
    case "none":
      return null;
    case "running":
      return <p>Folding the log here: {plural(state.events, "event")} so far…</p>;
    case "proven":
      return (
        <>
          <p className="proof is-proven">
            <Icon name="check" /> Proven at sequence {grouped(state.sequence)}:{" "}
            {plural(state.events, "event")} folded here give the same digest as the read model's
            answer.
            {state.erased > 0 &&
              ` Texts of ${grouped(state.erased)} of them were erased; redactions in the log vouch for those.`}
          </p>
          <p className="muted mono digest">{state.digest}</p>
        </>
      );
    case "differs":
      return (
        <div className="error-box">
          <p>
            <Icon name="warning" /> Not proven: at sequence {grouped(state.sequence)}{" "}
            the read model's answer differs in {plural(state.differences.length, "field")} from{" "}
            {plural(state.events, "event")} of the log folded here. The log is right: have the read
            model made anew (`millstream audit rebuild`), and look into why (`millstream audit
            verify`).
          </p>
          <Differences differences={state.differences} />
        </div>
      );
    case "unproven":
    case "failed":
      return (
        <p className="proof is-open">
          <Icon name="warning" /> Not proven: <Foreign>{state.words}</Foreign>
        </p>
      );
  }
}

function Differences({ differences }: { differences: readonly Difference[] }) {
  return (
    <div className="table-scroll" tabIndex={0} role="region" aria-label="Fields that differ">
      <table>
        <thead>
          <tr>
            <th scope="col">Field</th>
            <th scope="col">The log folds to</th>
            <th scope="col">The read model says</th>
          </tr>
        </thead>
        <tbody>
          {differences.map(({ field, folded, answered }) => (
            <tr key={field} data-testid="difference" data-field={field}>
              <th scope="row">
                <Foreign>{spaced(field)}</Foreign>
              </th>
              <td>
                <Foreign>{folded}</Foreign>
              </td>
              <td>
                <Foreign>{answered}</Foreign>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
