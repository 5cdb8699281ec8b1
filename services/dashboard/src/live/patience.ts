/** How long the feed waits for what, in milliseconds. */

/**
 * A heartbeat comes after a second without another message, so a silence of two says that the server
 * stands still or the network is gone, though the connection looks open. Each look adds what has passed
 * since the one before, but no more than two looks are apart: a thread that was busy or asleep has not
 * read yet what came meanwhile.
 */
export const SILENCE_MS = 2_000;
export const LOOK_MS = 250;
/** A short hiccup of the stream is not worth a poll. */
export const GRACE_MS = 1_500;
/** What all pages would do at the same moment each does within this time, by chance. */
export const SPREAD_MS = 1_000;
export const POLL_MS = 5_000;
/** After so long without an answer to a poll the server counts as away. */
export const ANSWER_MS = 3_000;
/**
 * A poll is given up after this time: the first one soon, since its connection may have died with the
 * stream's; each next one later, since a server that takes long must not begin anew each time.
 */
export const ASK_MS = { least: 5_000, most: 30_000 };
/** And so long after a poll that failed it is asked again. */
export const KNOCK_MS = 1_000;
/** What a server asks to wait that has no room; the browser keeps to it but tells no script. */
export const BUSY_MS = 30_000;
/** After a break of so long what is not in the stream may be old; a shorter one missed little. */
export const LASTING_MS = 5_000;
/** A stream is asked for anew after this part of the time it has been away, but within bounds. */
const RETRY_SHARE = 1 / 8;
const RETRY_MS = { least: 500, most: 8_000 };
/**
 * So long a stream that is open may hold back its first message until another one is opened: longer
 * while nothing else is answered either, and ever longer, since what it has to tell may take its time.
 */
const PATIENCE_SHARE = 1 / 2;
const PATIENCE_MS = { answered: 4_000, unanswered: 10_000, most: 30_000 };

/** About so long, by chance: not all pages at once. */
export function spread(milliseconds: number): number {
  return milliseconds * (0.75 + Math.random() / 2);
}

/** The pause before a stream that ended is asked for anew, when it has been away for `away`. */
export function retryPause(away: number): number {
  return spread(Math.min(RETRY_MS.most, Math.max(RETRY_MS.least, away * RETRY_SHARE)));
}

/** How long a stream may stay silent that has been waited for since `away`. */
export function patience(away: number, isServerAnswering: boolean): number {
  const least = isServerAnswering ? PATIENCE_MS.answered : PATIENCE_MS.unanswered;
  return Math.min(PATIENCE_MS.most, Math.max(least, away * PATIENCE_SHARE));
}
