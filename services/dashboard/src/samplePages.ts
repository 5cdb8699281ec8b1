/** Samples page after page, as far as the list was scrolled; the last page follows the stream. */

import { keepPreviousData, useQueries, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { getSample, getSamples, type SampleFilter } from "./calls";
import { isLive, type BatchView, type Facets, type SampleView } from "./contract";

const PAGE = 100;
const REFRESH_MS = 2_000;
const FIRST: readonly (string | null)[] = [null];

export interface Samples {
  samples: readonly SampleView[];
  total: number | null;
  facets: Facets;
  error: Error | null;
  isPending: boolean;
  hasMore: boolean;
  more(): void;
  retry(): void;
}

export function useSamples(
  batch: BatchView | null,
  filter: SampleFilter,
  at: number | null,
): Samples {
  const isMoving = at === null && batch !== null && isLive(batch.state);
  const asked = ["samples", batch?.id ?? null, isMoving, ...Object.values(filter), at];
  const name = JSON.stringify(asked);
  // Each page has the cursor that the one before it ended with.
  const [opened, setOpened] = useState({ name, cursors: FIRST });
  if (opened.name !== name) setOpened({ name, cursors: FIRST });
  const { cursors } = opened.name === name ? opened : { cursors: FIRST };
  const pages = useQueries({
    queries: cursors.map((cursor, place) => ({
      queryKey: [...asked, cursor],
      queryFn: ({ signal }: { signal: AbortSignal }) =>
        getSamples(batch, { ...filter, cursor, limit: PAGE, facets: place === 0 }, at, signal),
      ...(place === 0 ? { placeholderData: keepPreviousData } : {}),
      // Of a running batch the first page has the counts, and the last one grows.
      refetchInterval: isMoving && (place === 0 || place === cursors.length - 1) && REFRESH_MS,
    })),
  });
  const [first, last] = [pages[0], pages.at(-1)];
  const next = last?.data?.next_cursor ?? null;
  return {
    samples: pages.flatMap(({ data }) => data?.samples ?? []),
    total: first?.data?.total ?? null,
    facets: first?.data?.facets ?? {},
    error: pages.find(({ error }) => error)?.error ?? null,
    isPending: first?.isPending ?? true,
    hasMore: next !== null,
    more: () => {
      if (next !== null && !last?.isPlaceholderData && !cursors.includes(next))
        setOpened({ name, cursors: [...cursors, next] });
    },
    retry: () => void Promise.all(pages.map((page) => page.refetch())),
  };
}

/** One sample by its id: of those at hand, else asked for; null where there is none. */
export function useSample(id: string, held: readonly SampleView[], at: number | null) {
  const found = held.find((sample) => sample.id === id);
  const asked = useQuery({
    queryKey: ["sample", id, at],
    queryFn: ({ signal }) => getSample(id, at, signal),
    enabled: id !== "" && found === undefined,
    staleTime: Infinity,
  });
  return { sample: found ?? asked.data ?? null, error: found ? null : asked.error };
}
