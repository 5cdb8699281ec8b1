/** Samples page after page, as far as the list was scrolled; those of a running batch grow. */

import { keepPreviousData, useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useRef } from "react";

import { getSample, getSamples, type SampleFilter } from "./calls";
import { isLive, type BatchView, type Facets, type SampleView } from "./contract";

const PAGE = 100;
const REFRESH_MS = 2_000;

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
  const isMoving = batch !== null && isLive(batch.state);
  const client = useQueryClient();
  const queryKey = ["samples", batch?.id ?? null, ...Object.values(filter), at];
  const pages = useInfiniteQuery({
    queryKey,
    queryFn: ({ pageParam: cursor, signal }) => {
      const page = { cursor, limit: PAGE, facets: cursor === null };
      return getSamples(batch, { ...filter, ...page }, at, signal);
    },
    initialPageParam: null as string | null,
    // Asked again, each page begins where the one before it now ends: no sample falls between two.
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
    // All pages are asked for again, so the more there are the more seldom.
    refetchInterval: ({ state }) =>
      isMoving && at === null && REFRESH_MS * (state.data?.pages.length ?? 1),
  });
  const { data, error, refetch } = pages;
  const wasMoving = useRef(isMoving);
  const isDue = useRef(false);
  // A first answer on its way may be of before the end, and is not asked for again while it is.
  const isFirst = pages.isPending || pages.isPlaceholderData;
  useEffect(() => {
    if (wasMoving.current && !isMoving) isDue.current = true; // The last samples came with the end.
    wasMoving.current = isMoving;
    if (!isDue.current || isFirst) return;
    isDue.current = false;
    void refetch();
  }, [isMoving, isFirst, refetch]);
  return {
    samples: useMemo(() => data?.pages.flatMap((page) => page.samples) ?? [], [data]),
    total: data?.pages[0]?.total ?? null,
    facets: data?.pages[0]?.facets ?? {},
    error,
    isPending: pages.isPending,
    hasMore: pages.hasNextPage,
    more: () => {
      // It would cut short a refresh, which may have begun after this was drawn; after an error it
      // would ask again and again.
      const isIdle = client.isFetching({ queryKey, exact: true }) === 0;
      if (pages.hasNextPage && isIdle && !error) void pages.fetchNextPage();
    },
    retry: () => void refetch(),
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
