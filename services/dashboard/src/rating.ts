/** What the quality report says of a batch at a glance, and why; the same rule as under `/api`. */

import type { Quality } from "./analysis";
import { plural } from "./words";

/** Up to this share of answers may be lost in a good batch. */
const LOST_MOST = 0.1;

export interface Rating {
  isGood: boolean;
  issues: string[];
}

export function ratingOf({ total_samples, rejected, failed }: Quality): Rating {
  const tried = total_samples + rejected + failed;
  const issues: string[] = [];
  if (total_samples === 0) issues.push("No sample was accepted.");
  if (rejected > 0)
    issues.push(`${rejected} of ${plural(tried, "answer")} were refused by validation.`);
  if (failed > 0) issues.push(`${plural(failed, "sample")} failed after all attempts.`);
  return { isGood: total_samples > 0 && rejected + failed <= tried * LOST_MOST, issues };
}
