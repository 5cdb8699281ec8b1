/** Bounds of a batch: reaching one of them stops it. */

import { useId, useState } from "react";

import { BUDGETS, type StartValues } from "../start";
import { Field } from "./Field";
import { LeastBudget } from "./LeastBudget";

export function BudgetFields(props: {
  values: StartValues;
  recipe: string;
  change(change: Partial<StartValues>): void;
  errors: Record<string, string>;
}) {
  const { values, recipe, change, errors } = props;
  const isSet = BUDGETS.some(({ value }) => values[value].trim() !== "");
  const isWrong = BUDGETS.some(({ field }) => errors[field] !== undefined);
  const least = useId();
  // What asks for the box opens it; nothing but its reader closes it, least of all while one types.
  const reason = isWrong ? "wrong" : isSet ? "set" : "";
  const [seen, setSeen] = useState("");
  const [isOpen, setOpen] = useState(false);
  if (seen !== reason) {
    setSeen(reason);
    if (reason !== "") setOpen(true);
  }
  return (
    <details
      className="budgets"
      open={isOpen}
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary data-testid="start-budgets">
        Budget: the batch stops when one of these is reached
      </summary>
      <div className="field-pair">
        {BUDGETS.map(({ field, value, label }) => (
          <Field key={field} name={field} label={label} error={errors[field]}>
            {(attributes) => (
              <input
                {...attributes}
                aria-describedby={`${attributes["aria-describedby"]} ${field === "max_duration_s" ? "" : least}`}
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
      {isOpen && <LeastBudget id={least} values={values} recipe={recipe} />}
    </details>
  );
}
