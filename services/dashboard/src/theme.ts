/** Light or dark: as the system is, unless it was chosen here. */

import { onPreference, recall, remember } from "./preferences";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const isTheme = (value: unknown): value is Theme => THEMES.some((theme) => theme === value);

let chosen: Theme = recall("theme", "system", isTheme);
const listeners = new Set<() => void>();

onPreference("theme", () => show(recall("theme", "system", isTheme)));

export const currentTheme = (): Theme => chosen;

export function onTheme(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function chooseTheme(theme: Theme): void {
  remember("theme", theme);
  show(theme);
}

function show(theme: Theme): void {
  chosen = theme;
  applyTheme();
  for (const listener of [...listeners]) listener();
}

/** Let the page have the chosen scheme; the colours follow it by themselves. */
export function applyTheme(): void {
  document.documentElement.dataset["theme"] = chosen;
}
