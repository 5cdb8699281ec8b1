/** Dialogs come in files of their own, after the first load; they are there before a click is. */

import { lazy, Suspense, useState, type ReactNode } from "react";

const loadConfirm = () => import("./Confirm");
const loadBatch = () => import("./BatchPage");
const loadStart = () => import("./StartDialog");
const loadReplay = () => import("./ReplayPage");

export const Confirm = lazy(() => loadConfirm().then((file) => ({ default: file.Confirm })));
export const BatchPage = lazy(() => loadBatch().then((file) => ({ default: file.BatchPage })));
export const KeyHelp = lazy(() => import("./KeyHelp").then((file) => ({ default: file.KeyHelp })));
export const StatisticsPage = lazy(() =>
  import("./StatisticsPage").then((file) => ({ default: file.StatisticsPage })),
);
export const SamplesPage = lazy(() =>
  import("./SamplesPage").then((file) => ({ default: file.SamplesPage })),
);
export const SettingsPage = lazy(() =>
  import("./SettingsPage").then((file) => ({ default: file.SettingsPage })),
);
export const ReplayPage = lazy(() => loadReplay().then((file) => ({ default: file.ReplayPage })));
export const NodesPage = lazy(() =>
  import("./NodesPage").then((file) => ({ default: file.NodesPage })),
);
export const StartDialog = lazy(() => loadStart().then((file) => ({ default: file.StartDialog })));

/** Fetch the dialogs once the page has nothing better to do, so that they open at once. */
export function fetchDialogs(): void {
  const fetchAll = (): void => {
    Promise.all([loadConfirm(), loadBatch(), loadStart(), readyForFiles()]).catch(
      (error: unknown) => {
        console.info("The dialogs are fetched when they are opened.", error);
      },
    );
  };
  if ("requestIdleCallback" in window) requestIdleCallback(fetchAll, { timeout: 3_000 });
  else setTimeout(fetchAll, 1_000);
}

/** From here on a log that is dropped on the page is replayed, whether or not the server is there. */
async function readyForFiles(): Promise<void> {
  const [{ listenForFiles }] = await Promise.all([import("../replay/dropped"), loadReplay()]);
  await listenForFiles();
}

/** Draws its children from the first time that `when` holds; they then close by themselves. */
export function Later({ when, children }: { when: boolean; children: ReactNode }) {
  const [isDue, setDue] = useState(when);
  if (when && !isDue) setDue(true);
  return isDue ? <Suspense fallback={null}>{children}</Suspense> : null;
}
