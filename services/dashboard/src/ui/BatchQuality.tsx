/** How the samples of one batch look: lengths and how they spread over the axes. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";

import type { Quality } from "../analysis";
import { getQuality } from "../calls";
import { isLive, type BatchView } from "../contract";
import { useAt } from "../place";
import { ratingOf } from "../rating";
import { grouped, rounded, wordsOf } from "../words";
import { Icon } from "./Icon";
import { Empty, Trouble } from "./parts";
import { Spread } from "./Spread";

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
        <Fact name="Tokens of the samples kept" value={grouped(quality.total_tokens)} />
        <Fact name="Tokens per sample" value={rounded(quality.average_tokens)} />
        <Fact name="Answers refused" value={grouped(quality.rejected)} />
        <Fact name="Failed" value={grouped(quality.failed)} />
      </dl>
      <Spread title="Average length in characters" rows={spread(quality.average_lengths)} />
      <Spread title="Difficulties" rows={spread(quality.difficulties)} />
      <Spread title="Sample types" rows={spread(quality.sample_types)} />
      <Spread title="Topics" rows={spread(quality.topics)} />
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

function spread(values: Record<string, number>): [string, number][] {
  return Object.entries(values).sort(([, a], [, b]) => b - a);
}
