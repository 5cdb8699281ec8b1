/** Moments: whole microseconds since 1970 in the log, and texts of one form in a view. */

const RFC3339 =
  /^(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)$/;

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
  const ms = Date.parse(`${date}T${time}${zone.toUpperCase()}`);
  // Date.parse takes February 30 for a day of March.
  if (Number.isNaN(ms) || !isDay(date)) return null;
  const whole = new Date(ms).toISOString();
  if (whole.length !== 24) return null; // beyond the year 9999, or before the year 0
  return `${whole.slice(0, 19)}.${fraction.slice(0, 6).padEnd(6, "0")}Z`;
}

function isDay(date: string): boolean {
  return new Date(`${date}T00:00:00Z`).toISOString().startsWith(date);
}
