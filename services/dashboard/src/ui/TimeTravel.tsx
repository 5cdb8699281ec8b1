/** The batch as it was at a sequence: a slider over its life. */

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { getBatch, getEvents } from "../calls";
import type { BatchView } from "../contract";
import { Travel } from "./Travel";

export function TimeTravel(props: {
  batch: BatchView;
  at: number | null;
  newest: number | undefined;
  time: number;
  isOld: boolean;
}) {
  const { batch, at, time, isOld } = props;
  const begin = useQuery({
    queryKey: ["batch", batch.id, "begin"],
    queryFn: ({ signal }) => getEvents(batch, { after: 0, limit: 1 }, null, signal),
    staleTime: Infinity,
  });
  const present = useQuery({
    queryKey: ["batch", batch.id, "view", null],
    queryFn: ({ signal }) => getBatch(batch.id, undefined, signal),
    enabled: at !== null && props.newest === undefined,
  });
  const [last, setLast] = useState(batch.sequence);
  const newest = props.newest ?? present.data?.batch.sequence ?? 0;
  const end = Math.max(newest, batch.sequence, at ?? 0);
  if (end > last) setLast(end);
  const first = begin.data?.events[0]?.sequence ?? batch.sequence;
  const isReady = begin.data !== undefined;
  return <Travel {...{ at, first, last, time, isOld, isReady }} />;
}
