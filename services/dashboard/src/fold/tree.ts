/** A map from small whole numbers that is never changed: an insert shares all but one path. */

const BITS = 5;
const WIDTH = 1 << BITS;

type Node = readonly unknown[];

export class Tree<T> {
  static readonly #EMPTY = new Tree<never>([], 0, 0);

  static empty<T>(): Tree<T> {
    return Tree.#EMPTY;
  }

  private constructor(
    readonly root: Node,
    /** By how many bits the root divides its keys. */
    readonly shift: number,
    readonly size: number,
  ) {}

  get(key: number): T | undefined {
    if (key >= span(this.shift)) return undefined;
    let node: unknown = this.root;
    for (let shift = this.shift; shift >= 0; shift -= BITS) {
      if (node === undefined) return undefined;
      node = (node as Node)[digit(key, shift)];
    }
    return node as T | undefined;
  }

  insert(key: number, value: T): Tree<T> {
    let { root, shift } = this;
    while (key >= span(shift)) {
      root = root.length === 0 ? root : [root];
      shift += BITS;
    }
    const size = this.get(key) === undefined ? this.size + 1 : this.size;
    return new Tree<T>(inserted(root, shift, key, value), shift, size);
  }

  /** Every entry, by rising key. */
  *entries(): Generator<[number, T]> {
    yield* walked<T>(this.root, this.shift, 0);
  }
}

/** How many keys a root of this shift holds; keys go beyond what `<<` can do. */
function span(shift: number): number {
  return 2 ** (shift + BITS);
}

function digit(key: number, shift: number): number {
  return Math.floor(key / 2 ** shift) % WIDTH;
}

function inserted(node: Node, shift: number, key: number, value: unknown): Node {
  const copy = node.slice();
  const place = digit(key, shift);
  const below = (node[place] as Node | undefined) ?? [];
  copy[place] = shift === 0 ? value : inserted(below, shift - BITS, key, value);
  return copy;
}

function* walked<T>(node: Node, shift: number, base: number): Generator<[number, T]> {
  for (const [place, below] of node.entries()) {
    if (below === undefined) continue;
    const key = base + place * 2 ** shift;
    if (shift === 0) yield [key, below as T];
    else yield* walked<T>(below as Node, shift - BITS, key);
  }
}
