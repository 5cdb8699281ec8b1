/** The file that is replayed: chosen on the replay's page, or dropped on any page. */

import { go } from "../place";
import { fetchWorker } from "./client";

const listeners = new Set<() => void>();
let chosen: File | null = null;

export function chosenFile(): File | null {
  return chosen;
}

export function onChosen(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function choose(file: File | null): void {
  chosen = file;
  for (const listener of [...listeners]) listener();
}

function holdsFiles(event: DragEvent): boolean {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

/** Take files that are dropped anywhere on the page; the browser would leave the page for them. */
export async function listenForFiles(): Promise<void> {
  addEventListener("dragover", (event) => {
    if (holdsFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    choose(file);
    go("/replay");
  });
  await fetchWorker();
}
