/** One line that gives a choice a name, under which it is kept in this browser. */

import { useState } from "react";

import { NAME_MOST } from "../named";

export function KeepForm(props: {
  label: string;
  testid: string;
  keep(name: string): void;
}) {
  const [name, setName] = useState<string | null>(null);
  if (name === null) {
    return (
      <button
        type="button"
        className="quiet"
        data-testid={`${props.testid}-open`}
        onClick={() => setName("")}
      >
        {props.label}
      </button>
    );
  }
  const save = (): void => {
    if (name.trim() === "") return;
    props.keep(name.trim());
    setName(null);
  };
  return (
    <span className="keep-form">
      <input
        autoFocus
        data-testid={`${props.testid}-name`}
        aria-label={`${props.label}: its name`}
        placeholder="Its name"
        maxLength={NAME_MOST}
        value={name}
        onChange={(event) => setName(event.target.value)}
        onKeyDown={(event) => {
          // Within a form Enter would send that, and Escape would close its dialog.
          if (event.key !== "Enter" && event.key !== "Escape") return;
          event.preventDefault();
          event.stopPropagation();
          if (event.key === "Enter") save();
          else setName(null);
        }}
      />
      <button type="button" data-testid={`${props.testid}-keep`} onClick={save}>
        Keep
      </button>
      <button type="button" className="quiet" onClick={() => setName(null)}>
        Cancel
      </button>
    </span>
  );
}
