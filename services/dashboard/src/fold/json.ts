/** JSON read without losing digits: a whole number that a double can't hold becomes a bigint. */

/** A run of 16 digits that begins like a number; it may stand inside a text. */
const SUSPECT = /[[:,\s]-?\d{16}/;
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/gs;
const WHOLE = /^-?\d+$/;

/** As JSON.parse, but exact. Throws SyntaxError. */
export function readExact(text: string): unknown {
  if (!SUSPECT.test(text)) return JSON.parse(text);
  let mark = "big:";
  while (text.includes(mark)) mark += "x";
  const marked = text.replace(TOKEN, (token) =>
    WHOLE.test(token) && !Number.isSafeInteger(Number(token)) ? `"${mark}${token}"` : token,
  );
  return JSON.parse(marked, (_, value: unknown) =>
    typeof value === "string" && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value,
  );
}
