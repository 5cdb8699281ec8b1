/** How late changes come: from the moment when an event was stored to the frame that shows it. */

const KEPT = 32;

export class Lag {
  #readings: number[] = [];

  /** Take one reading in milliseconds. */
  note(milliseconds: number): void {
    this.#readings.push(Math.max(0, milliseconds));
    if (this.#readings.length > KEPT) this.#readings.shift();
  }

  forget(): void {
    this.#readings = [];
  }

  /** The median of the last readings; null while there are none. */
  typical(): number | null {
    const ordered = [...this.#readings].sort((a, b) => a - b);
    return ordered[Math.floor(ordered.length / 2)] ?? null;
  }
}
