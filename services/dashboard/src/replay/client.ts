/** The page's workers that read logs. */

import workerAddress from "./folding?worker&url";
import { LogWorker } from "./logWorker";

/** Have the browser keep the worker's script, so that it starts without the server too. */
export async function fetchWorker(): Promise<void> {
  await fetch(workerAddress);
}

export const newWorker = (): LogWorker => new LogWorker(workerAddress);

let spare: LogWorker | null = null;

/** Have a worker ready, so that the next file need not wait until one has started. */
export function prepareWorker(): void {
  if (!spare || spare.isBroken) spare = newWorker();
}

/** A worker of one's own, the one that was prepared if there is one. */
export function takeWorker(): LogWorker {
  const taken = spare && !spare.isBroken ? spare : newWorker();
  spare = null;
  return taken;
}
