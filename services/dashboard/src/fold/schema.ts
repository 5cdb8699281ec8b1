/**
 * Readers made from the contract's JSON schema: what one takes has the contract's form, with its
 * defaults filled in, unknown fields left out and every time in one form. They take no other
 * spelling of a value (a number as text), so they are never wider than the contract's models.
 */

import { canonicalTime } from "./times";

type Document = Record<string, unknown>;

export interface Schema {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: "object" | "array" | "string" | "integer" | "number" | "boolean" | "null";
  anyOf?: Schema[];
  const?: unknown;
  enum?: unknown[];
  default?: unknown;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  propertyNames?: Schema;
  items?: Schema;
  minItems?: number;
  maxItems?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  format?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

/** Why a document has not the contract's form: which field, and what is wrong with it. */
export class FormError extends Error {
  constructor(
    readonly field: string,
    readonly words: string,
  ) {
    super(field ? `${field}: ${words}` : words);
    this.name = "FormError";
  }
}

export type Reader = (value: unknown) => unknown;

/** Return a reader for one of the schema's definitions. */
export function readerOf(root: Schema, name: string): Reader {
  return new Compiler(root.$defs ?? {}).named(name);
}

/** As `readerOf`, but what it gives has only those fields that are `kept`: all others are checked. */
export function readerOfParts(root: Schema, name: string, kept: readonly string[]): Reader {
  const definitions = root.$defs ?? {};
  const schema = definitions[name];
  if (!schema) throw new Error(`the contract's schema has no ${name}`);
  const isKept = (field: string): boolean => kept.includes(field);
  return new Compiler(definitions).fields(schema, isKept, new Compiler(definitions, false));
}

const NOTHING = Object.freeze({});

class Compiler {
  readonly #held = new Map<string, Reader>();

  /** Readers that do not `build` only check, and give what they were given. */
  constructor(
    readonly definitions: Record<string, Schema>,
    readonly builds = true,
  ) {}

  named(name: string): Reader {
    const held = this.#held.get(name);
    if (held) return held;
    const schema = this.definitions[name];
    if (!schema) throw new Error(`the contract's schema has no ${name}`);
    let made: Reader | null = null;
    // A definition that names itself finds this one.
    this.#held.set(name, (value) => made!(value));
    made = this.compile(schema);
    this.#held.set(name, made);
    return made;
  }

  compile(schema: Schema): Reader {
    if (schema.$ref) return this.named(schema.$ref.split("/").at(-1) ?? "");
    if (schema.anyOf) {
      const others = schema.anyOf.filter((one) => one.type !== "null");
      const read = anyOf(others.map((one) => this.compile(one)));
      if (others.length === schema.anyOf.length) return read;
      return (value) => (value === null ? null : read(value));
    }
    if (schema.const !== undefined) return oneOf([schema.const]);
    if (schema.enum) return oneOf(schema.enum);
    switch (schema.type) {
      case "object":
        return schema.properties ? this.fields(schema) : this.#map(schema);
      case "array":
        return this.#list(schema);
      case "string":
        return schema.format === "date-time" ? time : text(schema);
      case "integer":
      case "number":
        return number(schema);
      case "boolean":
        return kind("boolean");
      case "null":
        return oneOf([null]);
      default:
        return (value) => value;
    }
  }

  fields(
    { properties = {}, required = [] }: Schema,
    isKept: (name: string) => boolean = () => this.builds,
    others: Compiler = this,
  ): Reader {
    const fields = Object.entries(properties).map(([name, schema]) => ({
      name,
      isKept: isKept(name),
      read: (isKept(name) ? this : others).compile(schema),
      isRequired: required.includes(name),
      fallback: schema.default ?? null,
    }));
    const builds = this.builds;
    return (value) => {
      const document = objectOf(value);
      const found: Document = builds ? {} : document;
      let at = "";
      try {
        for (let place = 0; place < fields.length; place++) {
          const { name, isKept, read, isRequired, fallback } = fields[place]!;
          const given = document[name];
          at = name;
          if (given !== undefined) {
            const one = read(given);
            if (isKept) found[name] = one;
          } else if (isRequired) throw new FormError("", "is missing");
          else if (isKept) found[name] = fallback;
        }
      } catch (error) {
        throw inside(at, error);
      }
      return found;
    };
  }

  #map({ additionalProperties, propertyNames }: Schema): Reader {
    if (typeof additionalProperties !== "object" && !propertyNames) return objectOf;
    const given = typeof additionalProperties === "object" ? additionalProperties : {};
    const read = this.compile(given);
    const readName = propertyNames ? this.compile(propertyNames) : null;
    return (value) => {
      const given = Object.entries(objectOf(value));
      if (given.length === 0) return NOTHING;
      const found: [string, unknown][] = [];
      for (const [name, one] of given) {
        if (readName) within(name, readName, name);
        found.push([name, within(name, read, one)]);
      }
      return Object.fromEntries(found);
    };
  }

  #list({ items, minItems = 0, maxItems = Infinity }: Schema): Reader {
    const read = this.compile(items ?? {});
    return (value) => {
      if (!Array.isArray(value)) throw new FormError("", "is no list");
      if (value.length < minItems || value.length > maxItems)
        throw new FormError("", `has ${value.length} items`);
      return value.map((one: unknown, place) => within(String(place), read, one));
    };
  }
}

function within(name: string, read: Reader, value: unknown): unknown {
  try {
    return read(value);
  } catch (error) {
    throw inside(name, error);
  }
}

/** An error of a part as one of the whole. */
function inside(name: string, error: unknown): unknown {
  if (!(error instanceof FormError)) return error;
  return new FormError(error.field ? `${name}.${error.field}` : name, error.words);
}

function objectOf(value: unknown): Document {
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Document;
  throw new FormError("", "is no object");
}

function anyOf(ordered: readonly Reader[]): Reader {
  const [only] = ordered;
  if (only && ordered.length === 1) return only;
  return (value) => {
    let first: FormError | null = null;
    for (const read of ordered) {
      try {
        return read(value);
      } catch (error) {
        if (!(error instanceof FormError)) throw error;
        first ??= error;
      }
    }
    throw first ?? new FormError("", "has no form");
  };
}

function oneOf(values: readonly unknown[]): Reader {
  const words = values.map((one) => JSON.stringify(one)).join(", ");
  const [first] = values;
  return (value) => {
    if (value === first || values.includes(value)) return value;
    throw new FormError("", `is none of ${words}`);
  };
}

function kind(name: "boolean"): Reader {
  return (value) => {
    if (typeof value === name) return value;
    throw new FormError("", `is no ${name}`);
  };
}

function time(value: unknown): string {
  const moment = typeof value === "string" ? canonicalTime(value) : null;
  if (moment === null) throw new FormError("", "is no time with an offset");
  return moment;
}

function text({ minLength = 0, maxLength = Infinity, pattern }: Schema): Reader {
  const form = pattern === undefined ? null : new RegExp(pattern, "u");
  // An id or a bitmap is often that of the event before: it is not matched again.
  let known: string | null = null;
  return (value) => {
    if (typeof value !== "string") throw new FormError("", "is no text");
    if (value === known) return value;
    // Lengths are in code points; a text has never more of them than UTF-16 units.
    const isLong = value.length > maxLength || value.length < 2 * minLength;
    const length = isLong ? [...value].length : value.length;
    if (length < minLength || length > maxLength) throw new FormError("", `has ${length} characters`);
    if (form && !form.test(value)) throw new FormError("", `does not match ${pattern}`);
    if (form) known = value;
    return value;
  };
}

function number(schema: Schema): Reader {
  const isWhole = schema.type === "integer";
  // Only a bound that a double can't hold says that the field may need more digits than it has.
  const mayBeBig = (schema.exclusiveMaximum ?? schema.maximum ?? 0) > Number.MAX_SAFE_INTEGER;
  // The contract reads more than this as this: sums that have to stay exact.
  const stops = schema.maximum === Number.MAX_SAFE_INTEGER;
  const least = schema.minimum ?? -Infinity;
  const most = schema.maximum ?? Infinity;
  const above = schema.exclusiveMinimum ?? -Infinity;
  const below = schema.exclusiveMaximum ?? Infinity;
  return (given) => {
    const value = typeof given === "bigint" && !isWhole ? Number(given) : given;
    if (typeof value !== "number" && typeof value !== "bigint")
      throw new FormError("", "is no number");
    if (stops && value > most && (typeof value === "bigint" || Number.isInteger(value))) return most;
    if (typeof value === "bigint" && !mayBeBig)
      throw new FormError("", "is a number with more digits than a browser can count with");
    if (isWhole && typeof value === "number" && !Number.isSafeInteger(value))
      throw new FormError("", "is no whole number");
    if (value < least || value > most || value <= above || value >= below)
      throw new FormError("", `is ${value}, out of bounds`);
    return value;
  };
}
