/** The form that starts a batch; errors stand at their field in the server's words. */

import { Dialog } from "@base-ui/react/dialog";
import { useQuery } from "@tanstack/react-query";
import { useLayoutEffect, useRef } from "react";

import { getModels, getRecipes } from "../calls";
import type { RecipeList } from "../choices";
import { plus, sortErrors, type StartValues } from "../start";
import { wordsOf } from "../words";
import { BudgetFields } from "./BudgetFields";
import { EstimateNote } from "./EstimateNote";
import { Field } from "./Field";
import { Icon } from "./Icon";
import { Foreign, Trouble } from "./parts";
import { PoolField } from "./PoolField";
import { Presets } from "./Presets";
import { SampleChoices } from "./SampleChoices";
import type { Start } from "./useStart";

const STEPS = [10, 50, 100, 500];

export function StartDialog({ start }: { start: Start }) {
  return (
    <Dialog.Root
      open={start.isOpen}
      onOpenChange={(open) => (open ? start.open() : start.close())}
    >
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="dialog" data-testid="start-dialog">
          <Dialog.Title>Add a new batch</Dialog.Title>
          <StartForm start={start} />
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function StartForm({ start }: { start: Start }) {
  const { values, change, problem } = start;
  const recipes = useQuery({
    queryKey: ["recipes"],
    queryFn: ({ signal }) => getRecipes(signal),
  });
  const models = useQuery({ queryKey: ["models"], queryFn: ({ signal }) => getModels(signal) });
  const { byField, others } = sortErrors(problem?.fields ?? [], values.smart);
  const general = [
    ...(problem && Object.keys(byField).length === 0 && others.length === 0
      ? [problem.message]
      : []),
    ...others,
  ];
  const recipeName = values.recipe || recipes.data?.default || "";
  const recipe = recipes.data?.recipes.find(({ name }) => name === recipeName);
  const unread = recipes.error ?? models.error;
  const form = useRef<HTMLFormElement>(null);
  // Before the dialog looks for its first control, which it leaves alone once one has the focus.
  useLayoutEffect(() => {
    const wrong = problem && form.current?.querySelector<HTMLElement>('[aria-invalid="true"]');
    wrong?.scrollIntoView({ block: "center" });
    wrong?.focus({ preventScroll: true });
  }, [problem]);
  return (
    <form
      ref={form}
      className="form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        start.submit();
      }}
    >
      {general.map((words) => (
        <p key={words} className="form-error" role="alert" data-testid="start-error">
          <Icon name="warning" />
          <Foreign>{words}</Foreign>
        </p>
      ))}
      {unread && (
        <Trouble
          what="The choices could not be read"
          words={wordsOf(unread)}
          retry={() => void Promise.all([recipes.refetch(), models.refetch()])}
        />
      )}
      <Presets values={values} take={change} />
      <label className="switch">
        <input
          type="checkbox"
          role="switch"
          data-testid="start-smart"
          checked={values.smart}
          onChange={(event) => change({ smart: event.target.checked })}
        />
        <span>
          <b>Smart mode</b>
          <small>Model, topics, difficulties and sample types are chosen for you.</small>
        </span>
      </label>
      <RecipeField
        name={recipeName}
        recipes={recipes.data}
        change={change}
        error={byField["recipe"]}
      />
      <Target values={values} change={change} error={byField["target"]} />
      {!values.smart && (
        <SampleChoices
          values={values}
          change={change}
          errors={byField}
          recipe={recipe}
          models={models.data}
        />
      )}
      <Field
        name="instruction"
        label="Instruction for the model (optional)"
        error={byField["instruction"]}
      >
        {(attributes) => (
          <textarea
            {...attributes}
            rows={2}
            value={values.instruction}
            onChange={(event) => change({ instruction: event.target.value })}
          />
        )}
      </Field>
      <Field
        name="concurrency"
        label="Calls at the same time (optional)"
        error={byField["concurrency"]}
      >
        {(attributes) => (
          <input
            {...attributes}
            inputMode="numeric"
            autoComplete="off"
            placeholder="The server's default"
            value={values.concurrency}
            onChange={(event) => change({ concurrency: event.target.value })}
          />
        )}
      </Field>
      <PoolField pool={values.pool} change={change} error={byField["pool"]} />
      <BudgetFields values={values} recipe={recipeName} change={change} errors={byField} />
      <EstimateNote values={values} recipe={recipeName} models={models.data} />
      <div className="dialog-actions">
        <Dialog.Close>Cancel</Dialog.Close>
        <button type="submit" className="primary" data-testid="start-submit">
          Start generation
        </button>
      </div>
    </form>
  );
}

interface Part {
  change(change: Partial<StartValues>): void;
  error: string | undefined;
}

function RecipeField(props: Part & { name: string; recipes: RecipeList | undefined }) {
  const { name: chosen, recipes, change } = props;
  const recipe = recipes?.recipes.find(({ name }) => name === chosen);
  return (
    <Field name="recipe" label="Recipe" hint={recipe?.description} error={props.error}>
      {(attributes) => (
        <select
          {...attributes}
          value={chosen}
          // Another recipe has other topics, difficulties and types.
          onChange={(event) =>
            change({ recipe: event.target.value, topic: "", difficulty: "", sampleType: "" })
          }
        >
          {!recipe && <option value={chosen}>{chosen || "The server's default"}</option>}
          {recipes?.recipes.map(({ name, title }) => (
            <option key={name} value={name}>
              {title} ({name})
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

function Target({ values, change, error }: Part & { values: StartValues }) {
  return (
    <Field name="target" label="Samples to make" error={error}>
      {(attributes) => (
        <span className="with-steps">
          <input
            {...attributes}
            inputMode="numeric"
            autoComplete="off"
            value={values.target}
            onChange={(event) => change({ target: event.target.value })}
          />
          {STEPS.map((step) => (
            <button
              key={step}
              type="button"
              data-testid={`start-add-${step}`}
              aria-label={`Add ${step} samples`}
              onClick={() => change({ target: plus(values.target, step) })}
            >
              +{step}
            </button>
          ))}
        </span>
      )}
    </Field>
  );
}
