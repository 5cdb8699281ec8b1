/** One sample in full, or beside another one; as fields or as the JSON that it is. */

import { useEffect, useState } from "react";

import { copyText } from "../clipboard";
import type { SampleView } from "../contract";
import { batchAddress } from "../place";
import { asJson, originOf, textOf } from "../sampleWords";
import { shortId, spaced } from "../words";
import { Link } from "./Link";
import { Foreign } from "./parts";
import { SampleDiff } from "./SampleDiff";

const TOLD_MS = 2_000;

export function SampleReader(props: {
  sample: SampleView;
  pinned: SampleView | null;
  pin(id: string | null): void;
  swap(): void;
}) {
  const { sample, pinned } = props;
  const [isRaw, setRaw] = useState(false);
  const isBeside = pinned !== null && pinned.id !== sample.id;
  return (
    <article className="sample-reader" data-testid="sample-reader" data-sample={sample.id}>
      <header>
        <h3>
          Sample <span className="mono">#{sample.slot}</span> of{" "}
          <Link to={batchAddress(sample.batch_id)}>{shortId(sample.batch_id)}</Link>
        </h3>
        <div className="sample-tools">
          {pinned ? (
            <>
              {isBeside && (
                <button type="button" onClick={props.swap}>
                  Swap sides
                </button>
              )}
              <button type="button" data-testid="compare-end" onClick={() => props.pin(null)}>
                Compare no more
              </button>
            </>
          ) : (
            <button type="button" data-testid="compare" onClick={() => props.pin(sample.id)}>
              Compare
            </button>
          )}
          <button
            type="button"
            data-testid="raw"
            aria-pressed={isRaw}
            onClick={() => setRaw(!isRaw)}
          >
            Raw JSON
          </button>
          <CopyButton key={sample.id} sample={sample} />
        </div>
      </header>
      {pinned && !isBeside && (
        <p className="muted" role="status">
          Choose the other sample in the list: it is shown beside this one.
        </p>
      )}
      {isBeside ? (
        <SampleDiff left={pinned} right={sample} isRaw={isRaw} />
      ) : isRaw ? (
        <Raw sample={sample} />
      ) : (
        <SampleContent sample={sample} />
      )}
    </article>
  );
}

function Raw({ sample }: { sample: SampleView }) {
  return (
    <pre className="long-text" tabIndex={0} data-testid="raw-json">
      <Foreign>{asJson(sample)}</Foreign>
    </pre>
  );
}

function SampleContent({ sample }: { sample: SampleView }) {
  return (
    <dl className="sample-content">
      {Object.entries(sample.content).map(([name, value]) => (
        <div key={name}>
          <dt>{spaced(name)}</dt>
          <dd className="long-text" tabIndex={0}>
            <Foreign>{textOf(value)}</Foreign>
          </dd>
        </div>
      ))}
      <div>
        <dt>cell</dt>
        <dd>
          <Foreign>{`${sample.area} - ${sample.topic}`}</Foreign>{" "}
          <span className="tag">{spaced(sample.difficulty)}</span>{" "}
          <span className="tag">{spaced(sample.sample_type)}</span>
        </dd>
      </div>
      <div>
        <dt>made by</dt>
        <dd>
          <Foreign>{originOf(sample)}</Foreign>
        </dd>
      </div>
    </dl>
  );
}

function CopyButton({ sample }: { sample: SampleView }) {
  const [told, setTold] = useState("");
  useEffect(() => {
    if (told === "") return undefined;
    const timer = setTimeout(() => setTold(""), TOLD_MS);
    return () => clearTimeout(timer);
  }, [told]);
  const copy = async (): Promise<void> =>
    setTold((await copyText(asJson(sample))) ? "Copied" : "Not copied: select the text instead");
  return (
    <button type="button" data-testid="copy" onClick={() => void copy()}>
      <span role="status">{told || "Copy"}</span>
    </button>
  );
}
