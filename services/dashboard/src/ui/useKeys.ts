/** Single keys for the history: they work wherever nothing is being typed and no dialog is open. */

import { useEffect } from "react";

export const KEYS = [
  ["j / k", "the next batch, the one before"],
  ["Enter", "open it"],
  ["x", "choose it, or let it go"],
  ["s", "stop the chosen ones, or this one; asks first"],
  ["/", "search"],
  ["?", "these keys"],
] as const;

export interface Keyed {
  choose(id: string): void;
  stop(id: string | null): void;
  help(): void;
}

const ROWS = '#history [data-testid="history-row"]';

export function useKeys(keyed: Keyed): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTaken(event.target)) return;
      const id = focusedRow()?.dataset.batch ?? null;
      switch (event.key) {
        case "j":
        case "k":
          move(event.key === "j" ? 1 : -1);
          break;
        case "x":
          if (id) keyed.choose(id);
          break;
        case "s":
          keyed.stop(id);
          break;
        case "/":
          document.querySelector<HTMLInputElement>('#history input[type="search"]')?.focus();
          break;
        case "?":
          keyed.help();
          break;
        default:
          return;
      }
      event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    document.addEventListener("focusin", keepLast);
    return () => {
      document.removeEventListener("keydown", onKey);
      document.removeEventListener("focusin", keepLast);
    };
  }, [keyed]);
}

function isTaken(target: EventTarget | null): boolean {
  if (document.querySelector('[role="dialog"], [role="alertdialog"]')) return true;
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return target.type !== "checkbox";
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

// Who comes back from a batch has the focus nowhere, and goes on from where it was.
function move(by: number): void {
  const rows = [...document.querySelectorAll<HTMLElement>(ROWS)];
  const row = focusedRow() ?? rows.find(({ dataset }) => dataset.batch === last);
  const place = row ? rows.indexOf(row) + by : by > 0 ? 0 : rows.length - 1;
  rows[place]?.querySelector<HTMLElement>("a")?.focus();
}
