/** What follows from a change: toasts, sounds, and answers that must be asked for anew. */

import type { QueryClient } from "@tanstack/react-query";

import { isLive, isOverBudget, type BatchView } from "../contract";
import { notify } from "../notices";
import { play, type Pattern } from "../sound";
import { grouped, plural, shortId } from "../words";
import { clock } from "./clock";
import type { BatchStore } from "./store";

/** At most one refetch of history and statistics in this time, however many batches change. */
const REFETCH_MS = 500;

/**
 * Let each end of a batch, and each batch getting stuck, be seen and heard once. Of all tabs of a
 * browser one makes the sounds: that which `leads`.
 */
export function watchEnds(store: BatchStore, queries: QueryClient, leads: () => boolean): void {
  const sound = (pattern: Pattern): void => {
    if (leads()) play(pattern);
  };
  // Counted from the server's time, so that a wrong clock in this browser does no harm.
  const openedAt = (): number => clock.now() - performance.now();
  let refetch: ReturnType<typeof setTimeout> | undefined;

  store.onChange((previous, next) => {
    if (previous?.state !== next.state) {
      refetch ??= setTimeout(() => {
        refetch = undefined;
        void queries.invalidateQueries({ queryKey: ["history"] });
        void queries.invalidateQueries({ queryKey: ["statistics"] });
      }, REFETCH_MS);
    }
    if (hasEnded(previous, next, openedAt())) {
      sound(announceEnd(next));
    } else if (next.stuck && next.stuck.rule !== previous?.stuck?.rule && previous && isLive(next.state)) {
      notify({
        kind: "warning",
        title: `${shortId(next.id)} is stuck`,
        text: next.stuck.cause,
        batch: next.id,
        fact: `${next.id} stuck by ${next.stuck.rule} since ${next.stuck.since}`,
      });
      sound("warning");
    }
  });
}

// A batch that this page never saw alive counts if it ended since the page was opened: a short
// one may start and end within one frame.
function hasEnded(previous: BatchView | undefined, next: BatchView, openedAt: number): boolean {
  if (isLive(next.state)) return false;
  if (previous) return isLive(previous.state);
  return next.finished_at !== null && Date.parse(next.finished_at) >= openedAt;
}

// Who stops a batch knows why; of one that its budget ends it is told.
function whyStopped(batch: BatchView): string {
  return isOverBudget(batch) && batch.stop_reason ? `: ${batch.stop_reason}` : "";
}

function announceEnd(batch: BatchView): Pattern {
  const made = `${grouped(batch.counts.generated)} of ${plural(batch.target, "sample")}`;
  const failed = batch.counts.failed ? `, ${grouped(batch.counts.failed)} failed` : "";
  const words = {
    title: `${shortId(batch.id)} ${batch.state}`,
    text: `${made}${failed}`,
    batch: batch.id,
    fact: `${batch.id} ${batch.state}`,
  };
  switch (batch.state) {
    case "completed":
      notify({ kind: "success", ...words });
      return "success";
    case "stopped":
      notify({ kind: "info", ...words, text: `${words.text}${whyStopped(batch)}` });
      return "stopped";
    default:
      notify({ kind: "error", ...words, text: batch.error?.message ?? words.text });
      return "failure";
  }
}
