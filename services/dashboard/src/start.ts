/** The start form's values: kept between visits, turned into a request, matched to its errors. */

import type { StartBody } from "./choices";
import type { FieldError } from "./contract";
import { recall, remember } from "./preferences";

/** The choice "another model": its name is typed. */
export const OTHER_MODEL = "(another)";

/** An empty text stands for "as the server likes". */
export interface StartValues {
  smart: boolean;
  recipe: string;
  model: string;
  otherModel: string;
  target: string;
  topic: string;
  difficulty: string;
  sampleType: string;
  instruction: string;
  concurrency: string;
}

const DEFAULTS: StartValues = {
  smart: true,
  recipe: "",
  model: "",
  otherModel: "",
  target: "20",
  topic: "",
  difficulty: "",
  sampleType: "",
  instruction: "",
  concurrency: "",
};

function isStartValues(value: unknown): value is StartValues {
  if (typeof value !== "object" || value === null) return false;
  const kept = value as Record<string, unknown>;
  return Object.entries(DEFAULTS).every(([name, byDefault]) => typeof kept[name] === typeof byDefault);
}

export const lastChoice = (): StartValues => recall("start", DEFAULTS, isStartValues);
export const keepChoice = (values: StartValues): void => remember("start", values);

// What is no whole number goes as it was typed, so that the server's error can name it.
function whole(text: string): number | string {
  return /^[+-]?\d+$/.test(text.trim()) ? Number(text) : text;
}

/** The request for these values; in smart mode the server chooses model and axes. */
export function toBody(values: StartValues): StartBody {
  const chosen = values.smart
    ? {}
    : {
        model: values.model === OTHER_MODEL ? values.otherModel : values.model,
        topic: values.topic,
        difficulty: values.difficulty,
        sample_type: values.sampleType,
      };
  const texts = { recipe: values.recipe, instruction: values.instruction, ...chosen };
  return {
    target: whole(values.target),
    smart_mode: values.smart,
    ...Object.fromEntries(Object.entries(texts).filter(([, text]) => text.trim() !== "")),
    ...(values.concurrency.trim() ? { concurrency: whole(values.concurrency) } : {}),
  };
}

/** The target after one of the "+n" buttons. */
export function plus(target: string, more: number): string {
  const count = whole(target);
  return String((typeof count === "number" ? Math.max(count, 0) : 0) + more);
}

const ALWAYS_SHOWN = ["target", "recipe", "instruction", "concurrency"];
const CHOSEN = ["model", "topic", "difficulty", "sample_type"];

/** Sort errors to the fields on show; the rest stand above the form. */
export function sortErrors(
  errors: readonly FieldError[],
  smart: boolean,
): { byField: Record<string, string>; others: string[] } {
  const shown = smart ? ALWAYS_SHOWN : [...ALWAYS_SHOWN, ...CHOSEN];
  const byField: Record<string, string> = {};
  const others: string[] = [];
  for (const { field, message } of errors) {
    const name = field.split(".").at(-1) ?? field;
    if (shown.includes(name)) byField[name] = message;
    else others.push(`${field}: ${message}`);
  }
  return { byField, others };
}
