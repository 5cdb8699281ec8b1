/** Bounds of a batch: reaching one of them stops it. */

import { BUDGETS, type StartValues } from "../start";
import { Field } from "./Field";

export function BudgetFields(props: {
  values: StartValues;
  change(change: Partial<StartValues>): void;
  errors: Record<string, string>;
}) {
  const { values, change, errors } = props;
  const isSet = BUDGETS.some(({ value }) => values[value].trim() !== "");
  const isWrong = BUDGETS.some(({ field }) => errors[field] !== undefined);
  return (
    <details className="budgets" open={isSet || isWrong || undefined}>
      <summary data-testid="start-budgets">
        Budget: the batch stops when one of these is reached
      </summary>
      <div className="field-pair">
        {BUDGETS.map(({ field, value, label }) => (
          <Field key={field} name={field} label={label} error={errors[field]}>
            {(attributes) => (
              <input
                {...attributes}
                inputMode="decimal"
                autoComplete="off"
                placeholder="No bound"
                value={values[value]}
                onChange={(event) => change({ [value]: event.target.value })}
              />
            )}
          </Field>
        ))}
      </div>
    </details>
  );
}
