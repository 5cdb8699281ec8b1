/** Small choices kept in this browser; one that refuses storage forgets them, and `isKeeping` tells. */

const PREFIX = "millstream.";
const TRIAL = `${PREFIX}trial`;

/** Null until somebody asks. */
let keeps: boolean | null = null;
const listeners = new Set<() => void>();

/** Return the kept value, or `fallback` when there is none or `isValid` refuses it. */
export function recall<T>(name: string, fallback: T, isValid: (value: unknown) => value is T): T {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(PREFIX + name) ?? "null");
    return isValid(value) ? value : fallback;
  } catch (error) {
    console.info(`Setting ${name} could not be read; its default is used.`, error);
    return fallback;
  }
}

/** Call `listener` when another tab of this browser keeps another value. */
export function onPreference(name: string, listener: () => void): void {
  // Node, where the page's own tests run, has no tabs to tell of.
  globalThis.addEventListener?.("storage", ({ key }) => {
    if (key === PREFIX + name) listener();
  });
}

export function remember(name: string, value: unknown): void {
  note(isStored(PREFIX + name, JSON.stringify(value)));
}

/** Whether what is remembered outlasts the page; tried out at the first question. */
export function isKeeping(): boolean {
  if (keeps === null) {
    keeps = isStored(TRIAL, "");
    if (keeps) localStorage.removeItem(TRIAL);
  }
  return keeps;
}

export function onKeeping(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function isStored(key: string, text: string): boolean {
  try {
    localStorage.setItem(key, text);
    return true;
  } catch (error) {
    console.info(`${key} could not be kept.`, error);
    return false;
  }
}

/** Take note of how the last attempt went: a full storage may have room again. */
function note(isKept: boolean): void {
  const isNews = keeps !== null && keeps !== isKept;
  keeps = isKept;
  if (isNews) for (const listener of [...listeners]) listener();
}
