/** The whole page: its frame, and what the address names. */

import { Suspense, useCallback, useEffect, useMemo, useState } from "react";

import { useConnection, useCountsNow } from "../live/hooks";
import { readAt, usePlace, type Place } from "../place";
import { Broken } from "./Broken";
import { StaleNote, VersionNote } from "./Connection";
import { BatchesPage, Hub } from "./Hub";
import { EVERYWHERE, useKeys } from "./keys";
import {
  BatchPage,
  fetchDialogs,
  KeyHelp,
  Later,
  NodesPage,
  ReplayPage,
  SamplesPage,
  SettingsPage,
  StatisticsPage,
} from "./later";
import { Link } from "./Link";
import { PageFocus } from "./PageFocus";
import { Foreign } from "./parts";
import { Toasts } from "./Toasts";
import { TopBar } from "./TopBar";
import { grouped, shortId } from "../words";

export function App() {
  const { running } = useCountsNow();
  const { state } = useConnection();
  const isConnecting = state === "connecting";
  const place = usePlace();
  useEffect(() => {
    // What the hub itself needs comes first.
    if (!isConnecting) fetchDialogs();
  }, [isConnecting]);
  const title = titleOf(place);
  useEffect(() => showCount(running, title), [running, title]);
  const [isHelping, setHelping] = useState(false);
  const help = useCallback(() => setHelping(true), []);
  useKeys(useMemo(() => ({ ...EVERYWHERE, "?": help }), [help]));
  return (
    <>
      <TopBar help={help} />
      <main id="hub" className={state === "offline" ? "is-stale" : undefined}>
        <VersionNote />
        <StaleNote />
        <Broken key={place.page}>
          <Suspense fallback={<Opening />}>
            <MomentNote query={place.query} />
            <Content place={place} />
            <PageFocus key={`${place.page} ${place.id}`} place={place} />
          </Suspense>
        </Broken>
      </main>
      <Later when={isHelping}>
        <KeyHelp isOpen={isHelping} onClose={() => setHelping(false)} />
      </Later>
      <Toasts />
    </>
  );
}

function titleOf({ page, id }: Place): string | null {
  if (page === "hub") return null;
  return page === "batch" ? shortId(id) : page.charAt(0).toUpperCase() + page.slice(1);
}

/** Tell in the browser's own bar how many batches run, and what is looked at. */
function showCount(running: number, title: string | null): void {
  const counted = running > 0 ? `${grouped(running)} running` : null;
  document.title = [counted, title, "Millstream"].filter((one) => one !== null).join(" · ");
  const icon = document.querySelector<HTMLLinkElement>('link[rel="icon"]');
  if (!icon) return;
  icon.dataset.plain ??= icon.href;
  const numbered = `/icons/${running > 9 ? "9+" : running}.svg`;
  icon.href = running > 0 && import.meta.env.PROD ? numbered : icon.dataset.plain;
}

/** Says so where an address names a moment that is none. */
function MomentNote({ query }: { query: URLSearchParams }) {
  const at = query.get("at");
  if (!at || readAt(query) !== null) return null;
  return (
    <p className="version-note" role="status" data-testid="moment-note">
      <span>
        <Foreign>{`at=${at}`}</Foreign> is no sequence of the log: this is the present.
      </span>
    </p>
  );
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
      return <BatchesPage />;
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
