/** The whole page: its frame, and what the address names. */

import { Suspense, useEffect } from "react";

import { useConnection, useCountsNow } from "../live/hooks";
import { usePlace, type Place } from "../place";
import { Broken } from "./Broken";
import { StaleNote, VersionNote } from "./Connection";
import { History } from "./History";
import { Hub } from "./Hub";
import {
  BatchPage,
  fetchDialogs,
  NodesPage,
  ReplayPage,
  SamplesPage,
  SettingsPage,
  StatisticsPage,
} from "./later";
import { Link } from "./Link";
import { Toasts } from "./Toasts";
import { TopBar } from "./TopBar";
import { grouped } from "../words";

export function App() {
  const { running } = useCountsNow();
  const { state } = useConnection();
  const isConnecting = state === "connecting";
  const place = usePlace();
  useEffect(() => {
    // What the hub itself needs comes first.
    if (!isConnecting) fetchDialogs();
  }, [isConnecting]);
  useEffect(() => showCount(running), [running]);
  return (
    <>
      <TopBar />
      <main id="hub" className={state === "offline" ? "is-stale" : undefined}>
        <VersionNote />
        <StaleNote />
        <Broken key={place.page}>
          <Suspense fallback={<Opening />}>
            <Content place={place} />
          </Suspense>
        </Broken>
      </main>
      <Toasts />
    </>
  );
}

/** Tell in the browser's own bar how many batches run. */
function showCount(running: number): void {
  document.title = running > 0 ? `${grouped(running)} running · Millstream` : "Millstream";
  const icon = document.querySelector<HTMLLinkElement>('link[rel="icon"]');
  if (!icon) return;
  icon.dataset.plain ??= icon.href;
  const counted = `/icons/${running > 9 ? "9+" : running}.svg`;
  icon.href = running > 0 && import.meta.env.PROD ? counted : icon.dataset.plain;
}

function Opening() {
  return (
    <section className="card">
      <h1>Opening the page…</h1>
    </section>
  );
}

function Content({ place }: { place: Place }) {
  switch (place.page) {
    case "hub":
      return <Hub />;
    case "batches":
      return <History isPage />;
    case "batch":
      return <BatchPage key={place.id} id={place.id} />;
    case "samples":
      return <SamplesPage />;
    case "statistics":
      return <StatisticsPage />;
    case "replay":
      return <ReplayPage />;
    case "nodes":
      return <NodesPage />;
    case "settings":
      return <SettingsPage />;
    case "nowhere":
      return (
        <section className="card">
          <h1>There is no such page</h1>
          <p>
            <Link to="/">Go to the hub</Link>, or choose a section above.
          </p>
        </section>
      );
  }
}
