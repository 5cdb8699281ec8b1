/** Whether the browser draws an element that has `content-visibility: auto`. */

import { useCallback, useState, type RefCallback } from "react";

const CHANGE = "contentvisibilityautostatechange";

/** True where the browser does not tell; with the ref that the element gets. */
export function useIsDrawn(): [isDrawn: boolean, ref: RefCallback<HTMLElement>] {
  const [isDrawn, setDrawn] = useState(true);
  const ref = useCallback((element: HTMLElement | null) => {
    const change = (event: Event): void =>
      setDrawn(!(event as ContentVisibilityAutoStateChangeEvent).skipped);
    element?.addEventListener(CHANGE, change);
    return () => element?.removeEventListener(CHANGE, change);
  }, []);
  return [isDrawn, ref];
}
