/** Samples to look through: filters, a list as long as they are many, and the one that is read. */

import { useEffect, useRef } from "react";

import { SEARCH_MOST } from "../calls";
import type { BatchView, Facets } from "../contract";
import { addressWith, go, useAt, useParameter } from "../place";
import { useSample, useSamples } from "../samplePages";
import { useSampleSearch, type Search } from "../sampleSearch";
import { useSettled } from "../settled";
import { grouped, plural, spaced, wordsOf } from "../words";
import { Empty, Trouble } from "./parts";
import { SampleList } from "./SampleList";
import { SampleReader } from "./SampleReader";

const FACETS = [
  ["topics", "Topic", "topic"],
  ["difficulties", "Difficulty", "difficulty"],
  ["sample_types", "Type", "sample_type"],
  ["models", "Model", "model"],
] as const;

/** Where the sample that is read stands below the list; as in samples.css. */
const STACKED = "(max-width: 800px)";

const show = (changes: Record<string, string | null>): void => go(addressWith(changes), true);

/** The samples of one batch, or of all where it is null. */
export function SampleBrowser({ batch }: { batch: BatchView | null }) {
  const [text, setText] = useParameter("text");
  const [topic] = useParameter("topic");
  const [difficulty] = useParameter("difficulty");
  const [sample_type] = useParameter("sample_type");
  const [model] = useParameter("model");
  const [sort, setSort] = useParameter("order", batch ? "stored" : "-stored");
  const [chosen] = useParameter("sample");
  const [pinned] = useParameter("with");
  const at = useAt();
  const reading = useRef<HTMLDivElement>(null);
  const search = useSettled(text.trim());
  const filter = { text: search, topic, difficulty, sample_type, model, sort };
  // A text is looked for in one batch at once, in all of them step by step.
  const isSearch = batch === null && search !== "";
  const listed = useSamples(batch, isSearch ? { ...filter, text: "" } : filter, at);
  const searched = useSampleSearch(filter, at, isSearch);
  const found = isSearch ? { ...searched, facets: listed.facets } : listed;
  const values = { topic, difficulty, sample_type, model };
  const isNarrowed = [search, ...Object.values(values)].some((value) => value !== "");
  return (
    <div className="sample-browser">
      <div className="facets">
        {FACETS.map(([name, label, parameter]) => (
          <Facet
            key={name}
            name={name}
            label={label}
            facets={found.facets}
            isCounted={!isSearch}
            value={values[parameter]}
            choose={(value) => show({ [parameter]: value })}
          />
        ))}
        <label>
          Order{" "}
          <select
            data-testid="samples-order"
            value={isSearch ? "-stored" : sort}
            disabled={isSearch}
            title={isSearch ? "A search gives the newest first" : undefined}
            onChange={(event) => setSort(event.target.value)}
          >
            <option value="stored">oldest first</option>
            <option value="-stored">newest first</option>
          </select>
        </label>
      </div>
      <div className="search-line">
        <input
          type="search"
          data-testid="samples-search"
          aria-label={batch ? "Search the samples of this batch" : "Search all samples"}
          placeholder="Search in the samples"
          maxLength={SEARCH_MOST}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <span className="muted" role="status" data-testid="samples-total">
          {isSearch
            ? foundWords(searched)
            : found.total === null
              ? ""
              : plural(found.total, "sample")}
        </span>
      </div>
      {isSearch && <Searching search={searched} />}
      {found.error && (
        <Trouble
          what="The samples could not be read"
          words={wordsOf(found.error)}
          retry={found.retry}
        />
      )}
      {found.isPending && <Empty>Reading the samples…</Empty>}
      {found.total === 0 && found.samples.length === 0 && (
        <Empty testid="samples-empty">
          {isNarrowed
            ? "No sample contains this text, or none has these values. Choose fewer."
            : batch
              ? "No sample yet. The first one shows here as soon as it is stored."
              : "No sample yet. Start a batch on the hub; its samples show here."}
        </Empty>
      )}
      {found.samples.length > 0 && (
        <div className="sample-panes">
          <SampleList
            samples={found.samples}
            total={found.total ?? found.samples.length}
            hasBatches={batch === null}
            chosen={chosen}
            pinned={pinned}
            choose={(id) => show({ sample: id })}
            onPress={() => matchMedia(STACKED).matches && reading.current?.scrollIntoView()}
            hasMore={found.hasMore}
            more={found.more}
          />
          <div className="sample-read" ref={reading}>
            <Shown samples={found.samples} chosen={chosen} pinned={pinned} at={at} />
          </div>
        </div>
      )}
    </div>
  );
}

function foundWords({ samples, total }: Search): string {
  return `${plural(samples.length, "sample")} found${total === null ? " so far" : ""}`;
}

/** How far a search has come, and the way to end it. */
function Searching({ search }: { search: Search }) {
  const percent = Math.floor(100 * search.progress);
  if (search.total !== null || search.error) return null;
  return (
    <div className="search-line" data-testid="search-progress" data-moving={search.isMoving}>
      <progress max={100} value={percent} aria-label="Looked through" />
      <span className="muted">
        {`${percent} % looked through${search.isEnded ? ", ended" : ""}`}
      </span>
      {search.isMoving && !search.isEnded ? (
        <button type="button" data-testid="search-end" onClick={search.end}>
          End the search
        </button>
      ) : (
        <button type="button" data-testid="search-on" onClick={search.goOn}>
          Search on
        </button>
      )}
    </div>
  );
}

/** The chosen sample, at the side of the pinned one if there is one; the first until one is. */
function Shown(props: {
  samples: Parameters<typeof useSample>[1];
  chosen: string;
  pinned: string;
  at: number | null;
}) {
  const { samples, pinned, at } = props;
  const first = samples[0]?.id ?? "";
  const { sample, error } = useSample(props.chosen || first, samples, at);
  const other = useSample(pinned, samples, at);
  useEffect(() => {
    if (!props.chosen && first) show({ sample: first });
  }, [props.chosen, first]);
  if (error) return <p className="row-error">{wordsOf(error)}</p>;
  if (!sample) return <Empty>There is no such sample. Choose one of the list.</Empty>;
  return (
    <SampleReader
      sample={sample}
      pinned={other.sample}
      pin={(id) => show({ with: id })}
      swap={() => show({ sample: pinned, with: sample.id })}
    />
  );
}

/** One filter with its values and how many samples each leaves. */
function Facet(props: {
  name: string;
  label: string;
  facets: Facets;
  /** The counts are of what is listed. */
  isCounted: boolean;
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
            {props.name === "models" ? name : spaced(name)}
            {props.isCounted && ` (${grouped(count)})`}
          </option>
        ))}
      </select>
    </label>
  );
}
