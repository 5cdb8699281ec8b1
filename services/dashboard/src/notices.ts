/** The toasts now on show. Errors stay until dismissed, others leave by themselves. */

export type NoticeKind = "success" | "info" | "warning" | "error";

export interface Notice {
  id: number;
  kind: NoticeKind;
  title: string;
  text: string;
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

/** Show a toast; when many come at once the oldest make room. */
export function notify(notice: Omit<Notice, "id">): void {
  lastId += 1;
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
