/** The hub: what runs, what is stuck, what was made; now, or as of a sequence of the past. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";

import { getStatistics, listBatches } from "../calls";
import { LIVE_STATES, type BatchView } from "../contract";
import { store } from "../live/session";
import { pastWorld, PRESENT, WorldContext } from "../live/world";
import { useAt } from "../place";
import { wordsOf } from "../words";
import { Answered } from "./Answered";
import { HeaderCard } from "./HeaderCard";
import { History } from "./History";
import { Trouble } from "./parts";
import { RunningPanel } from "./RunningPanel";
import { StuckPanel } from "./StuckPanel";
import { Travel } from "./Travel";

const LIVE_MOST = 1000;
/** Moments of a replay are not held for long: each is looked at once. */
const PAST_KEPT_MS = 30_000;

export function Hub() {
  const moment = useMoment();
  return (
    // One tree for both: what is played must not begin anew when it leaves the present.
    <WorldContext value={moment.world}>
      <HeaderCard />
      <Answered>
        <HubTravel {...moment} />
        <MomentTrouble {...moment} />
        <StuckPanel />
        <RunningPanel />
        <History />
      </Answered>
    </WorldContext>
  );
}

/** The history by itself; of a moment of the past, with the way to others and back. */
export function BatchesPage() {
  const moment = useMoment();
  return (
    <WorldContext value={moment.world}>
      {moment.world.at !== null && <HubTravel {...moment} />}
      <MomentTrouble {...moment} />
      <History isPage />
    </WorldContext>
  );
}

type Moment = ReturnType<typeof useMoment>;

function MomentTrouble({ error, retry }: Moment) {
  if (!error) return null;
  return <Trouble what="That moment could not be read" words={wordsOf(error)} retry={retry} />;
}

const NONE: readonly BatchView[] = [];

/** The moment that the address names: what lived then, and when the batch ended that had last. */
function useMoment() {
  const at = useAt();
  const live = useQuery({
    queryKey: ["past", at, "live"],
    queryFn: ({ signal }) => listBatches({ states: LIVE_STATES, limit: LIVE_MOST, at }, signal),
    placeholderData: keepPreviousData,
    gcTime: PAST_KEPT_MS,
    enabled: at !== null,
  });
  const ended = useQuery({
    queryKey: ["past", at, "ended"],
    queryFn: ({ signal }) => listBatches({ sort: "-finished", limit: 1, at }, signal),
    placeholderData: keepPreviousData,
    gcTime: PAST_KEPT_MS,
    enabled: at !== null,
  });
  const found = live.data?.batches ?? NONE;
  const isTold = live.data !== undefined;
  const time = at === null ? 0 : latest([...found, ...(ended.data?.batches ?? NONE)]);
  const world = useMemo(
    () => (at === null ? PRESENT : pastWorld(found, at, time, isTold)),
    [found, at, time, isTold],
  );
  return {
    world,
    time,
    isOld: at !== null && (live.isPlaceholderData || ended.isPlaceholderData),
    error: live.error ?? ended.error,
    retry: () => void Promise.all([live.refetch(), ended.refetch()]),
  };
}

function HubTravel({ world: { at }, time, isOld }: Moment) {
  const present = useQuery({
    queryKey: ["statistics", null],
    queryFn: ({ signal }) => getStatistics(store.movedAt(), null, signal),
  });
  const [last, setLast] = useState(1);
  const end = Math.max(present.data?.as_of ?? 0, at ?? 0, store.movedAt());
  if (end > last) setLast(end);
  if (last === 1) return null; // Nothing has happened yet that could be gone back to.
  return <Travel at={at} first={1} last={last} time={time} isOld={isOld} />;
}

/** When the latest of all that these batches went through was stored, in milliseconds. */
function latest(batches: readonly BatchView[]): number {
  const times = batches.flatMap((batch) =>
    [batch.started_at, batch.last_progress_at, batch.finished_at]
      .filter((time) => time != null)
      .map((time) => Date.parse(time)),
  );
  return Math.max(0, ...times);
}
