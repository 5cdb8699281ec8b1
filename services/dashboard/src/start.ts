/** The start form's values: kept between visits, turned into a request, matched to its errors. */

import type { StartBody } from "./choices";
import type { FieldError } from "./contract";
import { keptList, type Named } from "./named";
import { recall, remember } from "./preferences";

/** The choice "another model": its name is typed. */
export const OTHER_MODEL = "(another)";

/** An empty text stands for "as the server likes". */
export interface StartValues {
  smart: boolean;
  recipe: string;
  model: string;
  otherModel: string;
  provider: string;
  target: string;
  topic: string;
  difficulty: string;
  sampleType: string;
  instruction: string;
  concurrency: string;
  pool: string;
  maxCost: string;
  maxTokens: string;
  maxMinutes: string;
}

/** Bounds by the server's field, the form's value and their label. */
export const BUDGETS = [
  { field: "max_cost_usd", value: "maxCost", label: "Cost in US dollars" },
  { field: "max_tokens", value: "maxTokens", label: "Tokens" },
  { field: "max_duration_s", value: "maxMinutes", label: "Minutes" },
] as const;

const DEFAULTS: StartValues = {
  smart: true,
  recipe: "",
  model: "",
  otherModel: "",
  provider: "",
  target: "20",
  topic: "",
  difficulty: "",
  sampleType: "",
  instruction: "",
  concurrency: "",
  pool: "",
  maxCost: "",
  maxTokens: "",
  maxMinutes: "",
};

export const BUILT_IN: readonly Named<StartValues>[] = [
  { name: "A first look", value: DEFAULTS },
  { name: "A working set", value: { ...DEFAULTS, target: "500", maxCost: "1" } },
  { name: "A whole dataset", value: { ...DEFAULTS, target: "5000", maxCost: "10" } },
];

/** A form, perhaps of an older page that knew fewer fields. */
function isStartValues(value: unknown): value is StartValues {
  if (typeof value !== "object" || value === null) return false;
  const kept = value as Record<string, unknown>;
  return Object.entries(DEFAULTS).every(
    ([name, byDefault]) => !(name in kept) || typeof kept[name] === typeof byDefault,
  );
}

export const presets = keptList("presets", isStartValues);

export const lastChoice = (): StartValues => ({
  ...DEFAULTS,
  ...recall("start", DEFAULTS, isStartValues),
});
export const keepChoice = (values: StartValues): void => remember("start", values);

/** The model that the form names, even by an empty name; null where the server chooses. */
export function modelOf({ smart, model, otherModel }: StartValues): string | null {
  if (smart) return null;
  return model === OTHER_MODEL ? otherModel.trim() : model || null;
}

/** A whole number; what is none goes as it was typed, so that the server's error can name it. */
export function whole(text: string): number | string {
  return /^[+-]?\d+$/.test(text.trim()) ? Number(text) : text;
}

/** The request for these values; in smart mode the server chooses model and axes. */
export function toBody(values: StartValues): StartBody {
  const model = modelOf(values);
  const chosen = values.smart
    ? {}
    : {
        provider: values.provider,
        topic: values.topic,
        difficulty: values.difficulty,
        sample_type: values.sampleType,
      };
  const { recipe, instruction, pool } = values;
  const texts = { recipe, instruction, pool, ...chosen };
  return {
    target: whole(values.target),
    smart_mode: values.smart,
    ...Object.fromEntries(Object.entries(texts).filter(([, text]) => text.trim() !== "")),
    ...(model === null ? {} : { model }),
    ...(values.concurrency.trim() ? { concurrency: whole(values.concurrency) } : {}),
    ...budgetsOf(values),
  };
}

function budgetsOf({ maxCost, maxTokens, maxMinutes }: StartValues): Pick<StartBody, "budgets"> {
  const minutes = amount(maxMinutes);
  const all = {
    max_cost_usd: amount(maxCost),
    max_tokens: whole(maxTokens),
    max_duration_s: typeof minutes === "number" ? minutes * 60 : minutes,
  };
  const set = Object.entries(all).filter(([, value]) => String(value).trim() !== "");
  return set.length > 0 ? { budgets: Object.fromEntries(set) } : {};
}

function amount(text: string): number | string {
  return /^[+-]?(\d+\.?\d*|\.\d+)$/.test(text.trim()) ? Number(text) : text;
}

/** The target after one of the "+n" buttons. */
export function plus(target: string, more: number): string {
  const count = whole(target);
  return String((typeof count === "number" ? Math.max(count, 0) : 0) + more);
}

const ALWAYS_SHOWN = [
  "target",
  "recipe",
  "instruction",
  "concurrency",
  "pool",
  ...BUDGETS.map(({ field }) => field as string),
];
const CHOSEN = ["model", "provider", "topic", "difficulty", "sample_type"];

/** Good advice for who writes JSON; in a form nobody typed quotes. */
const OF_JSON = / without quotes$/;

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
    if (shown.includes(name)) byField[name] = message.replace(OF_JSON, "");
    else others.push(`${field}: ${message}`);
  }
  return { byField, others };
}
