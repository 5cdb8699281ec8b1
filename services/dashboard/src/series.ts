/** The lines of the statistics' charts: one for each model of each provider, or for each provider. */

import type { TimelineRow } from "./analysis";

export type Split = "model" | "provider";

/** What the line of such a row is called. */
export function lineOf({ model, provider }: Pick<TimelineRow, "model" | "provider">): string {
  if (model === null) return provider;
  return model.startsWith(`${provider}/`) ? model : `${model} (${provider})`;
}
