/** A search through all samples, step by step: it goes on until enough is found, or it is ended. */

import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";

import { searchSamples, type SampleFilter } from "./calls";
import type { Samples } from "./samplePages";

/** So many more are looked for at a time; the list asks for the next ones. */
const WANTED = 100;

export interface Search extends Omit<Samples, "facets"> {
  /** How much was looked through, 0 to 1. */
  progress: number;
  isMoving: boolean;
  isEnded: boolean;
  end(): void;
  goOn(): void;
}

/** Search for `filter.text` where that is not empty; the latest come first. */
export function useSampleSearch(filter: SampleFilter, at: number | null, isOn: boolean): Search {
  const client = useQueryClient();
  const { sort, ...wanted } = filter;
  const key = ["search", ...Object.values(wanted), at];
  const name = key.join("\n");
  const [asked, setAsked] = useState({ name, count: WANTED, isEnded: false });
  const { count, isEnded } = asked.name === name ? asked : { count: WANTED, isEnded: false };
  const steps = useInfiniteQuery({
    queryKey: key,
    queryFn: ({ pageParam: cursor, signal }) =>
      searchSamples({ ...wanted, cursor, limit: WANTED }, at, signal),
    initialPageParam: null as string | null,
    getNextPageParam: (step) => step.next_cursor,
    enabled: isOn && !isEnded,
    // Found again from its first step on, it would find later samples, too, and begin anew.
    staleTime: Infinity,
    // The same words another time are to be looked for anew.
    gcTime: 0,
  });
  const { data, error, hasNextPage, isFetching, fetchNextPage } = steps;
  const samples = useMemo(() => data?.pages.flatMap((step) => step.samples) ?? [], [data]);
  const isDue = isOn && !isEnded && !error && hasNextPage && samples.length < count;
  useEffect(() => {
    if (isDue && !isFetching) void fetchNextPage();
  }, [isDue, isFetching, fetchNextPage]);
  const isOver = data !== undefined && !hasNextPage;
  return {
    samples,
    total: isOver ? samples.length : null,
    error,
    isPending: false,
    hasMore: hasNextPage && !isEnded,
    more: () => {
      if (!isDue && hasNextPage && !isEnded) setAsked({ name, count: samples.length + WANTED, isEnded });
    },
    retry: () => void (data ? fetchNextPage() : steps.refetch()),
    progress: isOver ? 1 : (data?.pages.at(-1)?.progress ?? 0),
    isMoving: isDue || isFetching,
    isEnded,
    end: () => {
      setAsked({ name, count, isEnded: true });
      void client.cancelQueries({ queryKey: key });
    },
    goOn: () => setAsked({ name, count: samples.length + WANTED, isEnded: false }),
  };
}
