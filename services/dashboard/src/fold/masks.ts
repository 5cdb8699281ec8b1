/** The 64 slots of a slice as two halves of 32 bits, read from and written as the log's hex. */

export interface Mask {
  readonly high: number;
  readonly low: number;
}

const HALF = 8;
export const NONE: Mask = { high: 0, low: 0 };

export function maskOf(hex: string): Mask {
  if (hex === "0") return NONE;
  const cut = Math.max(0, hex.length - HALF);
  return { high: cut > 0 ? parseInt(hex.slice(0, cut), 16) : 0, low: parseInt(hex.slice(cut), 16) };
}

export function hexOf({ high, low }: Mask): string {
  if (high === 0) return low.toString(16);
  return high.toString(16) + low.toString(16).padStart(HALF, "0");
}

/** The mask in which each of the first `size` slots (0 to 64) is marked. */
export function fullMask(size: number): Mask {
  return { high: lowest(size - 32), low: lowest(size) };
}

function lowest(count: number): number {
  return count >= 32 ? 0xffffffff : count <= 0 ? 0 : 2 ** count - 1;
}

export function or(a: Mask, b: Mask): Mask {
  return { high: (a.high | b.high) >>> 0, low: (a.low | b.low) >>> 0 };
}

export function and(a: Mask, b: Mask): Mask {
  return { high: (a.high & b.high) >>> 0, low: (a.low & b.low) >>> 0 };
}

export function without(a: Mask, b: Mask): Mask {
  return { high: (a.high & ~b.high) >>> 0, low: (a.low & ~b.low) >>> 0 };
}

/** Whether no slot is marked in both. */
export function areApart(a: Mask, b: Mask): boolean {
  return (a.high & b.high) === 0 && (a.low & b.low) === 0;
}

/** Whether every slot of `a` is marked in `b`. */
export function isWithin(a: Mask, b: Mask): boolean {
  return (a.high & ~b.high) === 0 && (a.low & ~b.low) === 0;
}

export function countOf(a: Mask): number {
  return ones(a.high) + ones(a.low);
}

function ones(half: number): number {
  let left = half - ((half >>> 1) & 0x55555555);
  left = (left & 0x33333333) + ((left >>> 2) & 0x33333333);
  return Math.imul((left + (left >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
