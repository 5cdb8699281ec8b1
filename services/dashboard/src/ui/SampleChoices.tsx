/** The fields of the start form that smart mode leaves to the server. */

import type { ModelChoice, ModelList, RecipeChoice } from "../choices";
import { OTHER_MODEL, type StartValues } from "../start";
import { modelNote, spaced } from "../words";
import { Field, type FieldAttributes } from "./Field";

export function SampleChoices(props: {
  values: StartValues;
  change(change: Partial<StartValues>): void;
  errors: Record<string, string>;
  recipe: RecipeChoice | undefined;
  models: ModelList | undefined;
}) {
  const { values, change, errors, recipe, models } = props;
  const isOther = values.model === OTHER_MODEL;
  return (
    <>
      <Field name="model" label="Model" error={errors["model"]}>
        {(attributes) => (
          <>
            <select
              {...attributes}
              aria-invalid={attributes["aria-invalid"] && !isOther}
              value={values.model}
              onChange={(event) => change({ model: event.target.value })}
            >
              <option value="">Automatic{models && ` (${models.default})`}</option>
              {models?.models.map((model) => (
                <option key={model.id} value={model.id} disabled={!model.available}>
                  {modelLabel(model)}
                </option>
              ))}
              <option value={OTHER_MODEL}>Another model…</option>
            </select>
            {isOther && (
              <input
                aria-invalid={attributes["aria-invalid"]}
                aria-describedby={attributes["aria-describedby"]}
                data-testid="start-model-other"
                aria-label="Name of the model, as provider/model"
                placeholder="provider/model"
                value={values.otherModel}
                onChange={(event) => change({ otherModel: event.target.value })}
              />
            )}
          </>
        )}
      </Field>
      <Field
        name="provider"
        label="Provider"
        hint="A model that several providers serve is asked of this one alone."
        error={errors["provider"]}
      >
        {(attributes) => (
          <Choice
            attributes={attributes}
            value={values.provider}
            any="Automatic"
            options={providersOf(models)}
            onChange={(provider) => change({ provider })}
          />
        )}
      </Field>
      <Field name="topic" label="Topic" error={errors["topic"]}>
        {(attributes) => (
          <Choice
            attributes={attributes}
            value={values.topic}
            any="All topics, mixed"
            options={recipe?.topics.map((label) => ({ id: label, name: label })) ?? []}
            onChange={(topic) => change({ topic })}
          />
        )}
      </Field>
      <div className="field-pair">
        <Field name="difficulty" label="Difficulty" error={errors["difficulty"]}>
          {(attributes) => (
            <Choice
              attributes={attributes}
              value={values.difficulty}
              any="Balanced"
              options={recipe?.difficulties.map((id) => ({ id, name: spaced(id) })) ?? []}
              onChange={(difficulty) => change({ difficulty })}
            />
          )}
        </Field>
        <Field name="sample_type" label="Sample type" error={errors["sample_type"]}>
          {(attributes) => (
            <Choice
              attributes={attributes}
              value={values.sampleType}
              any="Balanced"
              options={recipe?.sample_types ?? []}
              onChange={(sampleType) => change({ sampleType })}
            />
          )}
        </Field>
      </div>
    </>
  );
}

function providersOf(models: ModelList | undefined): { id: string; name: string }[] {
  const known = new Set(models?.models.map(({ provider }) => provider));
  return [...known].sort().map((name) => ({ id: name, name }));
}

function modelLabel(model: ModelChoice): string {
  const note = modelNote(model.id, model.provider);
  const mark = note && !model.name.toLowerCase().includes(note) ? ` – ${note}` : "";
  const reason = model.available ? "" : ` – not available: ${model.reason ?? "no reason given"}`;
  const name = model.name === model.id ? model.id : `${model.name} (${model.id})`;
  return `${name}${mark}${reason}`;
}

function Choice(props: {
  attributes: FieldAttributes;
  value: string;
  any: string;
  options: readonly { id: string; name: string }[];
  onChange(value: string): void;
}) {
  const isListed = props.value === "" || props.options.some(({ id }) => id === props.value);
  return (
    <select
      {...props.attributes}
      value={props.value}
      onChange={(event) => props.onChange(event.target.value)}
    >
      <option value="">{props.any}</option>
      {!isListed && <option value={props.value}>{props.value}</option>}
      {props.options.map(({ id, name }) => (
        <option key={id} value={id}>
          {name}
        </option>
      ))}
    </select>
  );
}
