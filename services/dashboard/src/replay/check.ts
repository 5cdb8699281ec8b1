/** Whether the lines of an export add up to its manifest: the mirror of `check_export`. */

import { Chain, isManifest, type Manifest, type StoredLine } from "../fold/export";
import { grouped, plural } from "../words";
import { erasedBy, isSame, lacksItsTexts, standInsOf } from "./standIn";

/** What a whole look through an export found; `damage` is null for a sound one. */
export interface Checked {
  events: number;
  /** Messages that were erased, for which a redaction in the same export vouches. */
  erased: number;
  /**
   * Messages that say they were erased after the export's end: they lack the texts, but nothing
   * in the export vouches for what is left of them.
   */
  erasedSince: number;
  root: string;
  damage: string | null;
}

/** Takes an export line by line, its manifest last. */
export class Checker {
  readonly #chain = new Chain();
  /** Erased messages for which no redaction has vouched yet, and `by` which one that would be. */
  readonly #open = new Map<number, { line: StoredLine; by: number }>();
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
      this.#damage ??= `sequence ${grouped(line.sequence)} comes after ${grouped(this.#last)}`;
    this.#first ||= line.sequence;
    this.#last = line.sequence;
    this.#chain.add(line);
    if (line.payloadHash !== null) {
      this.#open.set(line.sequence, { line, by: erasedBy(line) });
      this.#erased += 1;
    }
    for (const made of standInsOf(line)) {
      const named = this.#open.get(made.sequence);
      if (!named || !isSame(named.line, made)) continue;
      // A redaction that was redacted vouches for as much as vouches for itself.
      if (line.payloadHash !== null) named.by = erasedBy(line);
      else this.#open.delete(made.sequence);
    }
  }

  end(): Checked {
    const { events, root } = this.#chain;
    const end = this.#manifest?.last_sequence ?? Infinity;
    const open = [...this.#open];
    const unnamed = open.filter(([, { line, by }]) => by <= end || !lacksItsTexts(line));
    const damage = this.#damage ?? this.#contradiction(unnamed[0]?.[0]);
    const erasedSince = open.length - unnamed.length;
    return { events, erased: this.#erased - erasedSince, erasedSince, root, damage };
  }

  #contradiction(unnamed: number | undefined): string | null {
    const manifest = this.#manifest;
    if (!manifest) return "it ends before its manifest, so a part is missing";
    const { events, root } = this.#chain;
    if (unnamed !== undefined)
      return `no redaction vouches for sequence ${grouped(unnamed)}, which it says was erased`;
    if (events !== manifest.count || this.#first !== manifest.first_sequence)
      return (
        `it holds ${plural(events, "event")} from ${grouped(this.#first)} on, but its manifest tells of` +
        ` ${grouped(manifest.count)} from ${grouped(manifest.first_sequence)} on`
      );
    if (root !== manifest.root)
      return `its events have the root ${root}, but its manifest says ${manifest.root}: an event was changed or moved`;
    return null;
  }
}
