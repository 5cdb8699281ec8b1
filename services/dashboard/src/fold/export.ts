/**
 * The lines of an export (docs/audit.md, Export and import): stored events, and a manifest that
 * they must add up to.
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";

/** One stored message. `payloadHash` is set where the message was erased: its own SHA-256. */
export interface StoredLine {
  sequence: number;
  timeUs: number;
  subject: string;
  headers: string;
  payload: string;
  isBase64: boolean;
  payloadHash: string | null;
}

export interface Manifest {
  kind: "millstream.export.v1";
  stream: string;
  batch_id: string | null;
  count: number;
  first_sequence: number;
  last_sequence: number;
  root: string;
}

/** A line that is none of an export, and why. */
export class LineError extends Error {
  override name = "LineError";
}

const HASH = /^[0-9a-f]{64}$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** Read one line. Throws `LineError`. */
export function readLine(line: string): StoredLine | Manifest {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new LineError("it is no JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new LineError("it is no JSON object");
  const document = value as Record<string, unknown>;
  return document["kind"] === undefined ? storedLine(document) : manifestOf(document);
}

export function isManifest(found: StoredLine | Manifest): found is Manifest {
  return "kind" in found;
}

/** The headers that were read last: those of the next line are often the same. */
let knownHeaders = "";

function storedLine(document: Record<string, unknown>): StoredLine {
  const { headers = "", payload_hash = null, is_base64 = false } = document;
  const found: StoredLine = {
    sequence: whole(document, "sequence"),
    timeUs: whole(document, "time_us"),
    subject: words(document, "subject"),
    headers: typeof headers === "string" ? headers : "?",
    payload: words(document, "payload"),
    isBase64: is_base64 === true,
    payloadHash: typeof payload_hash === "string" ? payload_hash : null,
  };
  if (found.sequence < 1) throw new LineError("its sequence is below 1");
  if (found.headers !== knownHeaders && !BASE64.test(found.headers))
    throw new LineError("its headers are no base64");
  knownHeaders = found.headers;
  if (found.isBase64 && !BASE64.test(found.payload))
    throw new LineError("its payload is no base64");
  if (payload_hash !== null && !HASH.test(String(payload_hash)))
    throw new LineError("its payload_hash is no SHA-256");
  return found;
}

function manifestOf(document: Record<string, unknown>): Manifest {
  if (document["kind"] !== "millstream.export.v1")
    throw new LineError(`it is of another kind of file (${String(document["kind"]).slice(0, 60)})`);
  const batch = document["batch_id"] ?? null;
  if (batch !== null && typeof batch !== "string") throw new LineError("its batch_id is no text");
  const root = words(document, "root");
  if (!HASH.test(root)) throw new LineError("its root is no SHA-256");
  return {
    kind: "millstream.export.v1",
    stream: words(document, "stream"),
    batch_id: batch,
    count: whole(document, "count"),
    first_sequence: whole(document, "first_sequence"),
    last_sequence: whole(document, "last_sequence"),
    root,
  };
}

function whole(document: Record<string, unknown>, name: string): number {
  const value = document[name];
  if (Number.isSafeInteger(value)) return value as number;
  throw new LineError(`its ${name} is ${value === undefined ? "missing" : "no whole number"}`);
}

function words(document: Record<string, unknown>, name: string): string {
  const value = document[name];
  if (typeof value === "string") return value;
  throw new LineError(`its ${name} is ${value === undefined ? "missing" : "no text"}`);
}

/** The payload as text; what is no UTF-8 shows marks in place of its bytes, and is no event. */
export function textOf({ payload, isBase64 }: StoredLine): string {
  return isBase64 ? atob(payload) : payload;
}

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** The hash chain over stored messages (docs/audit.md, The chain). */
export class Chain {
  events = 0;
  #root: Uint8Array = new Uint8Array(32);

  get root(): string {
    return bytesToHex(this.#root);
  }

  add(line: StoredLine): void {
    const subject = utf8ToBytes(line.subject);
    const headers = bytesOf(line.headers);
    const place = new DataView(new ArrayBuffer(24));
    place.setBigUint64(0, BigInt(line.sequence));
    place.setBigInt64(8, BigInt(line.timeUs));
    place.setUint32(16, subject.length);
    place.setUint32(20, headers.length);
    this.#root = sha256
      .create()
      .update(this.#root)
      .update(new Uint8Array(place.buffer))
      .update(subject)
      .update(headers)
      .update(hexToBytes(payloadHashOf(line)))
      .digest();
    this.events += 1;
  }
}

/** The SHA-256 of a message's payload, also of one that was erased. */
export function payloadHashOf(line: StoredLine): string {
  if (line.payloadHash !== null) return line.payloadHash;
  return bytesToHex(sha256(line.isBase64 ? bytesOf(line.payload) : utf8ToBytes(line.payload)));
}
