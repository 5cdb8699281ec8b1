/** A small window below its button: the browser opens, closes and places it, by any means. */

import { useState, type ReactNode } from "react";

export function Popover(props: {
  id: string;
  title: string;
  children(): ReactNode;
}) {
  const [isOpen, setOpen] = useState(false);
  const title = `${props.id}-title`;
  return (
    <div
      id={props.id}
      popover="auto"
      // A closed one is no dialog: where one is open, single keys do nothing.
      role={isOpen ? "dialog" : undefined}
      aria-labelledby={isOpen ? title : undefined}
      className="popover"
      data-testid={props.id}
      onBeforeToggle={(event) => setOpen(event.newState === "open")}
    >
      <h2 id={title}>{props.title}</h2>
      {isOpen && props.children()}
    </div>
  );
}
