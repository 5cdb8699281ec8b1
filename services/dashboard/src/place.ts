/** The batch whose details are open, kept in the address so that it can be shared. */

import { useSyncExternalStore } from "react";

const BATCH = /^#(batch_[0-9a-f_]+)$/;

function openBatch(): string | null {
  return BATCH.exec(location.hash)?.[1] ?? null;
}

function onHash(listener: () => void): () => void {
  window.addEventListener("hashchange", listener);
  return () => window.removeEventListener("hashchange", listener);
}

/** The id in the address, or null. */
export function useOpenBatch(): string | null {
  return useSyncExternalStore(onHash, openBatch);
}

export function showBatch(id: string): void {
  location.hash = id;
}

/** Close the details without moving the page. */
export function closeBatch(): void {
  history.pushState(null, "", location.pathname + location.search);
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}
