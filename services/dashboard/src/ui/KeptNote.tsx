/** Says so where something would be kept and the browser keeps nothing. */

import { useSyncExternalStore, type ReactNode } from "react";

import { isKeeping, onKeeping } from "../preferences";

export function KeptNote({ otherwise = null }: { otherwise?: ReactNode }) {
  const keeps = useSyncExternalStore(onKeeping, isKeeping);
  if (keeps) return otherwise;
  return (
    <small role="status" data-testid="keeps-nothing">
      This browser keeps nothing: it lasts until you reload.
    </small>
  );
}
