/** How the samples of one batch look: lengths and how they spread over the axes. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { getQuality } from "../calls";
import { isLive, type BatchView, type Quality } from "../contract";
import { useAt } from "../place";
import { ratingOf } from "../rating";
import { grouped, percent, rounded, spaced, wordsOf } from "../words";
import { Icon } from "./Icon";
import { Empty, Foreign, Trouble } from "./parts";

const REFRESH_MS = 5_000;

export function BatchQuality({ batch }: { batch: BatchView }) {
  const at = useAt();
  const answer = useQuery({
    queryKey: ["batch", batch.id, "quality", isLive(batch.state), at],
    queryFn: ({ signal }) => getQuality(batch, at, signal),
    placeholderData: keepPreviousData,
    refetchInterval: at === null && isLive(batch.state) ? REFRESH_MS : false,
  });
  if (answer.error) {
    return (
      <Trouble
        what="The quality report could not be read"
        words={wordsOf(answer.error)}
        retry={() => void answer.refetch()}
      />
    );
  }
  if (!answer.data) return <Empty>Reading the quality report…</Empty>;
  if (answer.data.total_samples === 0) {
    return <Empty>No sample yet, so there is nothing to measure.</Empty>;
  }
  return <Report quality={answer.data} />;
}

function Report({ quality }: { quality: Quality }) {
  const { isGood, issues } = ratingOf(quality);
  return (
    <>
      <p className={isGood ? "rating" : "rating is-poor"} data-testid="rating">
        <Icon name={isGood ? "check" : "warning"} />
        <b>{isGood ? "Good" : "Needs review"}</b>
        {issues.map((issue) => (
          <span key={issue}>{issue}</span>
        ))}
      </p>
      <dl className="fact-list" data-testid="quality">
        <Fact name="Samples" value={grouped(quality.total_samples)} />
        <Fact name="Tokens" value={grouped(quality.total_tokens)} />
        <Fact name="Tokens per sample" value={rounded(quality.average_tokens)} />
        <Fact name="Answers refused" value={grouped(quality.rejected)} />
        <Fact name="Failed" value={grouped(quality.failed)} />
      </dl>
      <Spread title="Average length in characters" values={quality.average_lengths} />
      <Spread title="Difficulties" values={quality.difficulties} />
      <Spread title="Sample types" values={quality.sample_types} />
      <Spread title="Topics" values={quality.topics} />
    </>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Spread({ title, values }: { title: string; values: Record<string, number> }) {
  const rows = Object.entries(values).sort(([, a], [, b]) => b - a);
  const most = rows[0]?.[1] ?? 0;
  if (rows.length === 0) return null;
  return (
    <section>
      <h3>{title}</h3>
      <table className="spread">
        <tbody>
          {rows.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">
                <Foreign>{spaced(name)}</Foreign>
              </th>
              <td className="number">{rounded(value)}</td>
              <td className="spread-bar" aria-hidden="true">
                <span style={{ width: `${percent(value, most)}%` }} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
