/** A batch's log from a file, replayed here: no server is asked for anything. */

import { useState, useSyncExternalStore } from "react";

import "../styles/replay.css";
import { choose, chosenFile, onChosen } from "../replay/dropped";
import type { Checked } from "../replay/check";
import type { Opened } from "../replay/log";
import { useChecked, useOpened } from "../replay/useReplay";
import { grouped, plural } from "../words";
import { Icon } from "./Icon";
import { Empty, Foreign } from "./parts";
import { ReplayBatch } from "./ReplayBatch";

export function ReplayPage() {
  const file = useSyncExternalStore(onChosen, chosenFile);
  const state = useOpened(file);
  const checked = useChecked(file, state.kind === "open");
  return (
    <section className="card batch-page replay" data-testid="replay" data-kind={state.kind}>
      <header className="card-head">
        <h1>Replay a log</h1>
      </header>
      <div className="replay-choice">
        <label className="button file-choice">
          Choose a log file
          <input
            type="file"
            className="for-readers"
            data-testid="replay-file"
            accept=".jsonl,.ndjson,application/x-ndjson"
            onChange={({ target }) => {
              const file = target.files?.[0];
              if (file) choose(file);
              target.value = ""; // or the same file, changed, could not be chosen again
            }}
          />
        </label>
        <p className="muted">
          Choose a file, or drop one anywhere on this page. It stays on this machine, and no server
          is needed.
        </p>
      </div>
      {state.kind === "none" && (
        <Empty>
          No file yet. “Download log” on a batch's page makes one, and so does `millstream audit
          export FILE --batch ID`.
        </Empty>
      )}
      {state.kind === "opening" && (
        <p role="status">Reading the file: {Math.round(100 * state.share)} %…</p>
      )}
      {state.kind === "refused" && (
        <div className="trouble" role="alert" data-testid="replay-refused">
          <Icon name="warning" />
          <span>
            {file && <Foreign>{file.name}</Foreign>} can't be replayed.{" "}
            <Foreign>{state.words}</Foreign>
          </span>
        </div>
      )}
      {state.kind === "open" && file && (
        <>
          <Soundness name={file.name} opened={state.opened} checked={checked} />
          <Batches key={`${file.name} ${file.lastModified}`} opened={state.opened} log={state.log} />
        </>
      )}
    </section>
  );
}

function Soundness(props: { name: string; opened: Opened; checked: Checked | null }) {
  const { name, opened, checked } = props;
  const damage = checked?.damage ?? null;
  return (
    <div role="status" data-testid="replay-check" data-kind={checkedWord(checked)}>
      {!checked && (
        <p className="muted">
          <Foreign>{name}</Foreign>: {plural(opened.lines, "event")}. Checking them against the
          file's manifest…
        </p>
      )}
      {checked && damage === null && checked.erasedSince > 0 && (
        <p className="proof is-open">
          <Icon name="warning" /> <Foreign>{name}</Foreign> adds up to the root that its manifest
          names, but it says that texts of {plural(checked.erasedSince, "event")} were erased after
          its end, and nothing here vouches for what is left of these. To have that too, download
          the log again as it is now.
        </p>
      )}
      {checked && damage === null && checked.erasedSince === 0 && (
        <p className="proof is-proven">
          <Icon name="check" /> <Foreign>{name}</Foreign> is whole:{" "}
          {plural(checked.events, "event")} add up to the root that its manifest names.
          {checked.erased > 0 &&
            ` Texts of ${grouped(checked.erased)} of them were erased; redactions in the file vouch for those.`}
        </p>
      )}
      {damage !== null && (
        <p className="error-box">
          <Icon name="warning" /> <Foreign>{name}</Foreign> is damaged: <Foreign>{damage}</Foreign>.
          What is shown here is what the file says, not what the log said. Download the log again.
        </p>
      )}
      {opened.unreadable > 0 && (
        <p className="is-bad">
          {plural(opened.unreadable, "line")} can't be read by this version of the page, and{" "}
          {opened.unreadable === 1 ? "is" : "are"} left out.
        </p>
      )}
    </div>
  );
}

function checkedWord(checked: Checked | null): string {
  if (!checked) return "checking";
  if (checked.damage !== null) return "damaged";
  return checked.erasedSince > 0 ? "erased-since" : "whole";
}

function Batches({ opened, log }: { opened: Opened; log: Parameters<typeof ReplayBatch>[0]["log"] }) {
  const { batches } = opened;
  const [chosen, setChosen] = useState(batches[0]?.id ?? "");
  const batch = batches.find(({ id }) => id === chosen);
  return (
    <>
      {batches.length > 1 && (
        <label className="slot-choice">
          Batch{" "}
          <select
            data-testid="replay-batch-choice"
            value={chosen}
            onChange={({ target }) => setChosen(target.value)}
          >
            {batches.map(({ id, events }) => (
              <option key={id} value={id}>
                {`${id} (${plural(events, "event")})`}
              </option>
            ))}
          </select>
        </label>
      )}
      {batch && <ReplayBatch key={batch.id} id={batch.id} events={batch.events} log={log} />}
    </>
  );
}
