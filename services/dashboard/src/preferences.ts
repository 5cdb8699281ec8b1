/** Small choices kept in this browser; a browser that refuses storage only forgets them. */

const PREFIX = "millstream.";

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
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch (error) {
    console.info(`Setting ${name} could not be kept.`, error);
  }
}
