/** When what has come is laid out. */

const HIDDEN_MS = 250;

/** Runs `flush` once, soon. */
export type Schedule = (flush: () => void) => void;

/**
 * At the end of what is under way: whatever came with it is drawn by the next frame, which need not
 * be waited for first. A hidden page draws none, so there after a quarter second.
 */
export const atOnce = unlessHidden((flush) => queueMicrotask(flush));

/** As `atOnce`, but after all messages that came in one piece: each of them ends by itself. */
export const inTurn = unlessHidden((flush) => setTimeout(flush, 0));

function unlessHidden(schedule: Schedule): Schedule {
  return (flush) => {
    if (!document.hidden) return schedule(flush);
    const run = (): void => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", run);
      flush();
    };
    const timer = setTimeout(run, HIDDEN_MS);
    document.addEventListener("visibilitychange", run);
  };
}
