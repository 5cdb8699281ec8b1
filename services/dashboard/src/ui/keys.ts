/** Single keys: they work wherever nothing is being typed and no dialog is open. */

import { useEffect } from "react";

const ROWS = '#history [data-testid="history-row"]';
const SEARCH = 'main input[type="search"]';

/** Each key, what it does, and what has to be on the page for it. */
const KEYS = [
  ["j / k", "the next batch, the one before", ROWS],
  ["Enter", "open it", ROWS],
  ["x", "choose it, or let it go", `${ROWS} .choice`],
  ["s", "stop the chosen ones, or this one; asks first", `${ROWS} .choice`],
  ["↓ / ↑", "in the list, the next sample, the one before", "main .sample-list"],
  ["/", "search", SEARCH],
  ["?", "these keys", "main"],
] as const;

/** The keys that do something on the page as it is. */
export function keysHere(): readonly (readonly [key: string, what: string])[] {
  const here = KEYS.filter(([, , where]) => document.querySelector(where) !== null);
  return here.map(([key, what]) => [key, what]);
}

/** What keys do, by their names; each is told the batch of the row that has the focus. */
export type Deeds = Readonly<Record<string, (row: string | null) => void>>;

export function useKeys(deeds: Deeds): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const deed = Object.hasOwn(deeds, event.key) ? deeds[event.key] : undefined;
      if (!deed || event.ctrlKey || event.metaKey || event.altKey || isTaken(event.target)) return;
      deed(focusedRow()?.dataset.batch ?? null);
      event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    document.addEventListener("focusin", keepLast);
    return () => {
      document.removeEventListener("keydown", onKey);
      document.removeEventListener("focusin", keepLast);
    };
  }, [deeds]);
}

/** What holds on every page that has a list or a search. */
export const EVERYWHERE: Deeds = {
  j: () => move(1),
  k: () => move(-1),
  "/": () => document.querySelector<HTMLElement>(SEARCH)?.focus(),
};

/** Give the focus to the first batch of the history, or to its heading while it has none. */
export function focusHistory(): void {
  if (!focusRow(document.querySelector(ROWS))) focusText("#history-title");
}

/** Give the focus to where reading goes on, a heading or a part; it is no stop on the way by Tab. */
export function focusText(selector: string): void {
  const text = document.querySelector<HTMLElement>(selector);
  if (!text) return;
  text.tabIndex = -1;
  text.focus({ preventScroll: true });
}

/** Give the focus to what leads from a row to its batch; false where there is no such thing in sight. */
export function focusRow(row: Element | null | undefined): boolean {
  const link = row?.querySelector<HTMLElement>("a.batch-link");
  link?.focus();
  return link != null && document.activeElement === link;
}

const WITHOUT_TEXT: ReadonlySet<string> = new Set(["checkbox", "radio", "range", "file"]);

function isTaken(target: EventTarget | null): boolean {
  if (document.querySelector('[role="dialog"], [role="alertdialog"]')) return true;
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !WITHOUT_TEXT.has(target.type);
  return target.isContentEditable || target.matches("textarea, select");
}

function focusedRow(): HTMLElement | null {
  return document.activeElement?.closest<HTMLElement>(ROWS) ?? null;
}

/** The batch of the row that had the focus last, also while another page is looked at. */
let last: string | undefined;

const keepLast = (): void => {
  last = focusedRow()?.dataset.batch ?? last;
};

// Who comes back from a batch by a link goes on from where it was.
function move(by: number): void {
  const rows = [...document.querySelectorAll<HTMLElement>(ROWS)];
  const row = focusedRow() ?? rows.find(({ dataset }) => dataset.batch === last);
  const place = row ? rows.indexOf(row) + by : by > 0 ? 0 : rows.length - 1;
  focusRow(rows[place]);
}
