/** Whether the lines of an export add up to its manifest: the mirror of `check_export`. */

import { readEvent, type SampleRedacted } from "../fold/events";
import { Chain, isManifest, textOf, type Manifest, type StoredLine } from "../fold/export";

/** What a whole look through an export found; `damage` is null for a sound one. */
export interface Checked {
  events: number;
  /** Messages that were erased, for which a redaction in the same export vouches. */
  erased: number;
  /** Messages that say they were erased after the export's end, so nothing in it vouches for them. */
  erasedSince: number;
  root: string;
  damage: string | null;
}

/** Takes an export line by line, its manifest last. */
export class Checker {
  readonly #chain = new Chain();
  /** Erased messages for which no redaction has vouched yet, by their sequence. */
  readonly #open = new Map<number, { hash: string; by: number }>();
  #erased = 0;
  #first = 0;
  #last = 0;
  #damage: string | null = null;
  #manifest: Manifest | null = null;

  add(found: StoredLine | Manifest): void {
    if (this.#manifest) this.#damage ??= "a line follows the manifest";
    else if (isManifest(found)) this.#manifest = found;
    else this.#take(found);
  }

  #take(line: StoredLine): void {
    if (line.sequence <= this.#last)
      this.#damage ??= `sequence ${line.sequence} comes after ${this.#last}`;
    this.#first ||= line.sequence;
    this.#last = line.sequence;
    this.#chain.add(line);
    if (line.payloadHash !== null) {
      this.#open.set(line.sequence, { hash: line.payloadHash, by: erasedBy(line) });
      this.#erased += 1;
    }
    if (line.subject.endsWith(".redaction")) this.#vouch(line);
  }

  #vouch(line: StoredLine): void {
    const found = readEvent(textOf(line));
    let event: unknown = found.kind === "event" ? found.event : null;
    // A redaction that was itself redacted holds the one that it stands for.
    while ((event as SampleRedacted | null)?.type === "sample.redacted.v1") {
      const { target } = event as SampleRedacted;
      if (this.#open.get(target.sequence)?.hash === target.payload_hash)
        this.#open.delete(target.sequence);
      const inner = readEvent(JSON.stringify(target.event));
      event = inner.kind === "event" ? inner.event : null;
    }
  }

  end(): Checked {
    const { events, root } = this.#chain;
    const end = this.#manifest?.last_sequence ?? Infinity;
    const since = [...this.#open].filter(([, { by }]) => by > end);
    for (const [sequence] of since) this.#open.delete(sequence);
    const damage = this.#damage ?? this.#contradiction();
    const erased = this.#erased - since.length;
    return { events, erased, erasedSince: since.length, root, damage };
  }

  #contradiction(): string | null {
    const manifest = this.#manifest;
    if (!manifest) return "it ends before its manifest, so a part is missing";
    const { events, root } = this.#chain;
    const [unvouched] = this.#open.keys();
    if (unvouched !== undefined)
      return `no redaction names sequence ${unvouched}, which it says was erased`;
    if (events !== manifest.count || this.#first !== manifest.first_sequence)
      return (
        `it holds ${events} events from ${this.#first} on, but its manifest tells of` +
        ` ${manifest.count} from ${manifest.first_sequence} on`
      );
    if (root !== manifest.root)
      return `its events have the root ${root}, but its manifest says ${manifest.root}: an event was changed or moved`;
    return null;
  }
}

/** The sequence of the redaction that a stand-in says it is of; 0 for one that says none. */
function erasedBy(line: StoredLine): number {
  try {
    const { redacted } = JSON.parse(textOf(line)) as { redacted?: { by?: unknown } };
    return typeof redacted?.by === "number" ? redacted.by : 0;
  } catch {
    return 0;
  }
}
