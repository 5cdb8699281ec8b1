/** Dialogs come in files of their own, after the first load; they are there before a click is. */

import { lazy, Suspense, useState, type ReactNode } from "react";

const loadConfirm = () => import("./Confirm");
const loadDetails = () => import("./Details");
const loadStart = () => import("./StartDialog");

export const Confirm = lazy(() => loadConfirm().then((file) => ({ default: file.Confirm })));
export const Details = lazy(() => loadDetails().then((file) => ({ default: file.Details })));
export const StartDialog = lazy(() => loadStart().then((file) => ({ default: file.StartDialog })));

/** Fetch the dialogs once the page has nothing better to do, so that they open at once. */
export function fetchDialogs(): void {
  const fetchAll = (): void => {
    Promise.all([loadConfirm(), loadDetails(), loadStart()]).catch((error: unknown) => {
      console.info("The dialogs are fetched when they are opened.", error);
    });
  };
  if ("requestIdleCallback" in window) requestIdleCallback(fetchAll, { timeout: 3_000 });
  else setTimeout(fetchAll, 1_000);
}

/** Draws its children from the first time that `when` holds; they then close by themselves. */
export function Later({ when, children }: { when: boolean; children: ReactNode }) {
  const [isDue, setDue] = useState(when);
  if (when && !isDue) setDue(true);
  return isDue ? <Suspense fallback={null}>{children}</Suspense> : null;
}
