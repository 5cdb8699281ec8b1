/**
 * What stands for erased messages: the mirror of `millstream.eventlog.redaction`. A redaction
 * vouches for the stand-in of a message when it holds exactly the same.
 */

import { readEvent } from "../fold/events";
import { textOf, type StoredLine } from "../fold/export";

const TEXT = /^(?:target\.event\.)*(?<text>content|answer|message|after\.last_error\.message)$/;

/** What stands for what by one message: more than one when it redacts a redaction. */
export function standInsOf(line: StoredLine): StoredLine[] {
  const found: StoredLine[] = [];
  for (let made = standInOf(line); made; made = standInOf(made)) found.push(made);
  return found;
}

function standInOf(line: StoredLine): StoredLine | null {
  if (!line.subject.endsWith(".redaction")) return null;
  const { event } = { event: null, ...readEvent(textOf(line)) };
  if (event?.type !== "sample.redacted.v1") return null;
  const { batch_id, target, erased, reason } = event;
  const events = `mill.events.${batch_id}.`;
  const isOfBatch = line.subject === `${events}redaction` && target.subject.startsWith(events);
  if (!isOfBatch || target.sequence >= line.sequence) return null;
  return {
    sequence: target.sequence,
    timeUs: target.time_us,
    subject: target.subject,
    headers: target.headers,
    payload: JSON.stringify({ ...target.event, redacted: { by: line.sequence, erased, reason } }),
    isBase64: false,
    payloadHash: target.payload_hash,
  };
}

/** Whether two lines say the same, but for how their payloads are spelt. */
export function isSame(one: StoredLine, other: StoredLine): boolean {
  return (
    one.sequence === other.sequence &&
    one.timeUs === other.timeUs &&
    one.subject === other.subject &&
    one.headers === other.headers &&
    one.payloadHash === other.payloadHash &&
    JSON.stringify(documentOf(one)) === JSON.stringify(documentOf(other))
  );
}

/** The sequence of the redaction that a stand-in says it is of; 0 for one that says none. */
export function erasedBy(line: StoredLine): number {
  const by = fieldOf(documentOf(line), "redacted.by");
  return typeof by === "number" ? by : 0;
}

/** Whether a stand-in holds marks where it says that texts were erased. */
export function lacksItsTexts(line: StoredLine): boolean {
  const document = documentOf(line);
  const fields = fieldOf(document, "redacted.erased");
  return (
    Array.isArray(fields) && fields.length > 0 && fields.every((name) => isErased(document, name))
  );
}

function isErased(document: unknown, name: unknown): boolean {
  const text = TEXT.exec(String(name))?.groups?.["text"];
  if (text === undefined) return false;
  const left = JSON.stringify(fieldOf(document, String(name)));
  return left === (text === "content" ? '{"redacted":true}' : '"(redacted)"');
}

function documentOf(line: StoredLine): unknown {
  try {
    return JSON.parse(textOf(line));
  } catch {
    return null;
  }
}

function fieldOf(document: unknown, path: string): unknown {
  return path
    .split(".")
    .reduce((value, name) => (value as Record<string, unknown> | null)?.[name], document);
}
