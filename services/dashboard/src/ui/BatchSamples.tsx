/** The samples of one batch, a page at a time, with a search over their text. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { getSamples, SEARCH_MOST } from "../calls";
import { isLive, type BatchView, type Facets, type SampleView } from "../contract";
import { useAt, useParameter } from "../place";
import { useSettled } from "../settled";
import { plural, spaced, wordsOf } from "../words";
import { Empty, Foreign, Pager, Trouble } from "./parts";

const PAGE = 20;
const REFRESH_MS = 2_000;

export function BatchSamples({ batch }: { batch: BatchView }) {
  const [text, setText] = useParameter("text");
  const [topic, setTopic] = useParameter("topic");
  const [difficulty, setDifficulty] = useParameter("difficulty");
  const [sample_type, setType] = useParameter("sample_type");
  const at = useAt();
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const search = useSettled(text.trim());
  const cursor = cursors.at(-1) ?? null;
  const page = useQuery({
    queryKey: ["batch", batch.id, "samples", isLive(batch.state), search, topic, difficulty, sample_type, cursor, at],
    queryFn: ({ signal }) => {
      const filter = { text: search, topic, difficulty, sample_type };
      return getSamples(batch, { ...filter, cursor, limit: PAGE, facets: true }, at, signal);
    },
    placeholderData: keepPreviousData,
    refetchInterval: at === null && isLive(batch.state) ? REFRESH_MS : false,
  });
  const samples = page.data?.samples ?? [];
  const narrow = (change: (value: string) => void) => (value: string) => {
    change(value);
    setCursors([]);
  };
  const facets = page.data?.facets ?? {};
  return (
    <>
      <div className="facets">
        <Facet name="topics" label="Topic" facets={facets} value={topic} choose={narrow(setTopic)} />
        <Facet
          name="difficulties"
          label="Difficulty"
          facets={facets}
          value={difficulty}
          choose={narrow(setDifficulty)}
        />
        <Facet
          name="sample_types"
          label="Type"
          facets={facets}
          value={sample_type}
          choose={narrow(setType)}
        />
      </div>
      <div className="search-line">
        <input
          type="search"
          data-testid="samples-search"
          aria-label="Search the samples of this batch"
          placeholder="Search in the samples"
          maxLength={SEARCH_MOST}
          value={text}
          onChange={(event) => {
            setText(event.target.value);
            setCursors([]);
          }}
        />
        {page.data && <span className="muted">{plural(page.data.total, "sample")}</span>}
      </div>
      {page.error && (
        <Trouble
          what="The samples could not be read"
          words={wordsOf(page.error)}
          retry={() => void page.refetch()}
        />
      )}
      {page.isPending && <Empty>Reading the samples…</Empty>}
      {page.data && samples.length === 0 && (
        <Empty>
          {search || topic || difficulty || sample_type
            ? "No sample contains this text, or none has these values. Choose fewer."
            : "No sample yet. The first one shows here as soon as it is stored."}
        </Empty>
      )}
      <ul className="samples">
        {samples.map((sample) => (
          <Sample key={sample.id} sample={sample} />
        ))}
      </ul>
      <Pager
        page={cursors.length}
        label="Pages of samples"
        hasNext={page.data?.next_cursor != null}
        onPrevious={() => setCursors(cursors.slice(0, -1))}
        onNext={() => page.data?.next_cursor && setCursors([...cursors, page.data.next_cursor])}
      />
    </>
  );
}

/** One filter with its values and how many samples each leaves. */
function Facet(props: {
  name: string;
  label: string;
  facets: Facets;
  value: string;
  choose(value: string): void;
}) {
  const tallies = props.facets[props.name] ?? [];
  const isKnown = tallies.some(({ name }) => name === props.value);
  return (
    <label>
      {props.label}{" "}
      <select
        data-testid={`facet-${props.name}`}
        value={props.value}
        onChange={(event) => props.choose(event.target.value)}
      >
        <option value="">all</option>
        {props.value && !isKnown && <option>{props.value}</option>}
        {tallies.map(({ name, count }) => (
          <option key={name} value={name}>
            {`${spaced(name)} (${count.toLocaleString()})`}
          </option>
        ))}
      </select>
    </label>
  );
}

function Sample({ sample }: { sample: SampleView }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <li>
      <details data-testid="sample" onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>
          <span className="mono">#{sample.slot}</span>
          <Foreign>{sample.topic}</Foreign>
          <span className="tag">{spaced(sample.difficulty)}</span>
          <span className="tag">{spaced(sample.sample_type)}</span>
        </summary>
        {isOpen && <SampleContent sample={sample} />}
      </details>
    </li>
  );
}

function SampleContent({ sample }: { sample: SampleView }) {
  return (
    <dl className="sample-content">
      {Object.entries(sample.content).map(([name, value]) => (
        <div key={name}>
          <dt>{spaced(name)}</dt>
          <dd className="long-text" tabIndex={0}>
            <Foreign>{typeof value === "string" ? value : JSON.stringify(value, null, 2)}</Foreign>
          </dd>
        </div>
      ))}
      <div>
        <dt>made by</dt>
        <dd>
          <Foreign>{sample.model}</Foreign>, attempt {sample.attempt}
        </dd>
      </div>
    </dl>
  );
}
