/** Whole forms by name: three to begin with, and those that were kept in this browser. */

import { BUILT_IN, presets, type StartValues } from "../start";
import { KeepForm } from "./KeepForm";
import { KeptNote } from "./KeptNote";

export function Presets(props: { values: StartValues; take(values: StartValues): void }) {
  const own = presets.use();
  // One kept by the name of another stands in its place.
  const others = BUILT_IN.filter(({ name }) => !own.some((one) => one.name === name));
  const all = [...others, ...own];
  const now = JSON.stringify(props.values);
  const chosen = all.find(({ value }) => JSON.stringify(value) === now)?.name ?? "";
  return (
    <div className="presets">
      <label>
        Preset{" "}
        <select
          data-testid="start-preset"
          value={chosen}
          onChange={(event) => {
            const preset = all.find(({ name }) => name === event.target.value);
            if (preset) props.take(preset.value);
          }}
        >
          <option value="" disabled>
            As filled in
          </option>
          {all.map(({ name }) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      {chosen === "" && (
        <KeepForm
          label="Keep as preset"
          testid="preset"
          keep={(name) => presets.keep(name, props.values)}
        />
      )}
      {(chosen === "" || own.length > 0) && <KeptNote />}
      {own.some(({ name }) => name === chosen) && (
        <button type="button" className="quiet" onClick={() => presets.drop(chosen)}>
          Forget this preset
        </button>
      )}
    </div>
  );
}
