/** The right edge of a column's head, moved by a pointer or by arrow keys. */

import type { KeyboardEvent, PointerEvent } from "react";

import { dropWidths, keepWidths, moveEdge, type Widths } from "../columnWidths";

const STEP = 16;

export function ColumnEdge(props: {
  names: readonly string[];
  /** Which of the columns ends here. */
  place: number;
  title: string;
  /** Its width in percent, null while it is automatic. */
  share: number | null;
}) {
  const { names, place, title, share } = props;
  const [left, right] = [names[place] ?? "", names[place + 1] ?? ""];
  const onPointerDown = (event: PointerEvent<HTMLElement>): void => {
    const edge = event.currentTarget;
    const [from, drawn] = [event.clientX, drawnWidths(edge, names)];
    edge.setPointerCapture(event.pointerId);
    edge.onpointermove = ({ clientX }) => moveEdge(drawn, left, right, clientX - from);
    edge.onlostpointercapture = () => {
      edge.onpointermove = null;
      keepWidths();
    };
  };
  const onKeyDown = (event: KeyboardEvent<HTMLElement>): void => {
    const step = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
    if (step === undefined && event.key !== "Escape") return;
    event.preventDefault();
    if (step === undefined) return dropWidths();
    moveEdge(drawnWidths(event.currentTarget, names), left, right, step);
    keepWidths();
  };
  return (
    <span
      className="column-edge"
      data-testid={`edge-${left}`}
      role="separator"
      tabIndex={0}
      aria-orientation="vertical"
      aria-label={`Width of ${title}`}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(share ?? 0)}
      aria-valuetext={share === null ? "automatic" : `${Math.round(share)} %`}
      title="Drag, or press the arrow keys; Escape or a double click lets all columns fit again"
      onPointerDown={onPointerDown}
      onDoubleClick={dropWidths}
      onKeyDown={onKeyDown}
    />
  );
}

function drawnWidths(edge: HTMLElement, names: readonly string[]): Widths {
  const heads = [...(edge.closest("tr")?.cells ?? [])];
  return Object.fromEntries(heads.map((head, place) => [names[place] ?? "", head.offsetWidth]));
}
