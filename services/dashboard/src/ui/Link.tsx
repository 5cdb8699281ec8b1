/** A link within the page: a plain click changes the address, any other is the browser's. */

import { memo, type MouseEvent, type ReactNode } from "react";

import { useWorld } from "../live/world";
import { batchAddress, go } from "../place";

export function Link(props: {
  to: string;
  children: ReactNode;
  className?: string;
  isCurrent?: boolean;
  testid?: string;
  /** Called when a plain click follows it. */
  onFollow?(): void;
}) {
  const follow = (event: MouseEvent): void => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
      return;
    event.preventDefault();
    props.onFollow?.();
    go(props.to);
  };
  return (
    <a
      href={props.to}
      className={props.className}
      aria-current={props.isCurrent ? "page" : undefined}
      data-testid={props.testid}
      onClick={follow}
    >
      {props.children}
    </a>
  );
}

/** The way to a batch; from a moment of the past to what it was then. */
export const BatchLink = memo(function BatchLink({ id }: { id: string }) {
  const { at } = useWorld();
  return (
    <Link to={batchAddress(id, at)} className="batch-link mono">
      {id}
    </Link>
  );
});
