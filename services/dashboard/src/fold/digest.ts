/** The digest of a batch's view, as docs/audit.md defines it. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";

/** One text for each value: JSON with sorted names and no spaces. */
export function canonical(value: unknown): string {
  if (value === null || typeof value === "boolean" || typeof value === "string")
    return JSON.stringify(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new TypeError(`${value} has no JSON`);
    return JSON.stringify(value); // the shortest digits that name this double
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object") {
    const document = value as Record<string, unknown>;
    const fields = Object.keys(document).sort();
    return `{${fields.map((name) => `${JSON.stringify(name)}:${canonical(document[name])}`).join(",")}}`;
  }
  throw new TypeError(`${typeof value} has no JSON`);
}

export function digestOf(value: unknown): string {
  return bytesToHex(sha256(utf8ToBytes(canonical(value))));
}
