/** Named choices of a person, kept in this browser: saved views, presets, batches waited for. */

import { useSyncExternalStore } from "react";

import { onPreference, recall, remember } from "./preferences";

export interface Named<T> {
  name: string;
  value: T;
}

export interface Kept<T> {
  all(): readonly Named<T>[];
  /** As `all`, for a component: it is drawn anew when they change. */
  use(): readonly Named<T>[];
  /** Keep a value; one of the same name makes room. */
  keep(name: string, value: T): void;
  drop(name: string): void;
}

export const NAME_MOST = 40;
const MOST = 30;

/** The list kept as `key`, the same in all tabs; where storage is refused it lasts as long as the page. */
export function keptList<T>(
  key: string,
  isValue: (value: unknown) => value is T,
  most = MOST,
): Kept<T> {
  const listeners = new Set<() => void>();
  const isList = (found: unknown): found is Named<T>[] =>
    Array.isArray(found) && found.every(isNamed(isValue));
  let held: readonly Named<T>[] | null = null;
  const all = (): readonly Named<T>[] => (held ??= recall<Named<T>[]>(key, [], isList));
  const tell = (): void => {
    for (const listener of [...listeners]) listener();
  };
  onPreference(key, () => {
    held = null;
    tell();
  });
  const change = (next: readonly Named<T>[]): void => {
    held = next;
    remember(key, next);
    tell();
  };
  const onChange = (listener: () => void): (() => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
  // Another tab may have kept something a moment ago.
  const others = (name: string): Named<T>[] =>
    recall<readonly Named<T>[]>(key, all(), isList).filter((one) => one.name !== name);
  return {
    all,
    use: () => useSyncExternalStore(onChange, all),
    keep: (name, value) => change([...others(name), { name, value }].slice(-most)),
    drop: (name) => change(others(name)),
  };
}

function isNamed<T>(isValue: (value: unknown) => value is T) {
  return (one: unknown): one is Named<T> => {
    if (typeof one !== "object" || one === null) return false;
    const { name, value } = one as Record<string, unknown>;
    return typeof name === "string" && isValue(value);
  };
}
