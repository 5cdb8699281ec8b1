/** The toasts now on show. Errors stay until dismissed, others leave by themselves. */

import { keep } from "./kept";

export type NoticeKind = "success" | "info" | "warning" | "error";

export interface Notice {
  id: number;
  kind: NoticeKind;
  title: string;
  text: string;
  /** The batch that it is of. */
  batch?: string;
  /** What is told, so that all tabs of a browser together keep it once; else it is this tab's own. */
  fact?: string;
}

const SHOWN = 4;
const STAY_MS = 8_000;

const listeners = new Set<() => void>();
let notices: readonly Notice[] = [];
let lastId = 0;

export const currentNotices = (): readonly Notice[] => notices;

export function onNotices(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Show a toast, and keep it for the bell; when many come at once the oldest make room. */
export function notify(notice: Omit<Notice, "id">): void {
  lastId += 1;
  keep(notice);
  const id = lastId;
  change([...notices, { ...notice, id }].slice(-SHOWN));
  if (notice.kind !== "error") setTimeout(() => dismiss(id), STAY_MS);
}

export function dismiss(id: number): void {
  change(notices.filter((notice) => notice.id !== id));
}

function change(next: readonly Notice[]): void {
  notices = next;
  for (const listener of [...listeners]) listener();
}
