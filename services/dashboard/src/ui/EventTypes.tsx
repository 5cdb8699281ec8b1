/** Which types of events are shown: some of all that there are, kept in the address. */

import { EVENT_TYPES, KIND_NAMES, KINDS } from "../events";
import { plural } from "../words";

export function EventTypes(props: {
  chosen: readonly string[];
  choose(types: readonly string[]): void;
}) {
  const { chosen, choose } = props;
  const words = chosen.length === 1 ? chosen[0] : plural(chosen.length, "type");
  const withType = (type: string, isWanted: boolean): readonly string[] =>
    EVENT_TYPES.filter((one) => (one === type ? isWanted : chosen.includes(one)));
  return (
    <details className="event-types">
      <summary data-testid="event-types">Types: {chosen.length === 0 ? "all" : words}</summary>
      <div>
        {KIND_NAMES.map((kind) => (
          <fieldset key={kind}>
            <legend>{KINDS[kind].title}</legend>
            {KINDS[kind].types.map((type) => (
              <label key={type}>
                <input
                  type="checkbox"
                  data-testid="event-type"
                  data-type={type}
                  checked={chosen.includes(type)}
                  onChange={(event) => choose(withType(type, event.target.checked))}
                />
                {type}
              </label>
            ))}
          </fieldset>
        ))}
      </div>
      {chosen.length > 0 && (
        <button type="button" data-testid="event-types-all" onClick={() => choose([])}>
          Show all types
        </button>
      )}
    </details>
  );
}
