/** How all samples ever made spread over difficulties, types and topics. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { getStatistics } from "../calls";
import type { Tally } from "../contract";
import { store } from "../live/session";
import { grouped, wordsOf } from "../words";
import { Trouble } from "./parts";
import { Spread } from "./Spread";

const TOPICS_MOST = 15;
const REFRESH_MS = 10_000;

export function useAllSamples() {
  return useQuery({
    queryKey: ["statistics", null],
    queryFn: ({ signal }) => getStatistics(store.movedAt(), null, signal),
    placeholderData: keepPreviousData,
    refetchInterval: REFRESH_MS,
  });
}

export function AllSamples({ data, error, refetch }: ReturnType<typeof useAllSamples>) {
  if (error) {
    return (
      <Trouble
        what="How the samples spread could not be read"
        words={wordsOf(error)}
        retry={() => void refetch()}
      />
    );
  }
  if (!data || data.total === 0) return null;
  const topics = data.topics.slice(0, TOPICS_MOST);
  const isCut = topics.length < data.topics.length;
  const title = isCut ? `The first ${topics.length} of ${grouped(data.topics.length)} topics` : "Topics";
  return (
    <section className="measure" aria-labelledby="all-samples">
      <h2 id="all-samples">All samples, of all times and models</h2>
      <Spread title="Difficulties" rows={data.difficulties.map(pair)} testid="spread-difficulties" />
      <Spread title="Sample types" rows={data.sample_types.map(pair)} testid="spread-sample_types" />
      <Spread title={title} rows={topics.map(pair)} testid="spread-topics" />
    </section>
  );
}

function pair({ name, count }: Tally): readonly [string, number] {
  return [name, count];
}
