/** What the start form offers, and what it sends: the other half of the contract. */

export interface RecipeChoice {
  name: string;
  title: string;
  description: string;
  topics: string[];
  difficulties: string[];
  sample_types: { id: string; name: string }[];
}

export interface RecipeList {
  recipes: RecipeChoice[];
  default: string;
}

/** In 1e-9 US dollars for a thousand tokens. */
export interface Price {
  input_nano_usd_per_1k: number;
  output_nano_usd_per_1k: number;
}

/** The most that one call may use; a smaller budget is refused. Null: nobody knows. */
export interface LargestCall {
  tokens: number | null;
  cost_nano_usd: number | null;
}

export interface ModelChoice {
  id: string;
  name: string;
  kind: string;
  provider: string;
  available: boolean;
  reason: string | null;
  price: Price | null;
}

export interface ModelList {
  models: ModelChoice[];
  default: string;
}

/** The body of a start; `target` stays as typed when it is no number: the server words the error. */
export interface StartBody {
  target: number | string;
  smart_mode: boolean;
  recipe?: string;
  model?: string;
  provider?: string;
  topic?: string;
  difficulty?: string;
  sample_type?: string;
  instruction?: string;
  concurrency?: number | string;
  pool?: string;
  budgets?: Record<string, number | string>;
}
