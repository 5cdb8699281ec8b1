/** The whole page. */

import { useEffect } from "react";

import { useConnection, useLiveIds } from "../live/hooks";
import { useOpenBatch } from "../place";
import { HeaderCard } from "./HeaderCard";
import { History } from "./History";
import { Details, fetchDialogs, Later } from "./later";
import { RunningPanel } from "./RunningPanel";
import { StaleNote } from "./Connection";
import { StuckPanel } from "./StuckPanel";
import { Toasts } from "./Toasts";
import { TopBar } from "./TopBar";

export function App() {
  const running = useLiveIds().length;
  const isOffline = useConnection().state === "offline";
  const openBatch = useOpenBatch();
  useEffect(fetchDialogs, []);
  useEffect(() => {
    document.title = running > 0 ? `${running} running · Millstream` : "Millstream";
  }, [running]);
  return (
    <>
      <TopBar />
      <main id="hub" className={isOffline ? "is-stale" : undefined}>
        <StaleNote />
        <HeaderCard />
        <StuckPanel />
        <RunningPanel />
        <History />
      </main>
      <Later when={openBatch !== null}>
        <Details />
      </Later>
      <Toasts />
    </>
  );
}
