/** A labelled field of a form with its hint and the error that belongs to it. */

import { useId, type ReactNode } from "react";

import { Icon } from "./Icon";
import { Foreign } from "./parts";

/** What the control inside must carry so that label, hint and error are tied to it. */
export interface FieldAttributes {
  id: string;
  name: string;
  "aria-invalid": boolean;
  "aria-describedby": string;
  "data-testid": string;
}

export function Field(props: {
  name: string;
  label: string;
  /** Whose form it is; that of a start unless said. */
  of?: string;
  hint?: string | null | undefined;
  error?: string | undefined;
  children(attributes: FieldAttributes): ReactNode;
}) {
  const id = useId();
  const testid = `${props.of ?? "start"}-${props.name.replaceAll("_", "-")}`;
  const attributes = {
    id,
    name: props.name,
    "aria-invalid": props.error !== undefined,
    "aria-describedby": `${id}-words`,
    "data-testid": testid,
  };
  return (
    <div className="field">
      <label htmlFor={id}>{props.label}</label>
      {props.children(attributes)}
      <div id={`${id}-words`}>
        {props.error !== undefined && (
          <p className="field-error" data-testid={`${testid}-error`} role="alert">
            <Icon name="warning" />
            <Foreign>{props.error}</Foreign>
          </p>
        )}
        {props.hint && <small>{props.hint}</small>}
      </div>
    </div>
  );
}
