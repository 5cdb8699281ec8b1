/** Moments: whole microseconds since 1970 in the log, and texts of one form in a view. */

const RFC3339 =
  /^(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)$/;

/** The text of a moment, such as 2026-01-31T12:00:00.000001Z; these sort as the moments do. */
export function textOfMicros(micros: number): string {
  const ms = Math.floor(micros / 1000);
  const rest = micros - ms * 1000;
  return `${new Date(ms).toISOString().slice(0, -1)}${String(rest).padStart(3, "0")}Z`;
}

/** The same moment in that form; null for a text that names none. */
export function canonicalTime(text: string): string | null {
  const match = RFC3339.exec(text);
  if (!match) return null;
  const [, date = "", time = "", fraction = "", zone = ""] = match;
  if (!isDay(date)) return null;
  const micros = fraction.length === 6 ? fraction : fraction.slice(0, 6).padEnd(6, "0");
  if (zone === "Z" || zone === "z") return `${date}T${time}.${micros}Z`;
  const ms = Date.parse(`${date}T${time}${zone}`);
  const whole = Number.isNaN(ms) ? "" : new Date(ms).toISOString();
  if (whole.length !== 24) return null; // no such zone, beyond the year 9999, before the year 0
  return `${whole.slice(0, 19)}.${micros}Z`;
}

/** The day that was asked for last: nearly all events of a log follow one of the same day. */
let knownDay = "";

function isDay(date: string): boolean {
  if (date === knownDay) return true;
  const ms = Date.parse(`${date}T00:00:00Z`);
  // Date.parse takes February 30 for a day of March.
  if (Number.isNaN(ms) || !new Date(ms).toISOString().startsWith(date)) return false;
  knownDay = date;
  return true;
}
